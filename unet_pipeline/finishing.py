"""The last call of a case on a worker: from the labels of its tiles to what is stored."""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.cost import Stopwatch, added
from unet_pipeline.deciding import TileLabels
from unet_pipeline.evaluation.confidence import TileConfidence, confidence_of, joined, sums_of
from unet_pipeline.evaluation.label_statistics import label_statistics
from unet_pipeline.evaluation.metrics import dice_per_label
from unet_pipeline.inference.spec import WindowStats
from unet_pipeline.postprocessing import labels_after, postprocess
from unet_pipeline.report.overlay import overlay_png
from unet_pipeline.report.palette import colour_of
from unet_pipeline.storage.claims import Claim
from unet_pipeline.storage.label_maps import Stored, store_case
from unet_pipeline.storage.outage import with_retries
from unet_pipeline.storage.sidecar import (
    Geometry,
    Grid,
    Sidecar,
    Traffic,
)
from unet_pipeline.storage.versions import expect_all
from unet_pipeline.tasks import StagedCase
from unet_pipeline.tiles import LabelledTile
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.tiling.decision import Labels
from unet_pipeline.tiling.margins import MOST, Margins
from unet_pipeline.volume.disk_arrays import IN_MEMORY, Room, zeros
from unet_pipeline.volume.formats import writer_of
from unet_pipeline.volume.formats.nifti import encoded
from unet_pipeline.volume.formats.protocol import Legend
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.header import Header
from unet_pipeline.volume.kept import each_box, opened
from unet_pipeline.volume.layout import copy_into
from unet_pipeline.volume.staging import Staged
from unet_pipeline.volume_job import VolumeJob

LabelStatistics = Mapping[str, Mapping[str, float | str]]


def finish_case(
    staged: StagedCase, tiles: Sequence[LabelledTile], before: Sequence[WindowStats], job: VolumeJob
) -> tuple[Claim, Sidecar]:
    """Join the labels, postprocess them, score them, draw them, store label map and picture.

    ``before`` says what the windows of a first stage took.

    Return the case's record, but for its wall time, and the claim on the place of the record.
    """
    assert job.facts is not None  # noqa: S101  else the case is none to be written
    volume, stopwatch = staged.volume, Stopwatch()
    labels = [*chain.from_iterable(tile.labels for tile in tiles)]
    labels_XYZ = join_tiles(labels, volume.native.shape, job.room)
    stats = [*before, *(tile.stats for tile in tiles)]
    stopwatch.lap("merge")
    changes = postprocess(labels_XYZ, job.label_steps, volume.header.grid.voxel_ml)
    if job.label_steps:
        stopwatch.lap("postprocess")
    wanted = labels_after(job.label_steps, job.spec.bundle.foreground)
    mask_XYZ = None if staged.mask is None else opened(staged.mask, job.room)
    dice = _dice(labels_XYZ, mask_XYZ, wanted)
    of_labels = label_statistics(labels_XYZ, volume.header.grid, wanted, volume.native.inner)
    sure = [one.confidence for one in labels if one.confidence is not None]
    statistics = _with_confidence(of_labels, labels_XYZ, sure, job)
    stopwatch.lap("evaluate")
    figure = _figure(labels_XYZ, mask_XYZ, staged.volume, job.spec.bundle.labels)
    stopwatch.lap("draw")
    margins_XYZ = joined(sure, volume.native.shape, job.room) if job.confidence == "map" else None
    stored = _store(labels_XYZ, margins_XYZ, volume.header, figure, job)
    inputs = (*volume.inputs, *staged.mask_inputs)
    stopwatch.lap("write")
    merged = {"infer": 0.0, "forward": 0.0, "merge": sum(one.seconds for one in labels)}
    took = (job.seconds, merged, staged.seconds, stopwatch.seconds, *(one.seconds for one in stats))
    read = job.examined.bytes_read + staged.bytes_read
    return stored.claim, Sidecar(
        written=stored.written,
        run=job.facts,
        case=job.case,
        inputs=inputs,
        output=stored.output,
        geometry=Geometry(_grid(volume.prepared.native), _grid(volume.prepared.model)),
        gate=staged.examined.note,
        windows=sum(one.windows for one in stats),
        windows_reused=sum(one.reused for one in stats),
        tiles=len(tiles),
        dice=dice,
        seconds=added(took),
        bytes=Traffic(read, stored.bytes),
        mask_fault=staged.examined.mask_note,
        label_changes=changes,
        statistics=statistics,
        memory_steps=(*job.memory_steps, *_steps_of(stats)),
    )


