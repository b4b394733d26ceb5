"""A bundle's JSON files, read as data: references are followed, no code is run without trust.

MONAI's bundle language has references (``@name``, ``@name::0::key``), Python expressions (``$...``)
and text macros (``%...``). Here references are followed within their own file, and expressions of
plain values are read (``expressions.py``). All other expressions are refused by name, or evaluated
by MONAI where the user trusts the bundle (``trusted.py``), and only where the value is needed;
macros are refused. Names of number types, such as ``$np.float32``, are kept as they stand.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.networks.expressions import NotPlainError, plain_value
from unet_pipeline.storage.pointers import pointer_to
from unet_pipeline.storage.store import Store

_NUMBER_TYPE = re.compile(r"\$(np|numpy|torch)\.(float|int|uint)\d+")
_MISSING = object()
MOST_BYTES = 16 * 2**20  # of a JSON file
_MOST_VALUES = 200_000  # that references may unfold to
_HUGE = 2**63
NOT_OURS = frozenset({"device"})  # where things run is for us to say
WITH_TRUST = "or say --trust, which runs the bundle's own code, if you know where it comes from"


@dataclass(frozen=True)
class ConfigFile:
    """One JSON file of a bundle.

    Attributes
    ----------
    url
        Where it was read, for messages.
    content
        Its parsed content.
    evaluate
        Returns the plain value of the entry at a path by running it; None if that is not allowed.
    """

    url: str
    content: Mapping[str, Any]
    evaluate: Callable[[str], Any] | None = None
    _read: list[int] = field(default_factory=lambda: [0], repr=False, compare=False)

    @classmethod
    def read(
        cls, url: str, store: Store, evaluate: Callable[[str], Any] | None = None
    ) -> "ConfigFile":
        """Read a file of at most 16 MiB; otherwise as ``parse``."""
        try:
            data = store.read_at_most(url, MOST_BYTES)
        except CaseError as error:
            if error.code != "file_too_large":
                raise
            raise invalid(url, error.found, f"at most {MOST_BYTES // 2**20} MiB of JSON") from error
        if (pointer := pointer_to(data)) is not None:
            raise invalid(url, f"a pointer of {pointer[0]}: the file was not fetched", "JSON")
        return cls.parse(url, data, evaluate)

    @classmethod
    def parse(
        cls, url: str, data: bytes, evaluate: Callable[[str], Any] | None = None
    ) -> "ConfigFile":
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
        except RecursionError as error:
            raise invalid(url, "JSON within JSON a thousand times", "a JSON object") from error
        if not isinstance(content, dict):
            raise invalid(url, f"a JSON {type(content).__name__}", "a JSON object")
        return cls(url, content, evaluate)

    def has(self, path: str) -> bool:
        """Say whether there is an entry at ``path``, whatever its value."""
        try:
            return self._look_up(path) is not _MISSING
        except RequestError:  # an entry above it is code: it is for ``value`` to say so
            return True

    def value(self, path: str, default: Any = _MISSING) -> Any:
        """Return the plain value at ``path`` (parts separated by ``::``), references followed.

        Raises
        ------
        RequestError
            ``bundle_invalid`` if there is no such entry and no default, or if references go round
            in a circle; ``bundle_expression`` if the value holds an expression that may not be
            evaluated.
        """
        try:
            found = self._look_up(path)
            if found is _MISSING and default is _MISSING:
                raise invalid(self.url, f"no entry {path!r}", f"an entry {path!r}")
            return default if found is _MISSING else self._plain(found, path, ())
        except RecursionError as error:
            raise invalid(self.url, f"an endless entry {path!r}", "one that ends") from error

    def names(self, path: str) -> tuple[str, ...]:
        """Return the names in the object at ``path``, references to it followed.

        Raises
        ------
        RequestError
            ``bundle_invalid`` if there is no object.
        """
        found, trail = self._look_up(path), [path]
        while isinstance(found, str) and found.startswith("@") and found not in trail:
            trail.append(found)
            found = self._look_up(found[1:])
        if not isinstance(found, dict):
            raise invalid(self.url, f"no object {path!r}", "a component: names with values")
        return tuple(found)

    def _look_up(self, path: str) -> Any:
        here: Any = self.content
        parts = re.split("::|#", path)
        for index, part in enumerate(parts):
            if isinstance(here, str) and index:
                here = self._plain(here, "::".join(parts[:index]), (path,))
            if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
                here = here[int(part)]
            elif isinstance(here, dict) and part in here:
                here = here[part]
            else:
                return _MISSING
        return here

    def _plain(self, value: Any, where: str, trail: tuple[str, ...]) -> Any:
        self._read[0] += 1
        if self._read[0] > _MOST_VALUES:
            raise invalid(self.url, f"over {_MOST_VALUES:,} values", "what a network can use")
        if isinstance(value, dict):
            kept = {key: v for key, v in value.items() if key not in NOT_OURS}
            return {key: self._plain(v, f"{where}::{key}", trail) for key, v in kept.items()}
        if isinstance(value, list):
            return [self._plain(v, f"{where}::{i}", trail) for i, v in enumerate(value)]
        if isinstance(value, int | float) and not -_HUGE < value < _HUGE:  # also if it is no number
            raise invalid(self.url, f"a number without bounds in {where}", "a finite number")
        if not isinstance(value, str) or _NUMBER_TYPE.fullmatch(value):
            return value
        if value.startswith("$"):
            return self._evaluated(value, where, trail)
        if value.startswith("%"):
            raise self._refused(f"the text macro {value!r} in {where}", "")
        return self._follow(value[1:], where, trail) if value.startswith("@") else value

    def _evaluated(self, value: str, where: str, trail: tuple[str, ...]) -> Any:
        try:
            return plain_value(value[1:], lambda path: self._follow(path, where, trail))
        except NotPlainError as error:
            if self.evaluate is not None:
                return self.evaluate(where)
            raise self._refused(f"the expression {value!r} in {where}", WITH_TRUST) from error

    def _follow(self, name: str, where: str, trail: tuple[str, ...]) -> Any:
        found = _MISSING if name in trail else self._look_up(name)
        if found is _MISSING:
            wanted = "references to entries of the same file, without a circle"
            raise invalid(self.url, f"reference '@{name}' in {where}", wanted)
        return self._plain(found, re.sub("#", "::", name), (*trail, name))

    def _refused(self, found: str, otherwise: str) -> RequestError:
        remedy = "Write the value itself into the bundle's JSON file"
        return RequestError(
            "bundle_expression",
            found=found,
            wanted="a plain JSON value: expressions of a bundle are code, and are not evaluated",
            remedy=f"{remedy}, {otherwise}" if otherwise else remedy,
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
