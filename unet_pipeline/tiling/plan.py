"""Windows, tiles, and who hands what to whom: a plan that can be printed before anything runs.

Two grids. *Native* voxels are those of the file; *model* voxels are those that the network sees
(another orientation and spacing). A tile owns a box of each::

    native grid   |----- write box 0 -----|----- write box 1 -----|     a partition
    model grid    |---- score box 0 ------|                             what it takes to decide the
                                        |------ score box 1 -----|      labels of the write box

Windows lie on the model grid, where MONAI or nnU-Net would place them (``window_starts``). Each
belongs to the tile that it overlaps most, and is evaluated once, there::

    windows       [   a   ]
                      [   b   ]
                          [   c   ]          b reaches into both score boxes: it is evaluated
                              [   d   ]      by tile 0, which hands a *partial* to tile 1

The plan says for each tile from whom its partials come (``sources``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil, prod
from typing import Any, Literal

import numpy as np

from unet_pipeline.tiling.box import Box, Index3, index3

Placement = Literal["packed", "evenly"]
SUM_BYTES = 8  # one fixed-point score
SCORE_BYTES = 4  # one float32 score or voxel


@dataclass(frozen=True)
class Tile:
    """One unit of fan-out.

    Attributes
    ----------
    write_box
        Native voxels that the tile owns. The write boxes of a plan partition the volume.
    score_box
        Model voxels whose scores decide the labels of the write box. Empty if there are none.
    windows
        First model voxel of each window that this tile evaluates.
    sources
        Indices of the tiles, itself included, whose windows reach into ``score_box``.
    """

    index: int
    write_box: Box
    score_box: Box
    windows: tuple[Index3, ...]
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Turn:
    """What happens when the windows of one tile are evaluated, in the order of the tiles.

    Attributes
    ----------
    merged
        Tiles whose last source this is: they can be merged now.
    freed
        Indices of tiles whose sums nobody needs from now on.
    """

    tile: Tile
    merged: tuple[Tile, ...]
    freed: tuple[int, ...]


@dataclass(frozen=True)
class TilePlan:
    """All tiles of one volume.

    Attributes
    ----------
    native_shape, model_shape, roi_size
        Voxels along each axis of the file, of what the network sees, and of one window.
    channels, classes
        Channels of the network's input and of its output.
    label_bytes
        Bytes of one label.
    """

    native_shape: Index3
    model_shape: Index3
    roi_size: Index3
    channels: int
    classes: int
    tiles: tuple[Tile, ...]
    label_bytes: int = 1

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""
        return len(self.tiles)

    @property
    def n_windows(self) -> int:
        """Number of windows; each is evaluated once."""
        return sum(len(tile.windows) for tile in self.tiles)

    @property
    def native_bytes(self) -> int:
        """Bytes of the label map, uncompressed."""
        return int(np.prod(self.native_shape, dtype=np.int64)) * self.label_bytes

    @cached_property
    def peak_bytes_per_tile(self) -> int:
        """Upper bound of the bytes of one tile's sums and input, while it is evaluated.

        Sums of all classes exist once. The network's activations and the scores of one batch come
        on top, and while labels are decided, what a block of them takes.
        """
        return max(map(self._bytes_of, self.tiles), default=0)

    @cached_property
    def peak_bytes(self) -> int:
        """Upper bound of what the sums of all tiles take that are needed at the same time.

        That is in all workers together, where tiles are evaluated one after the other: a tile's
        sums are kept until the last tile that they reach into has all its sources.
        """
        peak = alive = 0
        for turn in self.turns():
            alive += self._bytes_of(turn.tile)
            peak = max(peak, alive)
            alive -= sum(self._bytes_of(self.tiles[index]) for index in turn.freed)
        return peak

    def turns(self) -> Iterator[Turn]:
        """Go through the tiles in order; say which can be merged, and whose sums can be let go."""
        merged: list[list[Tile]] = [[] for _ in self.tiles]
        freed: list[list[int]] = [[] for _ in self.tiles]
        for tile in self.tiles:
            merged[max(tile.sources, default=0)].append(tile)
            last = max((max(self.tiles[t].sources) for t in self.targets(tile)), default=0)
            freed[max(last, tile.index)].append(tile.index)
        for tile in self.tiles:
            yield Turn(tile, tuple(merged[tile.index]), tuple(freed[tile.index]))

    def as_dict(self) -> dict[str, Any]:
        """Return the plan in numbers, as plain JSON types."""
        return {
            "native_shape": self.native_shape,
            "model_shape": self.model_shape,
            "roi_size": self.roi_size,
            "classes": self.classes,
            "windows": self.n_windows,
            "tiles": self.n_tiles,
            "tile": self.tiles[0].write_box.shape,
            "peak_bytes_per_tile": self.peak_bytes_per_tile,
            "peak_bytes": self.peak_bytes,
        }

    def cover_box(self, tile: Tile) -> Box:
        """Return the model voxels that the windows of ``tile`` cover: its read box."""
        box = Box.at(tile.windows[0], self.roi_size)
        for start in tile.windows[1:]:
            box = box.union(Box.at(start, self.roi_size))
        return box

    def _bytes_of(self, tile: Tile) -> int:
        """Return the bytes of a tile's sums and input."""
        voxels = self.cover_box(tile).size if tile.windows else 0
        return voxels * _bytes_per_voxel(self.channels, self.classes)

    def targets(self, tile: Tile) -> tuple[int, ...]:
        """Return the indices of the tiles that get a partial from ``tile``."""
        return self._targets[tile.index]

    @cached_property
    def _targets(self) -> tuple[tuple[int, ...], ...]:
        found: list[list[int]] = [[] for _ in self.tiles]
        for tile in self.tiles:
            for source in tile.sources:
                found[source].append(tile.index)
        return tuple(map(tuple, found))


