"""Plain expressions of bundle files, such as ``$[1.5, 1.5, 1.5] if @highres else [3.0, 3.0, 3.0]``.

Numbers, texts, lists, comparisons, conditions and sums are read as what they say. There are no
calls, no attributes and no names, so nothing of a bundle is ever run.
"""

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

_REFERENCE = re.compile(r"@(?P<path>[A-Za-z_][\w]*(?:(?:::|#)\w+)*)")
_MOST_CHARACTERS = 1000
_UNREADABLE = (
    SyntaxError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError, MemoryError,
)  # fmt: skip
_LARGEST = 2**64  # whole numbers could be squared, and squared again, without end
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class NotPlainError(ValueError):
    """An expression that is more than plain values."""


def plain_value(expression: str, look_up: Callable[[str], Any]) -> Any:
    """Return the value of an expression (without its ``$``).

    Parameters
    ----------
    look_up
        Returns the plain value that a reference ``@path`` means.

    Raises
    ------
    NotPlainError
        For calls, attributes, names and all else that could run code.
    """
    if len(expression) > _MOST_CHARACTERS:
        raise NotPlainError(expression[:40])
    paths: list[str] = []

    def placeholder(found: re.Match[str]) -> str:
        paths.append(found["path"])
        return f"_reference_{len(paths) - 1}_"

    try:
        tree = ast.parse(_REFERENCE.sub(placeholder, expression).strip(), mode="eval")
        names = {f"_reference_{index}_": path for index, path in enumerate(paths)}
        return _value(tree.body, lambda name: look_up(names[name]))
    except _UNREADABLE as error:
        raise NotPlainError(expression) from error


def _value(node: ast.expr, look_up: Callable[[str], Any]) -> Any:
    def value(inner: ast.expr) -> Any:
        return _value(inner, look_up)

    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return node.value
        case ast.Name():
            return look_up(node.id)
        case ast.List() | ast.Tuple():
            return [value(item) for item in node.elts]
        case ast.IfExp():
            return value(node.body) if value(node.test) else value(node.orelse)
        case ast.UnaryOp(op=ast.USub()):
            return -_number(value(node.operand))
        case ast.UnaryOp(op=ast.Not()):
            return not value(node.operand)
        case ast.BinOp() if type(node.op) in _BINARY:
            left, right = _number(value(node.left)), _number(value(node.right))
            return _BINARY[type(node.op)](left, right)
        case ast.Compare(ops=[op]) if type(op) in _COMPARE:
            return _COMPARE[type(op)](value(node.left), value(node.comparators[0]))
        case ast.BoolOp():
            together = all if isinstance(node.op, ast.And) else any
            return together(value(item) for item in node.values)
    raise NotPlainError(ast.dump(node)[:80])


def _number(value: Any) -> float:
    """Return a number; texts, lists and whole numbers could be made long without end."""
    if not isinstance(value, int | float) or abs(value) > _LARGEST:
        raise TypeError(type(value).__name__)
    return value
