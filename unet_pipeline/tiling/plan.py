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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil
from typing import Any, Literal

import numpy as np

from unet_pipeline.tiling.box import Box, Index3

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
        return max(
            (self.cover_box(tile).size for tile in self.tiles if tile.windows), default=0
        ) * _bytes_per_voxel(self.channels, self.classes)

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
        }

    def cover_box(self, tile: Tile) -> Box:
        """Return the model voxels that the windows of ``tile`` cover: its read box."""
        box = Box.at(tile.windows[0], self.roi_size)
        for start in tile.windows[1:]:
            box = box.union(Box.at(start, self.roi_size))
        return box

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
        ``budget_bytes``.
    label_bytes
        Bytes of one label.
    """
    tile_shape = tile_shape or _tile_within(
        budget_bytes // _bytes_per_voxel(channels, classes), native_shape, needs, roi_size
    )
    write_boxes = list(Box.whole(native_shape).blocks(tile_shape))
    score_boxes = [needs(box) for box in write_boxes]
    axes = [
        window_starts(n, r, overlap, placement) for n, r in zip(model_shape, roi_size, strict=True)
    ]
    starts: list[Index3] = [(x, y, z) for x, y, z in product(*axes)]
    owner, touches = _assign(starts, roi_size, score_boxes)
    tiles = []
    for index, (write_box, score_box) in enumerate(zip(write_boxes, score_boxes, strict=True)):
        windows = tuple(starts[i] for i in np.flatnonzero(owner == index))
        sources = tuple(int(i) for i in np.unique(owner[touches[index]]))
        tiles.append(Tile(index, write_box, score_box, windows, sources))
    return TilePlan(
        native_shape, model_shape, roi_size, channels, classes, tuple(tiles), label_bytes
    )


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


def _tile_within(
    voxels: int, native_shape: Index3, needs: Callable[[Box], Box], roi_size: Index3
) -> Index3:
    """Halve the tile along its longest axis until its windows cover at most ``voxels``."""
    shape = list(native_shape)
    while True:
        scores = needs(Box.whole(shape)).shape
        cover = np.prod([n + r for n, r in zip(scores, roi_size, strict=True)], dtype=np.int64)
        whole = tuple(shape) == native_shape
        if whole:  # no neighbour: the windows end with the volume
            cover = np.prod(np.maximum(scores, roi_size), dtype=np.int64)
        longest = int(np.argmax(np.array(scores) / roi_size))
        axis = _native_axis_of(longest, shape, needs)
        if cover <= voxels or scores[longest] <= roi_size[longest] or shape[axis] == 1:
            x, y, z = shape
            return x, y, z
        shape[axis] = ceil(shape[axis] / 2)


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