def _steps_of(stats: Sequence[WindowStats]) -> tuple[str, ...]:
    """Return in what calls took less memory, each once."""
    return tuple(dict.fromkeys(step for one in stats for step in one.memory_steps))


def _with_confidence(
    statistics: LabelStatistics,
    labels_XYZ: Labels,
    tiles: Sequence[TileConfidence],
    job: VolumeJob,
) -> LabelStatistics:
    """Return the statistics of each label with how sure the network is of it."""
    if not tiles:
        return statistics
    bundle = job.spec.bundle
    sums_L5 = sums_of(labels_XYZ, tiles, job.spec.threads or os.cpu_count() or 1)
    found = confidence_of(sums_L5, bundle.foreground)
    known, facts = bundle.dice_calibration, job.facts
    holds = known is not None and facts and known.holds_for(facts.weights, facts.settings)
    dice = known.predictions(found) if known is not None and holds else {}
    return {
        label: {**values, **found.get(label, {}), **dice.get(label, {})}
        for label, values in statistics.items()
    }


def _store(
    labels_XYZ: Labels, margins_XYZ: Margins | None, header: Header, figure: bytes, job: VolumeJob
) -> Stored:
    """Store label map, maps beside it and picture, if what was read is still the same."""
    assert job.claim is not None  # noqa: S101  else the case is none to be written
    mine = job.claim
    with_retries(lambda: expect_all(job.store, job.examined.versions))
    names = job.spec.bundle.labels
    legend = Legend(names, {number: colour_of(number) for number in names if number})
    objects = writer_of(job.output_format).encode(labels_XYZ, header, legend)
    sure = None if margins_XYZ is None else encoded(margins_XYZ, header, slope=1 / MOST)
    return store_case(job.store, mine, job.output_format, objects, figure, sure)


def _grid(grid: VoxelGrid) -> Grid:
    x, y, z = (round(spacing, 6) for spacing in grid.spacing_mm)
    return Grid(grid.shape, (x, y, z), grid.axcodes, grid.rows)


def join_tiles(tiles: Iterable[TileLabels], shape: Index3, room: Room = IN_MEMORY) -> Labels:
    """Return the labels of all tiles in the file's order, shape XYZ; of one tile without a copy.

    Tiles are looked at one after the other, and none is kept.
    """
    whole, tiles = Box.whole(shape), iter(tiles)
    first = next(tiles)
    if first.box == whole and isinstance(first.labels, np.ndarray):
        return np.asfortranarray(first.labels)
    labels_XYZ = zeros(shape, first.labels.dtype, room)
    for tile in chain([first], tiles):
        target_XYZ = labels_XYZ[tile.box.within(whole)]
        for part in each_box(target_XYZ):
            copy_into(target_XYZ[part][None], tile.labels[part][None])
    return labels_XYZ


def _dice(
    labels_XYZ: Labels, mask_XYZ: npt.NDArray[Any] | None, wanted: Sequence[int]
) -> dict[str, float | None] | None:
    if mask_XYZ is None:
        return None
    return {str(k): v for k, v in dice_per_label(labels_XYZ, mask_XYZ, wanted).items()}


def _figure(
    labels_XYZ: Labels,
    mask_XYZ: npt.NDArray[Any] | None,
    volume: Staged,
    names: Mapping[int, str],
) -> bytes:
    header, native = volume.header, volume.native
    return overlay_png(
        native.inner[0].sliced,
        labels_XYZ,
        header.grid.spacing_mm,
        mask_XYZ,
        axcodes=tuple(header.grid.axcodes),
        names=names,
    )
