"""The calls that run on workers, each a step of the path of one case or one tile.

They are plain functions of plain values, so they can be pickled and run anywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline import scratch
from unet_pipeline.choices import OutputFormat
from unet_pipeline.cost import Stopwatch, added
from unet_pipeline.errors import CaseError
from unet_pipeline.evaluation.label_statistics import label_statistics
from unet_pipeline.evaluation.metrics import dice_per_label
from unet_pipeline.gate.examine import Examined, Policy
from unet_pipeline.gate.findings import as_finding
from unet_pipeline.gate.inspect import filled, look_at_image, look_at_mask, read_reference
from unet_pipeline.inference.predictor import ModelSpec, WindowStats
from unet_pipeline.postprocessing import LabelStep, postprocess
from unet_pipeline.records import Case, Part
from unet_pipeline.report.overlay import overlay_png
from unet_pipeline.report.palette import colour_of
from unet_pipeline.storage.claims import Claim
from unet_pipeline.storage.label_maps import Stored, store_case
from unet_pipeline.storage.ledger import digest_object
from unet_pipeline.storage.outage import with_retries
from unet_pipeline.storage.sidecar import (
    Geometry,
    Grid,
    InputDigest,
    RunFacts,
    Sidecar,
    Traffic,
)
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.versions import expect_all
from unet_pipeline.tiles import TileLabels, TileValues
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.tiling.decision import Labels
from unet_pipeline.tiling.plan import TilePlan
from unet_pipeline.tiling.planning import covered, make_plan, voxels_within
from unet_pipeline.volume.formats import objects_by_role, writer_of
from unet_pipeline.volume.formats.protocol import Legend
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.header import Header
from unet_pipeline.volume.layout import copy_into
from unet_pipeline.volume.staging import Staged, stage
from unet_pipeline.volume.steps import Prepared, Step
from unet_pipeline.volume.views import ShapeOnly, read_with_margin


@dataclass(frozen=True)
class VolumeJob:
    """Everything that one case asks of the workers.

    Attributes
    ----------
    images, mask, parts
        URLs of the channels and of the reference mask, or its parts, as of ``Case``.
    claim, facts
        Where the case is written and what may be replaced there, and what its record says of the
        run; None if nothing is to be written.
    tile
        Native voxels of a tile; None for as large as ``memory_bytes`` allows.
    scratch
        Folder of this case for volumes over ``memory_bytes``, seen by all workers. It need not
        exist; it is removed with the case.
    label_steps
        What is done to the label map before it is written.
    policy
        What the gate holds the case against.
    examined
        What the gate saw in the headers.
    content
        Whether to look if the mask lies on the anatomy.
    output_format
        That of the label map.
    seconds
        Seconds per stage that the case took before the workers.
    """

    case: str
    images: tuple[str, ...]
    mask: str | None
    parts: tuple[Part, ...]
    claim: Claim | None
    facts: RunFacts | None
    store: Store
    spec: ModelSpec
    steps: tuple[Step, ...]
    overlap: float
    tile: Index3 | None
    memory_bytes: int
    label_steps: tuple[LabelStep, ...]
    policy: Policy
    examined: Examined
    content: bool = False
    output_format: OutputFormat = "nifti"
    scratch: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StagedCase:
    """A case in a worker's memory or scratch, and its mask if there is one."""

    volume: Staged
    mask_XYZ: npt.NDArray[Any] | None
    mask_inputs: tuple[InputDigest, ...]
    examined: Examined
    seconds: Mapping[str, float]


