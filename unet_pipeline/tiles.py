"""The calls that run on workers for one tile: its scores, its partials, its labels.

A tile that is alone goes from values to labels in one call, so that few of its sums are alive at
once. Of tiles that need each other's sums, one call decides what lies inside, and keeps partials
for the seams; another merges the seams of a tile when all of its sources are there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from unet_pipeline.choices import Confidence
from unet_pipeline.cost import added
from unet_pipeline.deciding import Decider, TileLabels
from unet_pipeline.inference.doors import within_memory
from unet_pipeline.inference.spec import ModelSpec, WindowStats
from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.merge import Partial, Sums
from unet_pipeline.tiling.plan import Tile
from unet_pipeline.tiling.window_order import WindowSlab
from unet_pipeline.tiling.windows import Lattice
from unet_pipeline.volume.disk_arrays import IN_MEMORY, Room
from unet_pipeline.volume.kept import KeptArray, keep_plain
from unet_pipeline.volume.staging import Staged
from unet_pipeline.volume.steps import Prepared, covered_box
from unet_pipeline.volume.views import Voxels, read_with_margin

if TYPE_CHECKING:
    from unet_pipeline.inference.predictor import Predictor, Scored


class OfCase(Protocol):
    """What tiles need of a staged case."""

    @property
    def volume(self) -> Staged:
        """Its voxels, and what a network sees of them."""


@dataclass(frozen=True)
class KeptPartial:
    """A partial of one seam, in the scratch of its case, or in memory."""

    box: Box
    sums: Sums | KeptArray

    def read(self) -> Partial:
        """Return it, in memory."""
        return Partial(self.box, self.sums[:, :, :, :])


@dataclass(frozen=True)
class TileScores:
    """What one tile computed.

    Attributes
    ----------
    inner
        Labels of the inner box; None if that is empty.
    partials
        By target: one for each of its seams that the tile's windows reach into, by its number.
    """

    inner: TileLabels | None
    partials: Mapping[int, Mapping[int, KeptPartial]]
    stats: WindowStats


@dataclass(frozen=True)
class LabelledTile:
    """The labels of a tile, box by box, and what its windows took."""

    labels: tuple[TileLabels, ...]
    stats: WindowStats


def score_tile(
    staged: OfCase,
    tile: Tile,
    read_box: Box,
    seams: Mapping[int, Sequence[Box]],
    prepared: Prepared,
    spec: ModelSpec,
    confidence: Confidence,
    scratch: str | None,
) -> TileScores:
    """Run the windows of one tile; decide what lies inside, and keep the sums of the seams.

    Parameters
    ----------
    read_box
        Model voxels that the windows cover.
    seams
        For each target, the model voxels of each of its seams that the windows reach into.
    scratch
        Where labels and sums are kept; None for in memory.
    """
    begin = perf_counter()
    values_CXYZ = read_with_margin(staged.volume.model, read_box)
    seconds = {"preprocess": perf_counter() - begin}
    begin = perf_counter()

    def score(predictor: "Predictor") -> tuple["Scored", float]:
        load = perf_counter() - begin
        return predictor.score(values_CXYZ, read_box, tile.windows), load

    scored, seconds["load"] = within_memory(spec, score)
    inner = None
    if tile.inner.size:
        needed = covered_box(prepared, tile.inner)
        decider = Decider(prepared, tile.inner, needed, tile.windows, spec, confidence)
        decider.decide(tile.inner, needed, [Partial(read_box, scored.sums_CXYZ)])
        inner = decider.labels(scratch)

    def kept(box: Box) -> KeptPartial:
        sums_CXYZ = scored.sums_CXYZ[(slice(None), *box.within(read_box))]
        return KeptPartial(
            box, sums_CXYZ.copy() if scratch is None else keep_plain(sums_CXYZ, scratch)
        )

    begin = perf_counter()
    partials = {
        target: {number: kept(box) for number, box in enumerate(boxes) if box.size}
        for target, boxes in seams.items()
    }
    seconds["merge"] = perf_counter() - begin
    return TileScores(inner, partials, _with(scored.stats, seconds))


def merge_tile(
    prepared: Prepared,
    tile: Tile,
    windows: Sequence[Lattice],
    sources: Sequence[TileScores],
    own: TileScores | None,
    spec: ModelSpec,
    confidence: Confidence,
    scratch: str | None,
) -> LabelledTile:
    """Add the partials of each seam of a tile, bring them to the native grid, and decide labels.

    Parameters
    ----------
    windows, sources
        Of all tiles whose windows reach into the tile's score box.
    own
        What the tile itself computed; None if it has no windows.
    scratch
        Where the labels are kept; None for in memory.
    """
    found = [] if own is None or own.inner is None else [own.inner]
    every, reading = [*chain.from_iterable(windows)], 0.0
    for number, seam in enumerate(tile.seams):
        begin = perf_counter()
        kept = (source.partials[tile.index].get(number) for source in sources)
        partials = [one.read() for one in kept if one is not None]
        reading += perf_counter() - begin
        boxes = (seam.write_box, seam.score_box)
        decider = Decider(prepared, *boxes, every, spec, confidence)
        decider.decide(*boxes, partials)
        found.append(decider.labels(scratch))
    stats = WindowStats({}) if own is None else own.stats
    took = added([stats.seconds, {"merge": reading}])
    return LabelledTile(tuple(found), replace(stats, seconds=took))


def let_go_of(scores: TileScores, _merged: Sequence[LabelledTile]) -> None:
    """Remove the partials of a tile from scratch, now that all of its targets are merged."""
    for partial in chain.from_iterable(seams.values() for seams in scores.partials.values()):
        if isinstance(partial.sums, KeptArray):
            partial.sums.remove()


def label_tile(
    staged: OfCase,
    read_box: Box,
    tile: Tile,
    prepared: Prepared,
    spec: ModelSpec,
    confidence: Confidence = "none",
    room: Room = IN_MEMORY,
) -> LabelledTile:
    """Run the windows of a tile that is alone, and decide its labels as they stream by."""
    begin = perf_counter()
    values_CXYZ = read_with_margin(staged.volume.model, read_box)
    seconds = {"preprocess": perf_counter() - begin}
    begin = perf_counter()

    def label(predictor: "Predictor") -> LabelledTile:
        load = perf_counter() - begin
        labels, stats = streamed_labels(
            predictor, values_CXYZ, read_box, tile, prepared, confidence, room
        )
        return LabelledTile((labels,), _with(stats, {**seconds, "load": load}))

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
    boxes = (tile.write_box, tile.score_box)
    decider = Decider(prepared, *boxes, tile.windows, predictor.spec, confidence, room)

    def decide(slab: WindowSlab, partials: Sequence[Partial]) -> None:
        decider.decide(slab.write_box, slab.score_box, partials)

    stats = predictor.stream(values_CXYZ, read_box, tile.order, decide)
    return decider.labels(), stats


def stats_of(tiles: Sequence[LabelledTile]) -> list[WindowStats]:
    """Return only what tiles took."""
    return [tile.stats for tile in tiles]


def _with(stats: WindowStats, seconds: Mapping[str, float]) -> WindowStats:
    return replace(stats, seconds={**seconds, **stats.seconds})
