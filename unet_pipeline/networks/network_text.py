"""Networks as people write them: a name, a constructor's call, or JSON; nothing is run.

::

    UNet
    UNet(spatial_dims=3, channels=(16, 32, 64), strides=(2, 2), norm=Norm.BATCH)
    {"_target_": "UNet", "channels": [16, 32, 64], "strides": [2, 2]}
"""

import ast
import inspect
import json
from collections.abc import Mapping
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.registry import KNOWN, NAMES

_MOST_CHARACTERS = 20_000


def parse_network(text: str) -> dict[str, Any]:
    """Return the ``network_def`` that a text means, with the arguments that it gives.

    A call may name MONAI's choices (``Norm.BATCH``, ``Act.PRELU``); they are their names in lower
    case. Arguments without a name are those of the constructor, in its order.

    Raises
    ------
    RequestError
        ``network_unknown`` for a name that is not in the registry, ``network_invalid`` for a text
        that is none of the three.
    """
    text = text.strip()[:_MOST_CHARACTERS]
    try:
        if text.startswith("{"):
            found = json.loads(text)
            name, arguments = str(found.pop("_target_")), found
        else:
            name, arguments = _call(text)
    except RequestError:
        raise
    except (ValueError, KeyError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise RequestError(
            "network_invalid",
            found=f"{text[:80]!r}, which cannot be read ({_reason(error)})",
            wanted="a name, a call of plain values such as UNet(spatial_dims=3, channels=(16, 32), "
            "strides=(2,)), or a JSON object with _target_",
            remedy="Write the values themselves in the place of variables",
        ) from error
    return {"_target_": _known_name(name), **arguments}


def _call(text: str) -> tuple[str, dict[str, Any]]:
    node = ast.parse(text, mode="eval").body
    if not isinstance(node, ast.Call):
        return ast.unparse(node), {}
    name = ast.unparse(node.func)
    given = {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    if "None" in given:
        raise ValueError("** in a call")
    return name, {**_positional(name, [_value(one) for one in node.args]), **given}


def _positional(name: str, values: list[Any]) -> Mapping[str, Any]:
    names = list(inspect.signature(KNOWN[_known_name(name)].build).parameters)
    return dict(zip(names, values, strict=False))


def _value(node: ast.expr) -> Any:
    """Return a plain value, with lists for tuples, as JSON has it."""
    match node:
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner[:1].isupper():
            return name.lower()  # Norm.BATCH
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return [_value(part) for part in parts]
        case ast.Dict(keys=keys, values=values) if all(isinstance(k, ast.Constant) for k in keys):
            return {ast.literal_eval(k): _value(v) for k, v in zip(keys, values, strict=True) if k}
        case _:
            return ast.literal_eval(node)


def _known_name(name: str) -> str:
    short = name.strip("'\"").rpartition(".")[2]
    by_lower = {known.lower(): known for known in NAMES}
    if short.lower() not in by_lower:
        raise RequestError(
            "network_unknown",
            found=f"the network {short!r}",
            wanted=f"one of {', '.join(NAMES)}",
            remedy="A network of your own runs as a program (models/model.ts, models/model.pt2) or "
            "with its code in a bundle's scripts; both need --trust (docs/networks.md)",
        )
    return by_lower[short.lower()]


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0][:80] or type(error).__name__