def stage_case(job: VolumeJob) -> StagedCase:
    """Read the channels and the mask of a case, and show their voxels to the gate.

    Raises
    ------
    CaseError
        The first finding that fails.
    """
    stopwatch, policy = Stopwatch(), job.policy
    volume = stage(
        job.store,
        job.images,
        job.steps,
        budget_bytes=job.memory_bytes,
        scratch=job.scratch,
        form=policy.form,
        allowed_voxels=policy.tolerance.affine_voxels,
        most_bytes=policy.most_bytes,
        versions=job.examined.versions,
        axes=policy.axes_of(len(job.images)),
        nan=policy.nan_in_images,
    )
    stopwatch.lap("stage")  # whose parts the volume knows
    examined = job.examined.with_findings(look_at_image(volume.native.inner, policy))
    stopwatch.lap("look")
    if job.mask is None:
        examined.sound_header()
        return StagedCase(volume, None, (), examined, _of_stages(volume, stopwatch))
    grid, seen = volume.header.grid, job.examined.versions
    mask = None
    try:
        mask = read_reference(job.store, job.mask, job.parts, grid, policy, job.memory_bytes, seen)
    except CaseError as error:
        found = [as_finding(error, "mask")]
    stopwatch.lap("read")
    if mask is not None:
        image_XYZ = volume.native.inner[0].sliced
        found = look_at_mask(mask.values_XYZ, image_XYZ, grid, policy.labels, content=job.content)
        found += filled("mask", mask.filled, "nan-to-zero")
    examined = examined.with_findings(found)
    if not policy.needs_mask:
        examined = examined.apart_from_mask()
    examined.sound_header()
    stopwatch.lap("look")
    inputs = mask.inputs if mask is not None else _mask_inputs(job)
    labels_XYZ = None if mask is None or examined.mask_fault else mask.labels_XYZ
    return StagedCase(volume, labels_XYZ, inputs, examined, _of_stages(volume, stopwatch))


def _mask_inputs(job: VolumeJob) -> tuple[InputDigest, ...]:
    """Return the digests of a mask that could not be read, by which it is known the next time."""
    case = Case(job.case, (), job.mask, parts=job.parts)
    urls = objects_by_role(job.store, case, job.policy.level)
    found = []
    for role, url in urls.items():
        now = job.store.fingerprint(url)
        found.append(InputDigest(role, now.size, now.etag, digest_object(job.store, url)))
    return tuple(found)


def _of_stages(volume: Staged, stopwatch: Stopwatch) -> dict[str, float]:
    beside = {name: value for name, value in stopwatch.seconds.items() if name != "stage"}
    return added([volume.seconds, beside])


def hold_scratch(job: VolumeJob) -> None:
    """Keep the decoded volumes of a case, where they lie here, though who decoded them may die."""
    if job.scratch is not None:
        scratch.hold_scratch(Path(job.scratch))


def remove_scratch(job: VolumeJob) -> None:
    """Remove the decoded volumes of a case, where they lie here."""
    if job.scratch is not None:
        scratch.remove_scratch(Path(job.scratch))


def prepared_of(staged: StagedCase) -> Prepared:
    """Return the small part of a staged case that says where everything lies.

    Every merge is given it, so it must not hold what steps measured voxel by voxel.
    """
    return staged.volume.prepared.geometry


def is_alone(prepared: Prepared, job: VolumeJob) -> bool | None:
    """Say in closed form whether a volume is one tile; None where only a plan can tell."""
    shape = prepared.native.shape
    if job.tile is not None:
        return all(n <= tile for n, tile in zip(shape, job.tile, strict=True))
    needs = prepared.backward(ShapeOnly(prepared.model.shape)).needs
    bundle = job.spec.bundle
    within = voxels_within(job.memory_bytes, bundle.in_channels, bundle.out_channels)
    return True if covered(shape, needs, job.spec.roi_size) <= within else None


def plan_volume(prepared: Prepared, job: VolumeJob) -> TilePlan:
    """Lay windows and tiles over a volume."""
    return make_plan(
        native_shape=prepared.native.shape,
        model_shape=prepared.model.shape,
        needs=prepared.backward(ShapeOnly(prepared.model.shape)).needs,
        roi_size=job.spec.roi_size,
        overlap=job.overlap,
        channels=job.spec.bundle.in_channels,
        classes=job.spec.bundle.out_channels,
        placement=job.spec.bundle.placement,
        tile_shape=job.tile,
        budget_bytes=job.memory_bytes,
        label_bytes=job.spec.bundle.label_type.itemsize,
    )


