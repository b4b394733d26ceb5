"""How a plan is made: windows over the model grid, tiles over the native grid."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import ceil, prod

from unet_pipeline.clock import check_time
from unet_pipeline.tiling.box import Box, Index3, index3
from unet_pipeline.tiling.plan import SCORE_BYTES, SUM_BYTES, Seam, Tile, TilePlan
from unet_pipeline.tiling.seams import alone_along, inner_box
from unet_pipeline.tiling.window_order import Needs, native_axes_of, native_axis_of, order_of
from unet_pipeline.tiling.windows import Lattice, Placement, Starts, lattice

Span = tuple[int, int]  # the first model voxel along an axis, and the one after the last


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
        ``budget_bytes``; or all of them, if sums that are as thick as a window do so and a cut
        would keep as much at the same time, for windows that are large beside the volume reach
        into several small tiles.
    label_bytes
        Bytes of one label.
    """
    windows = lattice(model_shape, roi_size, overlap, placement)

    def plan_of(shape: Index3) -> TilePlan:
        tiles = _tiles_of(shape, native_shape, needs, windows, roi_size)
        return TilePlan(native_shape, model_shape, roi_size, channels, classes, tiles, label_bytes)

    if tile_shape is not None:
        return _with_order(plan_of(tile_shape), needs)
    voxels = voxels_within(budget_bytes, channels, classes)
    *_, shape = _shapes_within(voxels, native_shape, needs, roi_size)
    within = plan_of(shape)
    if within.n_tiles > 1 and _alive(whole := plan_of(native_shape)) <= _alive(within):
        streamed = _with_order(whole, needs)
        if streamed.peak_bytes_per_tile <= budget_bytes:
            return streamed
    return _with_order(within, needs)


def voxels_within(budget_bytes: int, channels: int, classes: int) -> int:
    """Return how many model voxels a budget has room for: input, weights, sums of all classes."""
    return budget_bytes // ((classes + 1) * SUM_BYTES + channels * SCORE_BYTES)


def covered(native_shape: Index3, needs: Needs, roi_size: Index3) -> int:
    """Return how many model voxels the windows of a volume of one tile cover."""
    whole = needs(Box.whole(native_shape)).shape
    return _cover(whole, whole, roi_size)


def _alive(plan: TilePlan) -> int:
    """Return the bytes of the tiles, as if each were needed until its last target is merged.

    A plan in which that is as much as the whole volume has windows that are large beside its tiles.
    """
    peak = alive = 0
    for step in plan.schedule():
        alive += plan.bytes_of(step.tile)
        peak = max(peak, alive)
        alive -= sum(plan.bytes_of(plan.tiles[index]) for index in step.freed)
    return peak


def _with_order(plan: TilePlan, needs: Needs) -> TilePlan:
    """Give a tile that is alone the order of its windows."""
    (tile, *others) = plan.tiles
    if others or not tile.windows:
        return plan
    order = order_of(tile.write_box, tile.windows, plan.roi_size, needs)
    return replace(plan, tiles=(replace(tile, order=order),))


def _tiles_of(
    shape: Index3, native_shape: Index3, needs: Needs, windows: Lattice, roi_size: Index3
) -> tuple[Tile, ...]:
    """Cut the native grid into tiles of a shape, and share the windows between them.

    Windows are shared axis by axis, so that nothing here grows with their number: along each axis
    of the model grid, a window belongs to those tiles that it overlaps most, the first of them at
    ties. Where the axes of both grids are parallel, that is the tile that it overlaps most at all.
    """
    whole = Box.whole(native_shape)
    write_boxes = [*whole.blocks(shape)]
    counts = index3(ceil(n / step) for n, step in zip(native_shape, shape, strict=True))
    places = [*product(*map(range, counts))]  # of the tiles: their index along each native axis
    score_boxes = []
    for box in write_boxes:
        check_time()
        score_boxes.append(needs(box))
    axes = native_axes_of(whole, needs)
    owners = [
        _owners(starts, roi_size[m], _spans(m, a, counts[a], places, score_boxes))
        for m, (a, starts) in enumerate(zip(axes, windows.axes, strict=True))
    ]
    parts = [
        [_owned_by(index, starts, owner) for index in range(counts[a])]
        for a, starts, owner in zip(axes, windows.axes, owners, strict=True)
    ]
    tiles = []
    for index, (place, write_box, score_box) in enumerate(
        zip(places, write_boxes, score_boxes, strict=True)
    ):
        check_time()
        x, y, z = (part[place[a]] for a, part in zip(axes, parts, strict=True))
        reaching = windows.reaching(score_box, roi_size)
        sources = _sources(reaching, windows, owners, axes, counts)
        own = Lattice((x, y, z))
        inner = inner_box(write_box, score_box, alone_along(own, windows, roi_size), axes, needs)
        seams = tuple(Seam(box, needs(box)) for box in write_box.without(inner) if box.size)
        tiles.append(Tile(index, write_box, score_box, own, sources, inner, seams))
    return tuple(tiles)


def _spans(
    axis: int,
    native_axis: int,
    count: int,
    places: Sequence[Sequence[int]],
    score_boxes: Sequence[Box],
) -> list[Span]:
    """Return what the tiles at each place along a native axis need of a model axis."""
    spans: list[Span] = [(0, 0)] * count
    for place, box in zip(places, score_boxes, strict=True):
        if box.size:
            low, high = spans[place[native_axis]]
            start, stop = box.start[axis], box.stop[axis]
            joined = (min(low, start), max(high, stop)) if low < high else (start, stop)
            spans[place[native_axis]] = joined
    return spans


def _owners(starts: Starts, roi: int, spans: Sequence[Span]) -> list[int]:
    """Return whose each window along an axis is: the span that it overlaps most; -1 for none."""
    owners = []
    for start in starts:
        common = [min(start + roi, high) - max(start, low) for low, high in spans]
        most = max(common)
        owners.append(common.index(most) if most > 0 else -1)
    return owners


def _owned_by(index: int, starts: Starts, owners: Sequence[int]) -> Starts:
    return tuple(start for start, owner in zip(starts, owners, strict=True) if owner == index)


def _sources(
    reaching: Lattice,
    windows: Lattice,
    owners: Sequence[Sequence[int]],
    axes: Index3,
    counts: Index3,
) -> tuple[int, ...]:
    """Return the indices of the tiles that own windows which reach into a score box, in order."""
    along: list[list[int]] = [[], [], []]  # indices along each native axis
    for native_axis, part, starts, owner in zip(
        axes, reaching.axes, windows.axes, owners, strict=True
    ):
        first = bisect_left(starts, part[0]) if part else 0
        along[native_axis] = sorted({*owner[first : first + len(part)]} - {-1})
    _, y, z = counts
    return tuple((i * y + j) * z + k for i, j, k in product(*along))


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
