"""Options of a bundle's transform, taken one by one; each has a kind and a range."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from unet_pipeline.errors import RequestError

_LARGEST = 1e12  # of intensities; float32 counts steps of 65536 there
_HUGE, _MOST_NUMBERS = 2**63, 256


class Options:
    """The options of one transform. What is not taken is left, to be refused by its name.

    Parameters
    ----------
    transform
        Name of the transform, for messages.
    values
        Its options, without those that say nothing about voxels.
    """

    def __init__(self, transform: str, values: dict[str, Any]) -> None:
        self.transform, self.left = transform, dict(values)

    def number(
        self, name: str, low: float = -_LARGEST, high: float = _LARGEST, **default: Any
    ) -> Any:
        """Return a number from ``low`` to ``high``, or ``default`` if there is none."""
        if self.left.get(name) is None and default:
            self.left.pop(name, None)
            return default["default"]
        return self._number(name, self._taken(name, default), low, high)

    def numbers(
        self, name: str, low: float = -_LARGEST, high: float = _LARGEST, **default: Any
    ) -> tuple[float, ...] | None:
        """Return one number or a list of them, as a tuple."""
        found = self._taken(name, default)
        if found is None and default:
            return None
        values = found if isinstance(found, list | tuple) else [found]
        if not 1 <= len(values) <= _MOST_NUMBERS:
            raise self.wrong(name, found, "a number, or one for each channel")
        return tuple(float(self._number(name, value, low, high)) for value in values)

    def whole(self, name: str, low: int, high: int, **default: Any) -> tuple[int, int, int]:
        """Return three whole numbers; of fewer, the last is repeated, as in MONAI."""
        x, y, z = self.three(name, low, high, **default)
        if (x, y, z) != (int(x), int(y), int(z)):
            raise self.wrong(name, (x, y, z), "whole numbers")
        return int(x), int(y), int(z)

    def three(
        self, name: str, low: float, high: float, **default: Any
    ) -> tuple[float, float, float]:
        """Return three numbers; of fewer, the last is repeated, as in MONAI."""
        found = self.numbers(name, low, high, **default) or ()
        if len(found) > 3:
            raise self.wrong(name, found, "a number, or three")
        x, y, z = (*found, *[found[-1]] * 2)[:3]
        return x, y, z

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a yes or no; bundles also write it as a text."""
        found = self.left.pop(name, default)
        if found not in (True, False, "True", "true", 0, 1):
            raise self.wrong(name, found, "true or false")
        return bool(found)

    def choice(self, name: str, choices: Sequence[Any], **default: Any) -> Any:
        """Return a value that is one of a few."""
        found = self._taken(name, default)
        if not any(found == one and type(found) is type(one) for one in choices):
            raise self.wrong(name, found, " or ".join(map(str, choices)))
        return found

    def entries(self, name: str) -> list[Any]:
        """Return a list of anything."""
        found = self._taken(name, {})
        if not isinstance(found, list):
            raise self.wrong(name, found, "a list")
        return found

    def wrong(self, name: str, found: Any, wanted: str) -> RequestError:
        """Return the error of an option that is not what it must be."""
        return unsupported(f"{self.transform} with {name}={brief(found)}", f"{name}: {wanted}")

    def _taken(self, name: str, default: dict[str, Any]) -> Any:
        if name not in self.left and "default" not in default:
            raise unsupported(f"{self.transform} without {name}", f"{self.transform} with it")
        return self.left.pop(name, default.get("default"))

    def _number(self, name: str, found: Any, low: float, high: float) -> Any:
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        if not is_number or abs(found) >= _HUGE or not isfinite(found):
            raise self.wrong(name, found, "a number")
        if not low <= found <= high:
            raise self.wrong(name, found, f"from {low:g} to {high:g}")
        return found


def brief(value: Any) -> str:
    """Return a value for a message; a long one is cut."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**18 else "a huge number"
    return text if len(text) <= 80 else f"{text[:77]}..."


def unsupported(found: str, wanted: str) -> RequestError:
    """Return the error of a preprocessing step that has no translation."""
    return RequestError(
        "transform_unsupported", found=f"preprocessing step {found}", wanted=wanted,
        remedy="Write the bundle's preprocessing with the supported transforms",
    )  # fmt: skip