def read_tile(staged: StagedCase, read_box: Box) -> TileValues:
    """Return what the network sees of the model voxels of ``read_box``, zero outside the volume."""
    begin = perf_counter()
    values_CXYZ = read_with_margin(staged.volume.model, read_box)
    return TileValues(values_CXYZ, perf_counter() - begin)


def finish_case(
    staged: StagedCase, tiles: Sequence[TileLabels], stats: Sequence[WindowStats], job: VolumeJob
) -> tuple[Claim, Sidecar]:
    """Join the labels, postprocess them, score them, draw them, store label map and picture.

    Return the case's record, but for its wall time, and the claim on the place of the record.
    """
    assert job.facts is not None  # noqa: S101  else the case is none to be written
    volume, stopwatch = staged.volume, Stopwatch()
    labels_XYZ = _joined(tiles, volume.native.shape)
    stopwatch.lap("merge")
    changes = postprocess(labels_XYZ, job.label_steps, volume.header.grid.voxel_ml)
    if job.label_steps:
        stopwatch.lap("postprocess")
    dice = _dice(labels_XYZ, staged.mask_XYZ, job)
    foreground = job.spec.bundle.foreground
    statistics = label_statistics(labels_XYZ, volume.header.grid, foreground)
    stopwatch.lap("evaluate")
    figure = _figure(labels_XYZ, staged, job.spec.bundle.labels)
    stopwatch.lap("draw")
    stored = _store(labels_XYZ, volume.header, figure, job)
    inputs = (*volume.inputs, *staged.mask_inputs)
    stopwatch.lap("write")
    merged = {"infer": 0.0, "forward": 0.0, "merge": sum(tile.seconds for tile in tiles)}
    took = (job.seconds, merged, staged.seconds, stopwatch.seconds, *(one.seconds for one in stats))
    read = job.examined.bytes_read + sum(one.size for one in inputs)
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
    )


def _store(labels_XYZ: Labels, header: Header, figure: bytes, job: VolumeJob) -> Stored:
    """Store label map and picture, if the files that were read are still the same."""
    assert job.claim is not None  # noqa: S101  else the case is none to be written
    mine = job.claim
    with_retries(lambda: expect_all(job.store, job.examined.versions))
    names = job.spec.bundle.labels
    legend = Legend(names, {number: colour_of(number) for number in names if number})
    objects = writer_of(job.output_format).encode(labels_XYZ, header, legend)
    return store_case(job.store, mine, job.output_format, objects, figure)


def _grid(grid: VoxelGrid) -> Grid:
    x, y, z = (round(spacing, 6) for spacing in grid.spacing_mm)
    return Grid(grid.shape, (x, y, z), grid.axcodes, grid.rows)


def _joined(tiles: Sequence[TileLabels], shape: Index3) -> Labels:
    """Return the labels of all tiles in the file's order, shape XYZ; of one tile without a copy."""
    whole = Box.whole(shape)
    if tiles[0].box == whole:
        return np.asfortranarray(tiles[0].labels_XYZ)
    labels_XYZ = np.zeros(shape, dtype=tiles[0].labels_XYZ.dtype, order="F")
    for tile in tiles:
        copy_into(labels_XYZ[tile.box.within(whole)][None], tile.labels_XYZ[None])
    return labels_XYZ


def _dice(
    labels_XYZ: Labels, mask_XYZ: npt.NDArray[Any] | None, job: VolumeJob
) -> dict[str, float | None] | None:
    if mask_XYZ is None:
        return None
    wanted = job.spec.bundle.foreground
    return {str(k): v for k, v in dice_per_label(labels_XYZ, mask_XYZ, wanted).items()}


def _figure(labels_XYZ: Labels, staged: StagedCase, names: Mapping[int, str]) -> bytes:
    header, native = staged.volume.header, staged.volume.native
    return overlay_png(
        native.inner[0].sliced,
        labels_XYZ,
        header.grid.spacing_mm,
        staged.mask_XYZ,
        axcodes=tuple(header.grid.axcodes),
        names=names,
    )
