"""Which part of a tile its own windows decide, and which part waits for windows of its neighbours.

::

    windows of tile 0   [   a   ]
                            [   b   ]
    windows of tile 1           [   c   ]
    tile 0              |-------:-- |              inner, up to where c begins; then a seam
    tile 1                          |-:-----|      a seam, up to where b ends; then inner
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import product

from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.tiling.window_order import Needs
from unet_pipeline.tiling.windows import Lattice, Starts

Span = tuple[float, float]  # model voxels along an axis, from the first to the one after the last


def alone_along(own: Lattice, windows: Lattice, roi_size: Index3) -> tuple[Span, ...]:
    """Return where along each model axis no window of another tile lies; all of it without one.

    Parameters
    ----------
    own, windows
        Those of a tile, and of all tiles.
    """
    axes = zip(own.axes, windows.axes, roi_size, strict=True)
    return tuple(_alone(starts, every, roi) for starts, every, roi in axes)


def inner_box(
    write_box: Box, score_box: Box, alone: Sequence[Span], axes: Index3, needs: Needs
) -> Box:
    """Return the native voxels of a tile that need only its own windows.

    Where axes are oblique it may be smaller than it could be, or empty.

    Parameters
    ----------
    score_box
        What ``write_box`` needs.
    alone
        Where along each model axis no other window lies.
    axes
        For each model axis the native axis that runs along it.
    """
    nothing = Box(write_box.start, write_box.start)
    if not score_box.size:
        return nothing
    inner = write_box
    for (axis, native), from_its_end in product(enumerate(axes), (False, True)):
        inner = _peeled(inner, axis, native, alone[axis], needs, from_its_end=from_its_end)
    return inner if inner.size and _lies_in(needs(inner), alone) else nothing


def _alone(own: Starts, every: Starts, roi: int) -> Span:
    if not own:
        return 0.0, 0.0
    first, last = bisect_left(every, own[0]), bisect_left(every, own[-1])
    low = every[first - 1] + roi if first else float("-inf")
    high = every[last + 1] if last + 1 < len(every) else float("inf")
    return low, max(low, high)


def _peeled(
    box: Box, axis: int, native: int, span: Span, needs: Needs, *, from_its_end: bool
) -> Box:
    """Take away the fewest native slices at one end, after which no more of them help."""

    def rest(count: int) -> Box:
        start, stop = box.start[native], box.stop[native]
        low, high = (start, stop - count) if from_its_end else (start + count, stop)
        return box.between(native, low, high)

    def beyond(count: int) -> tuple[float, float]:
        needed = needs(rest(count)) if count < box.shape[native] else None
        if needed is None or not needed.size:
            return 0.0, 0.0
        return max(span[0] - needed.start[axis], 0.0), max(needed.stop[axis] - span[1], 0.0)

    length = box.shape[native]
    before = beyond(0)
    after = beyond(length - 1) if any(before) else before
    end = 0 if after[0] < before[0] else 1  # of the model axis: slices here reach beyond this one
    if before == after:
        return box
    return rest(bisect_left(range(length + 1), True, key=lambda count: beyond(count)[end] <= 0))


def _lies_in(box: Box, spans: Sequence[Span]) -> bool:
    sides = zip(box.start, box.stop, spans, strict=True)
    return bool(box.size) and all(low <= a and b <= high for a, b, (low, high) in sides)
