"""How a plan is made: windows over the model grid, tiles over the native grid."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import ceil, prod

import numpy as np

from unet_pipeline.tiling.box import Box, Index3, index3
from unet_pipeline.tiling.course import Needs, course_of, native_axis_of
from unet_pipeline.tiling.plan import SCORE_BYTES, SUM_BYTES, Tile, TilePlan
from unet_pipeline.tiling.windows import Placement, window_starts


def make_plan(
    *,
    native_shape: Index3,
    model_shape: Index3,
    needs: Needs,
    roi_size: Index3,
    overlap: float,
    channels: int,
    classes: int,
    placement: Placement = "packed",
    tile_shape: Index3 | None = None,
    budget_bytes: int = 2_000_000_000,
    label_bytes: int = 1,
) -> TilePlan:
    """Lay windows over the model grid and tiles over the native grid.

    Parameters
    ----------
    needs
        Maps a box of native voxels to the box of model voxels whose scores decide its labels.
    overlap
        Share of a window that overlaps the next one, 0 <= overlap < 1; the least share for
        windows placed evenly.
    placement
        As in ``window_starts``.
    tile_shape
        Native voxels of a write box. By default the largest whose scores stay within
        ``budget_bytes``; or a larger one if that keeps no more of them at the same time, for
        windows that are large beside the volume reach into several small tiles.
    label_bytes
        Bytes of one label.
    """
    axes = [
        window_starts(n, r, overlap, placement) for n, r in zip(model_shape, roi_size, strict=True)
    ]
    starts: list[Index3] = [(x, y, z) for x, y, z in product(*axes)]

    def plan_of(shape: Index3) -> TilePlan:
        tiles = _tiles_of(shape, native_shape, needs, starts, roi_size)
        return TilePlan(native_shape, model_shape, roi_size, channels, classes, tiles, label_bytes)

    if tile_shape is not None:
        return _with_course(plan_of(tile_shape), needs)
    voxels = budget_bytes // (classes * SUM_BYTES + channels * SCORE_BYTES)
    shapes = _shapes_within(voxels, native_shape, needs, roi_size)
    *larger, within = [plan_of(shape) for shape in shapes]
    plan = next((plan for plan in larger if plan.peak_bytes <= within.peak_bytes), within)
    return _with_course(plan, needs)


def _with_course(plan: TilePlan, needs: Needs) -> TilePlan:
    """Give a tile that is alone its course."""
    (tile, *others) = plan.tiles
    if others or not tile.windows:
        return plan
    course = course_of(tile.write_box, tile.windows, plan.roi_size, needs)
    return replace(plan, tiles=(replace(tile, course=course),))


def _tiles_of(
    shape: Index3,
    native_shape: Index3,
    needs: Needs,
    starts: Sequence[Index3],
    roi_size: Index3,
) -> tuple[Tile, ...]:
    """Cut the native grid into tiles of a shape, and share the windows between them."""
    write_boxes = list(Box.whole(native_shape).blocks(shape))
    score_boxes = [needs(box) for box in write_boxes]
    owner, touches = _assign(starts, roi_size, score_boxes)
    tiles = []
    for index, (write_box, score_box) in enumerate(zip(write_boxes, score_boxes, strict=True)):
        windows = tuple(starts[int(i)] for i in np.flatnonzero(owner == index))
        sources = tuple(int(i) for i in np.unique(owner[touches[index]]))
        tiles.append(Tile(index, write_box, score_box, windows, sources))
    return tuple(tiles)


def _assign(
    starts: Sequence[Index3], roi_size: Index3, score_boxes: Sequence[Box]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the owner of each window (-1: none) and, per tile, the windows that reach into it."""
    start_w3 = np.array(starts, dtype=np.int64)
    stop_w3 = start_w3 + np.array(roi_size)
    best = np.zeros(len(starts), dtype=np.int64)
    owner = np.full(len(starts), -1)
    touches = []
    for index, box in enumerate(score_boxes):
        common_w3 = np.minimum(stop_w3, box.stop) - np.maximum(start_w3, box.start)
        common = np.clip(common_w3, 0, None).prod(axis=1)
        touches.append(np.flatnonzero(common))
        better = common > best
        owner[better], best[better] = index, common[better]
    return owner, touches


def _shapes_within(
    voxels: int, native_shape: Index3, needs: Needs, roi_size: Index3
) -> Iterator[Index3]:
    """Halve the tile until its windows cover at most ``voxels``; yield each shape on the way.

    It is halved along the axis that has the most windows until it is as thin as a window there,
    and only then along the next: fewer tiles wait for each other between slabs than between cubes.
    """
    shape = list(native_shape)
    whole = needs(Box.whole(shape)).shape
    yield native_shape
    for axis in sorted(range(3), key=lambda a: whole[a] / roi_size[a], reverse=True):
        native_axis = native_axis_of(axis, Box.whole(shape), needs)
        while True:
            scores = needs(Box.whole(shape)).shape
            if _cover(scores, whole, roi_size) <= voxels:
                return
            if scores[axis] <= roi_size[axis] or shape[native_axis] == 1:
                break
            shape[native_axis] = ceil(shape[native_axis] / 2)
            yield index3(shape)


def _cover(scores: Index3, whole: Index3, roi_size: Index3) -> int:
    """Return how many voxels the windows of a tile cover at most: no more than the volume's."""
    lengths = [
        max(n, r) if n == of_whole else n + r
        for n, of_whole, r in zip(scores, whole, roi_size, strict=True)
    ]
    return prod(lengths)
