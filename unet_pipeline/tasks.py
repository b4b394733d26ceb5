"""The calls that run on workers, each a step of the path of one case or one tile.

They are plain functions of plain values, so they can be pickled and run anywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from time import perf_counter
from typing import Any

import numpy.typing as npt

from unet_pipeline import scratch
from unet_pipeline.cost import Stopwatch, added
from unet_pipeline.deciding import TileLabels
from unet_pipeline.errors import CaseError
from unet_pipeline.gate.examine import Examined
from unet_pipeline.gate.findings import as_finding
from unet_pipeline.gate.inspect import Mask, filled, look_at_image, look_at_mask, read_reference
from unet_pipeline.inference.spec import WindowStats
from unet_pipeline.records import Case
from unet_pipeline.storage.ledger import digest_object
from unet_pipeline.storage.sidecar import (
    InputDigest,
)
from unet_pipeline.tiles import LabelledTile
from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.plan import TilePlan
from unet_pipeline.tiling.planning import covered, make_plan, voxels_within
from unet_pipeline.volume.combined import combined_labels
from unet_pipeline.volume.decoding import read_labels
from unet_pipeline.volume.formats import objects_by_role
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.kept import KeptArray, for_others
from unet_pipeline.volume.labels import as_labels
from unet_pipeline.volume.region import CropTo, box_of_labels
from unet_pipeline.volume.staging import (
    Decoded,
    Staged,
    decode,
    stage,
    stage_further,
    stage_prepared,
)
from unet_pipeline.volume.statistics import Look
from unet_pipeline.volume.steps import Prepared, Resolved, Step
from unet_pipeline.volume.views import ShapeOnly, View
from unet_pipeline.volume_job import VolumeJob


@dataclass(frozen=True)
class ReadCase:
    """A case as its files have it: read once, for every model that looks at it.

    Attributes
    ----------
    mask
        The reference mask on the grid of the image; why it cannot be had; None if there is none.
    mask_inputs
        Digests of the mask's files.
    seconds, bytes_read
        What reading took; nothing for a model that finds the case read.
    """

    volume: Decoded
    mask: Mask | CaseError | None
    mask_inputs: tuple[InputDigest, ...]
    seconds: Mapping[str, float]
    bytes_read: int


@dataclass(frozen=True)
class StagedCase:
    """A case in a worker's memory or scratch, as one model sees it, and its mask if there is one.

    Attributes
    ----------
    mask
        Labels, shape XYZ.
    bytes_read
        Of the files, as stored.
    """

    volume: Staged
    mask: npt.NDArray[Any] | KeptArray | None
    mask_inputs: tuple[InputDigest, ...]
    examined: Examined
    seconds: Mapping[str, float]
    bytes_read: int


def stage_case(job: VolumeJob) -> StagedCase:
    """Read the channels and the mask of a case for one model, and show their voxels to the gate.

    Raises
    ------
    CaseError
        The first finding that fails.
    """
    read = read_case(job)
    return look_at_case(read, stage_volume(read, job.steps, job.memory_bytes), job)


def read_case(job: VolumeJob) -> ReadCase:
    """Read the channels and the mask of a case."""
    policy = job.policy
    volume = decode(
        job.store,
        job.images,
        budget_bytes=job.memory_bytes,
        scratch=job.scratch,
        form=policy.form,
        allowed_voxels=policy.tolerance.affine_voxels,
        most_bytes=policy.most_bytes,
        versions=job.examined.versions,
        axes=policy.axes_of(len(job.images)),
        nan=policy.nan_in_images,
    )
    stopwatch = Stopwatch()
    mask: Mask | CaseError | None = None
    inputs: tuple[InputDigest, ...] = ()
    if job.mask is not None:
        grid, seen = volume.header.grid, job.examined.versions
        try:
            read = read_reference(job.store, job.mask, job.parts, grid, policy, job.room, seen)
            mask, inputs = read.for_others(), read.inputs
        except CaseError as error:
            mask, inputs = error, _mask_inputs(job)
        stopwatch.lap("read")
    sizes = sum(one.size for one in (*volume.inputs, *inputs))
    seconds = added([volume.seconds, stopwatch.seconds])
    return ReadCase(volume, mask, inputs, seconds, sizes)


def known_case(read: ReadCase) -> ReadCase:
    """Return a case for a further model: reading it takes nothing more."""
    return replace(read, seconds={}, bytes_read=0)


def stage_volume(read: ReadCase, steps: Sequence[Step], memory_bytes: int) -> Staged:
    """Make of a case what a network sees."""
    return stage(read.volume, steps, memory_bytes)


def stage_resolved(read: ReadCase, prepared: Prepared, seconds: float, memory_bytes: int) -> Staged:
    """Make of a case what a network sees, by steps that several workers have resolved."""
    return stage_prepared(read.volume, prepared, memory_bytes, {"preprocess": seconds})


@dataclass(frozen=True)
class Outline:
    """What a driver must know of a case to have it measured by several workers."""

    grid: VoxelGrid
    channels: int


def outline_of(read: ReadCase) -> Outline | None:
    """Return the outline of a case that lies in scratch; None of one that is in memory."""
    voxels = read.volume.voxels
    if any(view.kept is None for view in voxels.inner):
        return None
    return Outline(read.volume.header.grid, voxels.channels)


def look_in(read: ReadCase, steps: Sequence[Resolved], box: Box, look: Look) -> tuple[Any, float]:
    """Return what is found in a box of a case after some steps, and the seconds it took."""
    begin = perf_counter()
    view: View = read.volume.voxels
    for step in steps:
        view = step.apply(view)
    return look(view.read(box), box), perf_counter() - begin


def steps_within(job: VolumeJob, grid: VoxelGrid) -> tuple[Step, ...]:
    """Return the steps of a job that looks at a region only, the crop to it first.

    Parameters
    ----------
    grid
        That of the file.

    Raises
    ------
    CaseError
        ``region_empty`` if the first model found none of the labels.
    """
    region = job.region
    if region is None:
        return job.steps
    labels_XYZ, _ = read_labels(job.store, region.label_map, budget_bytes=job.memory_bytes)
    margin = [ceil(region.margin_mm / mm) for mm in grid.spacing_mm]
    box = box_of_labels(labels_XYZ, region.labels, margin)
    if box is None:
        raise CaseError(
            "region_empty",
            found=f"no voxel of label {', '.join(map(str, region.labels))} in the label map of "
            "the first model",
            wanted="some, around which this model looks",
            remedy="Look at that label map; without --within the whole volume is looked at",
        )
    return (CropTo(box, grid), *job.steps)


def grid_of(read: ReadCase) -> VoxelGrid:
    """Return the grid of the file."""
    return read.volume.header.grid


def combine_labels(job: VolumeJob) -> LabelledTile:
    """Read the label maps of several models, and make one of them."""
    begin = perf_counter()
    read = [
        read_labels(job.store, part.label_map, budget_bytes=job.memory_bytes)[0]
        for part in job.combined
    ]
    labels_XYZ = combined_labels(read, job.combined, job.spec.bundle.label_type)
    box = Box.whole(labels_XYZ.shape)
    labels = TileLabels(box, labels_XYZ, perf_counter() - begin)
    return LabelledTile((labels,), WindowStats({}))


def stage_further_steps(volume: Staged, steps: Sequence[Step], memory_bytes: int) -> Staged:
    """Make of what several networks begin with what one of them sees."""
    return stage_further(volume, steps, memory_bytes)


def known_volume(volume: Staged) -> Staged:
    """Return what several networks begin with for a further model: it takes nothing more."""
    return replace(volume, seconds={})


def look_at_case(read: ReadCase, volume: Staged, job: VolumeJob) -> StagedCase:
    """Show the voxels of a case to the gate, as the model of a job wants them.

    Raises
    ------
    CaseError
        The first finding that fails.
    """
    stopwatch, policy = Stopwatch(), job.policy
    image, mask = volume.native.inner, read.mask
    examined = job.examined.with_findings(look_at_image(image, policy))
    labels: npt.NDArray[Any] | KeptArray | None = None
    values_XYZ: npt.NDArray[Any] | None = None
    if isinstance(mask, CaseError):
        examined = examined.with_findings([as_finding(mask, "mask")])
    elif mask is not None:
        grid, values_XYZ = volume.header.grid, mask.values_XYZ
        seen = (values_XYZ, image[0].sliced)
        found = look_at_mask(*seen, grid, policy.labels, content=job.content)
        examined = examined.with_findings([*found, *filled("mask", mask.filled, "nan-to-zero")])
    if mask is not None and not policy.needs_mask:
        examined = examined.apart_from_mask()
    examined.sound_header()
    if isinstance(mask, Mask) and values_XYZ is not None and not examined.mask_fault:
        labels = for_others(as_labels(values_XYZ), job.scratch) if mask.is_real else mask.values
    stopwatch.lap("look")
    seconds = added([read.seconds, volume.seconds, stopwatch.seconds])
    return StagedCase(volume, labels, read.mask_inputs, examined, seconds, read.bytes_read)


def _mask_inputs(job: VolumeJob) -> tuple[InputDigest, ...]:
    """Return the digests of a mask that could not be read, by which it is known the next time."""
    case = Case(job.case, (), job.mask, parts=job.parts)
    urls = objects_by_role(job.store, case, job.policy.level)
    found = []
    for role, url in urls.items():
        now = job.store.fingerprint(url)
        found.append(InputDigest(role, now.size, now.etag, digest_object(job.store, url)))
    return tuple(found)


def hold_scratch(job: VolumeJob) -> None:
    """Keep the decoded volumes of a case, where they lie here, though who decoded them may die."""
    if job.scratch is not None:
        scratch.hold_scratch(scratch.scratch_here(job.scratch))


def remove_scratch(name: str | None) -> None:
    """Remove the scratch of a case on this host."""
    if name is not None:
        scratch.remove_scratch(scratch.scratch_here(name))


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
