"""The calls that run on workers for one tile: its scores, its partials, its labels.

A tile that is alone goes from values to labels in one call, so that few of its sums are alive at
once. Tiles that need each other's sums hand them on as partials, and are merged afterwards.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.choices import Confidence
from unet_pipeline.evaluation.confidence import MarginCounter, TileConfidence
from unet_pipeline.inference.doors import importance_map, within_memory
from unet_pipeline.inference.spec import ModelSpec, WindowStats
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.tiling.decision import Labels
from unet_pipeline.tiling.margins import Margins
from unet_pipeline.tiling.merge import Merged, Partial, weight_sum
from unet_pipeline.tiling.plan import Tile
from unet_pipeline.tiling.window_order import WindowSlab
from unet_pipeline.tiling.windows import Lattice
from unet_pipeline.volume.disk_arrays import IN_MEMORY, Room, let_go, room_of, zeros
from unet_pipeline.volume.kept import KeptArray, for_others, keep
from unet_pipeline.volume.native import native_labels
from unet_pipeline.volume.steps import Prepared
from unet_pipeline.volume.views import Voxels

if TYPE_CHECKING:
    from unet_pipeline.inference.predictor import Predictor, Scored


@dataclass(frozen=True)
class TileValues:
    """What the network sees of the model voxels of a tile's windows, and the seconds it took."""

    values_CXYZ: Voxels
    seconds: float

    def __sizeof__(self) -> int:
        """Bytes: by these Dask knows what waits in a worker's memory, and what a move costs."""
        return self.values_CXYZ.nbytes


@dataclass(frozen=True)
class TileScores:
    """What one tile computed: a partial for each tile that its windows reach into."""

    partials: Mapping[int, Partial]
    stats: WindowStats

    def __sizeof__(self) -> int:
        """Bytes; see ``TileValues``."""
        return sum(partial.sums_CXYZ.nbytes for partial in self.partials.values())


@dataclass(frozen=True)
class TileLabels:
    """The labels of one write box, and how sure they are, if that was asked for.

    Attributes
    ----------
    labels
        Shape XYZ; in memory, or in the scratch of the case.
    """

    box: Box
    labels: Labels | KeptArray
    seconds: float
    confidence: TileConfidence | None = None

    @property
    def labels_XYZ(self) -> Labels:  # noqa: N802
        """The labels, read from where they lie."""
        return self.labels[:, :, :]


@dataclass(frozen=True)
class LabelledTile:
    """The labels of a tile that is alone, and what its windows took."""

    labels: TileLabels
    stats: WindowStats


def score_tile(
    values: TileValues,
    read_box: Box,
    windows: Lattice,
    targets: Mapping[int, Box],
    spec: ModelSpec,
) -> TileScores:
    """Run the windows of one tile and cut the sums for each tile that needs some of them.

    All partials are views of the same sums, so a tile's sums are in memory once.
    """
    begin = perf_counter()

    def score(predictor: "Predictor") -> tuple["Scored", float]:
        load = perf_counter() - begin
        return predictor.score(values.values_CXYZ, read_box, windows), load

    scored, load = within_memory(spec, score)
    partials = {}
    for target, score_box in targets.items():
        box = read_box.intersect(score_box)
        sums_CXYZ = scored.sums_CXYZ[(slice(None), *box.within(read_box))]
        partials[target] = Partial(box, sums_CXYZ)
    return TileScores(partials, _with(scored.stats, values, load))


def take_partial(scores: TileScores, target: int) -> Partial:
    """Return the partial for one tile, so that only this part travels to it."""
    return scores.partials[target]


def merge_tile(
    prepared: Prepared,
    tile: Tile,
    windows: Sequence[Lattice],
    partials: Sequence[Partial],
    spec: ModelSpec,
    confidence: Confidence,
    scratch: str | None,
) -> TileLabels:
    """Add the partials of a tile, bring its scores to the native grid, and decide its labels.

    Parameters
    ----------
    windows
        Those of all tiles whose windows reach into the tile's score box.
    scratch
        Where the labels are kept; None for in memory.
    """
    decider = _Decider(prepared, tile, chain.from_iterable(windows), spec, confidence)
    decider.decide(tile.write_box, tile.score_box, partials)
    return decider.labels(scratch)


def label_tile(
    values: TileValues,
    read_box: Box,
    tile: Tile,
    prepared: Prepared,
    spec: ModelSpec,
    confidence: Confidence = "none",
    room: Room = IN_MEMORY,
) -> LabelledTile:
    """Run the windows of a tile that is alone, and decide its labels as they stream by."""
    begin = perf_counter()

    def label(predictor: "Predictor") -> LabelledTile:
        load = perf_counter() - begin
        labels, stats = streamed_labels(
            predictor, values.values_CXYZ, read_box, tile, prepared, confidence, room
        )
        return LabelledTile(labels, _with(stats, values, load))

    return within_memory(spec, label)


