"""A box of voxels: half-open ranges along three axes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from math import prod

Index3 = tuple[int, int, int]


@dataclass(frozen=True)
class Box:
    """The voxels ``start <= index < stop`` of some grid.

    ``start`` may be negative and ``stop`` may pass the end of the grid: a window that is larger
    than its volume hangs over both ends.
    """

    start: Index3
    stop: Index3

    def __post_init__(self) -> None:
        if any(a > b for a, b in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"Box start {self.start} must not be past its stop {self.stop}")

    @classmethod
    def whole(cls, shape: Iterable[int]) -> "Box":
        """Return the box of all voxels of a grid of this ``shape``."""
        return cls((0, 0, 0), index3(shape))

    @classmethod
    def at(cls, start: Iterable[int], shape: Iterable[int]) -> "Box":
        """Return the box of this ``shape`` that begins at ``start``."""
        begin = index3(start)
        return cls(begin, index3(a + n for a, n in zip(begin, shape, strict=True)))

    @classmethod
    def of(cls, part: Iterable[slice]) -> "Box":
        """Return what slices cut out of an array; none of them is open."""
        cuts = tuple(part)
        return cls(index3(cut.start for cut in cuts), index3(cut.stop for cut in cuts))

    @property
    def shape(self) -> Index3:
        """Number of voxels along each axis."""
        return index3(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return prod(self.shape)

    def intersect(self, other: "Box") -> "Box":
        """Return the voxels that both boxes have; of size 0 if there are none."""
        start = index3(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = index3(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        if any(a >= b for a, b in zip(start, stop, strict=True)):
            return Box(start, start)
        return Box(start, stop)

    def union(self, other: "Box") -> "Box":
        """Return the smallest box that holds both."""
        return Box(
            index3(min(a, b) for a, b in zip(self.start, other.start, strict=True)),
            index3(max(a, b) for a, b in zip(self.stop, other.stop, strict=True)),
        )

    def shifted(self, by: Iterable[int]) -> "Box":
        """Return the box moved by this many voxels along each axis."""
        return Box.at((a + d for a, d in zip(self.start, by, strict=True)), self.shape)

    def between(self, axis: int, low: int, high: int) -> "Box":
        """Return the voxels ``low <= index < high`` along an axis; of size 0 if there are none."""
        start, stop = list(self.start), list(self.stop)
        start[axis] = min(max(low, self.start[axis]), self.stop[axis])
        stop[axis] = max(min(high, self.stop[axis]), start[axis])
        return Box(index3(start), index3(stop))

    def without(self, inner: "Box") -> Iterator["Box"]:
        """Cut what lies in this box and not in ``inner`` into at most six boxes."""
        rest, common = self, self.intersect(inner)
        if not common.size:
            yield self
            return
        for axis in range(3):
            yield rest.between(axis, rest.start[axis], common.start[axis])
            yield rest.between(axis, common.stop[axis], rest.stop[axis])
            rest = rest.between(axis, common.start[axis], common.stop[axis])

    def blocks(self, shape: Index3) -> Iterator["Box"]:
        """Cut the box into boxes of this shape, smaller ones at its end."""
        axes = zip(self.start, self.stop, shape, strict=True)
        for start in product(*(range(a, b, step) for a, b, step in axes)):
            yield Box.at(start, shape).intersect(self)

    def within(self, outer: "Box") -> tuple[slice, slice, slice]:
        """Return the slices that cut this box out of an array that covers ``outer``."""
        x, y, z = (
            slice(a - f, b - f) for a, b, f in zip(self.start, self.stop, outer.start, strict=True)
        )
        return x, y, z


def index3(values: Iterable[int]) -> Index3:
    """Return three whole numbers as a tuple of that type."""
    x, y, z = (int(value) for value in values)
    return x, y, z
