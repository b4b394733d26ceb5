"""The calls that run on workers, each a step of the path of one case or one tile.

They are plain functions of plain values, so they can be pickled and run anywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy.typing as npt

from unet_pipeline import scratch
from unet_pipeline.choices import OutputFormat
from unet_pipeline.cost import Stopwatch, added
from unet_pipeline.errors import CaseError
from unet_pipeline.gate.examine import Examined, Policy
from unet_pipeline.gate.findings import as_finding
from unet_pipeline.gate.inspect import filled, look_at_image, look_at_mask, read_reference
from unet_pipeline.inference.predictor import ModelSpec
from unet_pipeline.postprocessing import LabelStep
from unet_pipeline.records import Case, Part
from unet_pipeline.storage.claims import Claim
from unet_pipeline.storage.ledger import digest_object
from unet_pipeline.storage.sidecar import (
    InputDigest,
    RunFacts,
)
from unet_pipeline.storage.store import Store
from unet_pipeline.tiles import TileValues
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.tiling.plan import TilePlan
from unet_pipeline.tiling.planning import covered, make_plan, voxels_within
from unet_pipeline.volume.formats import objects_by_role
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