def streamed_labels(
    predictor: "Predictor",
    values_CXYZ: Voxels,
    read_box: Box,
    tile: Tile,
    prepared: Prepared,
    confidence: Confidence = "none",
    room: Room = IN_MEMORY,
) -> tuple[TileLabels, WindowStats]:
    """Return the labels of a tile whose windows have an order, and what its windows took.

    Parameters
    ----------
    values_CXYZ
        What the network sees of the model voxels of ``read_box``, the tile's read box.
    room
        Where its labels, and its margins, may lie.
    """
    if tile.order is None:
        raise ValueError(f"tile {tile.index} has no order of windows")
    decider = _Decider(prepared, tile, tile.windows, predictor.spec, confidence, room)

    def decide(slab: WindowSlab, partials: Sequence[Partial]) -> None:
        decider.decide(slab.write_box, slab.score_box, partials)

    stats = predictor.stream(values_CXYZ, read_box, tile.order, decide)
    return decider.labels(), stats


def labels_of(tile: LabelledTile) -> TileLabels:
    """Return the labels of a tile, without what it took."""
    return tile.labels


def stats_of(tile: TileScores | LabelledTile) -> WindowStats:
    """Return only what a tile took."""
    return tile.stats


class _Decider:
    """Fills in the labels of a tile, box by box, and counts the seconds that it takes."""

    def __init__(
        self,
        prepared: Prepared,
        tile: Tile,
        windows: Iterable[Index3],
        spec: ModelSpec,
        confidence: Confidence,
        room: Room = IN_MEMORY,
    ) -> None:
        begin = perf_counter()
        importance_xyz = importance_map(spec.roi_size, spec.blend)
        self._labels_XYZ: Labels = zeros(tile.write_box.shape, spec.bundle.label_type, room)
        self._weight_XYZ = weight_sum(tile.score_box, windows, importance_xyz)
        self._prepared, self._tile, self._spec = prepared, tile, spec
        self._threads = spec.threads or os.cpu_count() or 1
        self._counter = (
            None
            if confidence == "none"
            else MarginCounter(
                self._labels_XYZ,
                tile.write_box,
                prepared.native.shape,
                max(spec.bundle.labels) + 1,
                keep=confidence == "map",
                threads=self._threads,
                room=room,
            )
        )
        self._seconds = perf_counter() - begin

    def decide(self, write_box: Box, score_box: Box, partials: Sequence[Partial]) -> None:
        """Decide the labels of some native voxels from the sums of their score box."""
        begin, tile, counter = perf_counter(), self._tile, self._counter
        part = write_box.within(tile.write_box)
        margins_XYZ = None if counter is None else counter.room(write_box)
        if partials:
            weight_XYZ = self._weight_XYZ[score_box.within(tile.score_box)]
            merged = Merged(score_box, partials, weight_XYZ)
            self._labels_XYZ[part] = self._native(merged, write_box, margins_XYZ)
        else:
            self._labels_XYZ[part] = _label_outside(self._spec.bundle)
        let_go(self._labels_XYZ[part])
        if counter is not None and margins_XYZ is not None:
            counter.add(write_box, margins_XYZ)
        self._seconds += perf_counter() - begin

    def labels(self, scratch: str | None = None) -> TileLabels:
        """Return what was decided; labels and margins stay in memory, or in scratch."""
        begin = perf_counter()
        found = None if self._counter is None else self._counter.result(scratch)
        kept = self._labels_XYZ if scratch is None else keep(self._labels_XYZ, scratch)
        labels = for_others(kept, room_of(self._labels_XYZ).scratch)
        seconds = self._seconds + perf_counter() - begin
        return TileLabels(self._tile.write_box, labels, seconds, found)

    def _native(self, merged: Merged, write_box: Box, margins_XYZ: Margins | None) -> Labels:
        bundle = self._spec.bundle
        return native_labels(
            merged,
            self._prepared,
            write_box,
            bundle.decision,
            bundle.label_type,
            threads=self._threads,
            margins_XYZ=margins_XYZ,
            background=self._counter is not None and self._counter.keep,
        )


def _with(stats: WindowStats, values: TileValues, load: float) -> WindowStats:
    seconds = {"preprocess": values.seconds, "load": load, **stats.seconds}
    return replace(stats, seconds=seconds)


def _label_outside(bundle: Bundle) -> int:
    """Return the label of voxels that the preprocessing cropped away: of 0 in every channel."""
    nothing = (np.zeros((1, 1, 1), np.float32) for _ in range(bundle.out_channels))
    return int(bundle.decision.decide(nothing, bundle.label_type).item())
