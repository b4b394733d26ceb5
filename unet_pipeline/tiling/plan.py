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

What only a tile's own windows reach is its *inner* box: its labels are decided as soon as these are
evaluated. Around it are *seams*, which wait for the partials of others, and the plan says for each
tile from whom they come (``sources``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.tiling.window_order import WindowOrder
from unet_pipeline.tiling.windows import Lattice

SUM_BYTES = 8  # one fixed-point score
SCORE_BYTES = 4  # one float32 score or voxel


@dataclass(frozen=True)
class Seam:
    """A part of a tile into which windows of other tiles reach.

    Attributes
    ----------
    write_box
        Native voxels.
    score_box
        Model voxels whose scores decide their labels.
    """

    write_box: Box
    score_box: Box


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
        Those that this tile evaluates.
    sources
        Indices of the tiles, itself included, whose windows reach into ``score_box``.
    inner
        Native voxels whose labels the tile's own windows decide; perhaps none.
    seams
        The rest of the write box.
    order
        In which order the windows are evaluated, for a tile that is alone.
    """

    index: int
    write_box: Box
    score_box: Box
    windows: Lattice
    sources: tuple[int, ...]
    inner: Box
    seams: tuple[Seam, ...]
    order: WindowOrder | None = None


@dataclass(frozen=True)
class TileStep:
    """What happens when the windows of one tile are evaluated, in the order of the tiles.

    Attributes
    ----------
    merged
        Tiles whose last source this is: they can be merged now.
    freed
        Indices of tiles whose sums nobody needs from now on; they are merged themselves.
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
        return max(map(self.bytes_of, self.tiles), default=0)

    @cached_property
    def peak_bytes(self) -> int:
        """Upper bound of what the sums of all tiles take that are needed at the same time.

        That is in all workers together, where tiles are evaluated one after the other: those of
        the tile that is evaluated, and what waits in scratch for seams that lack a source.
        """
        peak = waiting = 0
        for step in self.schedule():
            peak = max(peak, waiting + self.bytes_of(step.tile))
            waiting += self._kept_bytes(step.tile)
            waiting -= sum(self._kept_bytes(self.tiles[index]) for index in step.freed)
        return peak

    @cached_property
    def handed_bytes(self) -> int:
        """Bytes of the sums that tiles hand to others: what workers send each other at most.

        That is if no tile is merged where one of its neighbours was evaluated.
        """
        return sum(self._kept_bytes(tile, tile.index) for tile in self.tiles)

    def schedule(self) -> Iterator[TileStep]:
        """Go through the tiles in order; say which can be merged, and whose sums can be let go."""
        merged: list[list[Tile]] = [[] for _ in self.tiles]
        freed: list[list[int]] = [[] for _ in self.tiles]
        for tile in self.tiles:
            merged[max(tile.sources, default=0)].append(tile)
            needing = (self.tiles[index] for index in (*self.targets(tile), tile.index))
            last = max(max(other.sources, default=0) for other in needing)
            freed[max(last, tile.index)].append(tile.index)
        for tile in self.tiles:
            yield TileStep(tile, tuple(merged[tile.index]), tuple(freed[tile.index]))

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
            "handed_bytes": self.handed_bytes,
        }

    def cover_box(self, tile: Tile) -> Box:
        """Return the model voxels that the windows of ``tile`` cover: its read box."""
        return tile.windows.cover(self.roi_size)

    def seams_for(self, tile: Tile) -> dict[int, tuple[Box, ...]]:
        """Return of which model voxels ``tile`` hands sums on: for each target, of each seam."""
        read_box = self.cover_box(tile)
        return {
            target: tuple(read_box.intersect(s.score_box) for s in self.tiles[target].seams)
            for target in self.targets(tile)
        }

    def bytes_of(self, tile: Tile) -> int:
        """Return the bytes of a tile's sums, as many as are alive at once, and of its input."""
        if not tile.windows:
            return 0
        read_box = self.cover_box(tile)
        alive = prod(tile.order.alive) if tile.order else read_box.size
        sums = alive * self.classes * SUM_BYTES + tile.score_box.size * SUM_BYTES  # and weights
        return sums + read_box.size * self.channels * SCORE_BYTES

    def _kept_bytes(self, tile: Tile, but: int | None = None) -> int:
        """Return the bytes of the sums that a tile hands on, to itself too; but not to one tile."""
        if not tile.windows:
            return 0
        boxes = (seams for target, seams in self.seams_for(tile).items() if target != but)
        return sum(box.size for box in chain.from_iterable(boxes)) * self.classes * SUM_BYTES

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
