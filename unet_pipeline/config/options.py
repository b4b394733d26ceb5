"""How a field of settings stands on a command line: what is generated from it, and exceptions."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import reduce
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


@dataclass(frozen=True)
class Option:
    """What a field's annotation may say of its option, or of the options of all fields below it.

    Attributes
    ----------
    name
        Of the option, without dashes. Default: the field's.
    metavar
        What stands for its value. Default: by its type.
    panel
        Of ``--help``, and the group of the form that it is folded in. Default: the title of the
        part that the field is in; in the form, none.
    argument
        It is given by its place and without a name.
    repeat
        A list whose values may hold commas: the option is given once for each.
    rename
        Options of fields below, by the fields' names.
    """

    name: str | None = None
    metavar: str | None = None
    panel: str | None = None
    argument: bool = False
    repeat: bool = False
    rename: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Setting:
    """One value of a request, and how it is asked for.

    Attributes
    ----------
    path
        Names of the fields that lead to it.
    option
        Its option, without dashes.
    kind
        Its type, without None.
    default
        ``PydanticUndefined`` for one that must be given.
    """

    path: tuple[str, ...]
    option: str
    kind: Any
    default: Any
    help: str
    metavar: str
    panel: str | None
    argument: bool
    repeat: bool

    @property
    def key(self) -> str:
        """Where it stands in a settings file."""
        return ".".join(self.path)

    @property
    def is_required(self) -> bool:
        """Whether it must be given."""
        return self.default is PydanticUndefined

    @property
    def is_flag(self) -> bool:
        """Whether its option takes no value."""
        return self.kind is bool

    @property
    def is_list(self) -> bool:
        """Whether it is several values."""
        return get_origin(self.kind) is tuple

    @property
    def length(self) -> int | None:
        """How many values it has; None for one, or for any number."""
        return len(get_args(self.kind)) if self.is_list and ... not in get_args(self.kind) else None

    @property
    def spelled_default(self) -> str | None:
        """The default as it would be typed; None for none."""
        if self.is_required or self.default is None or self.default == ():
            return None
        return spelled(self.default)

    def of(self, settings: BaseModel) -> Any:
        """Return its value in a request."""
        return reduce(getattr, self.path, settings)

    def typed(self, value: Any) -> list[str]:
        """Return what to type on a command line for a value, quoted."""
        if self.is_flag:
            return [f"--{'' if value else 'no-'}{self.option}"]
        values = value if self.repeat else [value]
        return [f"--{self.option} {shlex.quote(spelled(one))}" for one in values]

    def taken(self, value: Any) -> Any:
        """Return what the settings take for a text, or for a value of a settings file."""
        if self.is_list and isinstance(value, str):
            return tuple(part.strip() for part in value.split(",")) if value else ()
        if self.kind is str and isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        return value


def spelled(value: Any) -> str:
    """Return a value as it is typed: lists with commas."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def settings_in(model: type[BaseModel]) -> tuple[Setting, ...]:
    """Return all values of a settings model, parts taken apart, in the order of its fields."""
    return tuple(_settings(model, (), None, Option()))


def _settings(
    model: type[BaseModel], path: tuple[str, ...], filled: Any, above: Option
) -> Iterator[Setting]:
    for name, one in model.model_fields.items():
        kind, said = _type_of(one.annotation), said_of(one)
        default = one.default if filled is None else getattr(filled, name)
        panel = said.panel or above.panel
        if part := part_of(one):
            values = None if default is PydanticUndefined else default
            below = Option(panel=panel or part.model_config.get("title"), rename=said.rename)
            yield from _settings(part, (*path, name), values, below)
            continue
        option = above.rename.get(name) or said.name or name.replace("_", "-")
        yield Setting(
            path=(*path, name),
            option=option,
            kind=kind,
            default=default,
            help=one.description or "",
            metavar=option.upper() if said.argument else said.metavar or _metavar(kind, one),
            panel=panel,
            argument=said.argument,
            repeat=said.repeat,
        )


def _type_of(annotation: Any) -> Any:
    """Return a type without None and without what is annotated."""
    if get_origin(annotation) is Annotated:
        return _type_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        (kind,) = [one for one in get_args(annotation) if one is not type(None)]
        return _type_of(kind)
    return annotation


def part_of(one: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that is a part of a request; None for a value."""
    kind = _type_of(one.annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def said_of(one: FieldInfo) -> Option:
    """Return what a field's annotations say together; what stands further out counts."""
    found = [said for said in [*_inside(one.annotation), *one.metadata] if isinstance(said, Option)]
    values: dict[str, Any] = {}
    for said in found:
        values |= {f.name: value for f in fields(said) if (value := getattr(said, f.name))}
    return Option(**values)


def _inside(annotation: Any) -> Iterator[Any]:
    """Yield what annotates a type that may also be None."""
    if get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _inside(one)
    elif get_origin(annotation) is Annotated:
        yield from get_args(annotation)[1:]


def _metavar(kind: Any, one: FieldInfo) -> str:
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        values = get_args(kind)
        if ... not in values:
            return "X,Y,Z" if len(values) == 3 else "A,B"
        return "A,B,..." if _type_of(values[0]) is str else "N,N,..."
    if kind in (int, float):
        return _range("N" if kind is int else "X", one)
    return "TEXT"


def _range(name: str, one: FieldInfo) -> str:
    """Return the values that a number may have, such as ``0<=X<1``."""
    low: tuple[Any, str] | None = None
    high = ""
    for bound in one.metadata:
        match bound:
            case Ge(ge):
                low = (ge, "=")
            case Gt(gt):
                low = (gt, "")
            case Le(le):
                high = f"<={le:g}"
            case Lt(lt):
                high = f"<{lt:g}"
    if low is None:
        return f"{name}{high}"
    value, equal = low
    return f"{value:g}<{equal}{name}{high}" if high else f"{name}>{equal}{value:g}"
