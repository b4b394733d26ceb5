"""Other ways for a mask to lie on its image: axes exchanged, flipped, shifted."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SHIFTS = (2, 3, 5, 8, 12)
_AXIS_NAMES = {"L": "left-right", "P": "front-back", "I": "head-feet"}
_PAIRS = {"L": "LR", "P": "PA", "I": "IS"}


@dataclass(frozen=True)
class Alternative:
    """Another way for a mask to lie: axes exchanged, flipped, then shifted (thinned voxels)."""

    shape: tuple[int, ...]
    axes: tuple[int, ...] = (0, 1, 2)
    flips: tuple[int, ...] = ()
    shift: tuple[int, ...] = (0, 0, 0)

    def points(self, points: Array) -> Array:
        """Return where boundary voxels, shape (N, 3), would lie."""
        moved = points[:, self.axes]
        for axis in self.flips:
            moved[:, axis] = self.shape[axis] - 1 - moved[:, axis]
        return np.asarray(moved + np.array(self.shift))

    def mask(self, labels_XYZ: Array, background: int) -> Array:
        """Return the mask as it would lie; what comes in from outside is background."""
        moved = np.flip(labels_XYZ.transpose(self.axes), self.flips)
        if not any(self.shift):
            return moved
        result = np.full_like(moved, max(background, 0))
        into = tuple(slice(max(s, 0), min(s, 0) or None) for s in self.shift)
        from_ = tuple(slice(max(-s, 0), min(-s, 0) or None) for s in self.shift)
        result[into] = moved[from_]
        return result

    def describe(
        self, steps: Sequence[int], spacing_mm: Sequence[float], axcodes: Sequence[str]
    ) -> tuple[str, float | None]:
        """Return the alternative in words, and its distance in mm if it is a shift alone."""
        if self.axes != (0, 1, 2):
            a, b = (i for i in range(3) if self.axes[i] != i)
            return f"transposed, axes {a + 1} and {b + 1} exchanged", None
        if self.flips:
            (axis,) = self.flips
            return f"flipped along axis {axis + 1} ({_direction(axcodes[axis])})", None
        voxels = [s * step for s, step in zip(self.shift, steps, strict=True)]
        mm = math.hypot(*(v * s for v, s in zip(voxels, spacing_mm, strict=True)))
        by = ", ".join(f"{v:+d}" if v else "0" for v in voxels)
        return f"shifted by ({by}) voxels, {mm:.3g} mm", mm


def alternatives(shape: tuple[int, ...]) -> Iterator[Alternative]:
    """Yield the mask flipped, with axes of one length exchanged, and shifted along each axis."""
    for axis in range(3):
        yield Alternative(shape, flips=(axis,))
    for axes in ((1, 0, 2), (0, 2, 1), (2, 1, 0)):
        if tuple(shape[axis] for axis in axes) == shape:
            yield Alternative(shape, axes=axes)
    for axis in range(3):
        for voxels in SHIFTS:
            if voxels < shape[axis] / 2:
                for sign in (1, -1):
                    yield Alternative(shape, shift=along(axis, sign * voxels))


def along(axis: int, voxels: int) -> tuple[int, int, int]:
    """Return a shift along one axis."""
    shift = [0, 0, 0]
    shift[axis] = voxels
    return shift[0], shift[1], shift[2]


def _direction(letter: str) -> str:
    return next(name for key, name in _AXIS_NAMES.items() if letter in _PAIRS[key])