def window_starts(
    length: int, roi: int, overlap: float, placement: Placement = "packed"
) -> tuple[int, ...]:
    """Return the first voxel of each window along one axis.

    A volume shorter than the window is padded on both sides, so its one window starts before
    voxel 0. Windows ``packed``, as MONAI places them, have one distance, and the last one is moved
    back to end with the volume. Windows placed ``evenly``, as nnU-Net does, move closer together
    until the last one ends with the volume.

    >>> window_starts(10, 4, 0.5)
    (0, 2, 4, 6)
    >>> window_starts(9, 4, 0.5)
    (0, 2, 4, 5)
    >>> window_starts(9, 4, 0.5, "evenly")
    (0, 2, 3, 5)
    >>> window_starts(3, 6, 0.5)
    (-1,)
    """
    if length <= roi:
        return (-((roi - length) // 2),)
    if placement == "evenly" and roi > 1:
        count = ceil((length - roi) / (roi * (1 - overlap))) + 1
        return tuple(int(np.round((length - roi) / (count - 1) * i)) for i in range(count))
    interval = max(int(roi * (1 - overlap)), 1)
    count = ceil((length - roi) / interval) + 1
    return tuple(min(i * interval, length - roi) for i in range(count))


def make_plan(
    *,
    native_shape: Index3,
    model_shape: Index3,
    needs: Callable[[Box], Box],
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
        return plan_of(tile_shape)
    voxels = budget_bytes // _bytes_per_voxel(channels, classes)
    shapes = _shapes_within(voxels, native_shape, needs, roi_size)
    *larger, within = [plan_of(shape) for shape in shapes]
    return next((plan for plan in larger if plan.peak_bytes <= within.peak_bytes), within)


def _tiles_of(
    shape: Index3,
    native_shape: Index3,
    needs: Callable[[Box], Box],
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
    voxels: int, native_shape: Index3, needs: Callable[[Box], Box], roi_size: Index3
) -> Iterator[Index3]:
    """Halve the tile until its windows cover at most ``voxels``; yield each shape on the way.

    It is halved along the axis that has the most windows until it is as thin as a window there,
    and only then along the next: fewer tiles wait for each other between slabs than between cubes.
    """
    shape = list(native_shape)
    whole = needs(Box.whole(shape)).shape
    yield native_shape
    for axis in sorted(range(3), key=lambda a: whole[a] / roi_size[a], reverse=True):
        native_axis = _native_axis_of(axis, shape, needs)
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


def _native_axis_of(model_axis: int, shape: list[int], needs: Callable[[Box], Box]) -> int:
    """Return the native axis that runs along ``model_axis`` (they may be permuted)."""
    full = needs(Box.whole(shape)).shape[model_axis]
    changes = [
        full
        - needs(Box.whole(n if a != axis else ceil(n / 2) for a, n in enumerate(shape))).shape[
            model_axis
        ]
        for axis in range(3)
    ]
    return int(np.argmax(changes))


def _bytes_per_voxel(channels: int, classes: int) -> int:
    return classes * SUM_BYTES + channels * SCORE_BYTES
