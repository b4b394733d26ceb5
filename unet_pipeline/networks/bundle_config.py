"""A bundle's JSON files, read as data: references are followed, expressions are never evaluated.

MONAI's bundle language has references (``@name``, ``@name::0::key``), Python expressions (``$...``)
and text macros (``%...``). Here references are followed within their own file, and expressions of
plain values are read (``expressions.py``). All other expressions and macros are refused by name,
and only where the value is needed. Names of number types, such as ``$np.float32``, are kept as
they stand.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.expressions import NotPlainError, plain_value

_NUMBER_TYPE = re.compile(r"\$(np|numpy|torch)\.(float|int|uint)\d+")
_MISSING = object()
_NOT_OURS = frozenset({"device"})  # where things run is for us to say


@dataclass(frozen=True)
class ConfigFile:
    """One JSON file of a bundle.

    Attributes
    ----------
    url
        Where it was read, for messages.
    content
        Its parsed content.
    """

    url: str
    content: Mapping[str, Any]

    @classmethod
    def parse(cls, url: str, data: bytes) -> "ConfigFile":
        """Parse JSON.

        Raises
        ------
        RequestError
            ``bundle_invalid`` if ``data`` is not a JSON object.
        """
        try:
            content = json.loads(data)
        except ValueError as error:
            raise invalid(url, f"text that is not JSON ({error})", "a JSON object") from error
        if not isinstance(content, dict):
            raise invalid(url, f"a JSON {type(content).__name__}", "a JSON object")
        return cls(url, content)

    def value(self, path: str, default: Any = _MISSING) -> Any:
        """Return the plain value at ``path`` (parts separated by ``::``), references followed.

        Raises
        ------
        RequestError
            ``bundle_invalid`` if there is no such entry and no default, or if references go round
            in a circle; ``bundle_expression`` if the value holds an expression.
        """
        found = self._look_up(path)
        if found is _MISSING and default is _MISSING:
            raise invalid(self.url, f"no entry {path!r}", f"an entry {path!r}")
        return default if found is _MISSING else self._plain(found, path, ())

    def _look_up(self, path: str) -> Any:
        here: Any = self.content
        for index, part in enumerate(re.split("::|#", path)):
            if isinstance(here, str) and index:
                here = self._plain(here, path, (path,))
            if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
                here = here[int(part)]
            elif isinstance(here, dict) and part in here:
                here = here[part]
            else:
                return _MISSING
        return here

    def _plain(self, value: Any, where: str, trail: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            kept = {key: v for key, v in value.items() if key not in _NOT_OURS}
            return {key: self._plain(v, f"{where}::{key}", trail) for key, v in kept.items()}
        if isinstance(value, list):
            return [self._plain(v, f"{where}::{i}", trail) for i, v in enumerate(value)]
        if not isinstance(value, str) or _NUMBER_TYPE.fullmatch(value):
            return value
        if value.startswith("$"):
            return self._evaluated(value, where, trail)
        if value.startswith("%"):
            raise self._expression(value, where)
        return self._follow(value[1:], where, trail) if value.startswith("@") else value

    def _evaluated(self, value: str, where: str, trail: tuple[str, ...]) -> Any:
        try:
            return plain_value(value[1:], lambda path: self._follow(path, where, trail))
        except NotPlainError as error:
            raise self._expression(value, where) from error

    def _follow(self, name: str, where: str, trail: tuple[str, ...]) -> Any:
        found = _MISSING if name in trail else self._look_up(name)
        if found is _MISSING:
            wanted = "references to entries of the same file, without a circle"
            raise invalid(self.url, f"reference '@{name}' in {where}", wanted)
        return self._plain(found, where, (*trail, name))

    def _expression(self, value: str, where: str) -> RequestError:
        return RequestError(
            "bundle_expression",
            found=f"the expression {value!r} in {where}",
            wanted="a plain JSON value: expressions of a bundle are code, and are not evaluated",
            remedy="Write the value itself into the bundle's JSON file",
            subject=self.url,
        )


def invalid(url: str, found: str, wanted: str) -> RequestError:
    """Return the error of a bundle whose files do not make sense."""
    return RequestError(
        "bundle_invalid",
        found=found,
        wanted=wanted,
        remedy="Correct the bundle; unet_pipeline/bundles/phantom in the package is an example",
        subject=url,
    )
