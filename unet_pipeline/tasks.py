"""The calls that run on workers, each a step of the data line for one case or one tile.

They are plain functions of plain values, so they can be pickled and run anywhere.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.cost import Stopwatch, added
from unet_pipeline.evaluation.metrics import dice_per_label
from unet_pipeline.gate.examine import Examined, Policy
from unet_pipeline.gate.inspect import look_at_image, look_at_mask, read_mask
from unet_pipeline.inference.predictor import ModelSpec
from unet_pipeline.report.overlay import overlay_png
from unet_pipeline.storage.ledger import InputDigest, digest_bytes
from unet_pipeline.storage.store import Store
from unet_pipeline.tiles import TileLabels, TileValues
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.tiling.decision import Labels
from unet_pipeline.tiling.plan import TilePlan
from unet_pipeline.tiling.planning import make_plan
from unet_pipeline.volume.layout import copy_into
from unet_pipeline.volume.nifti import encode_labels
from unet_pipeline.volume.staging import Staged, stage
from unet_pipeline.volume.steps import Prepared, Step
from unet_pipeline.volume.views import ShapeOnly, read_with_margin


@dataclass(frozen=True)
class VolumeJob:
    """Everything that one case asks of the workers.

    Attributes
    ----------
    images, mask, output
        URLs of the channels and of the reference mask; URL of the output without suffix.
    tile
        Native voxels of a tile; None for as large as ``memory_bytes`` allows.
    scratch
        Folder of this case for volumes over ``memory_bytes``, seen by all workers. It need not
        exist; it is removed with the case.
    record
        What the sidecar says beside what the run measures: versions, settings, digests.
    policy
        What the gate holds the case against.
    examined
        What the gate saw in the headers.
    content
        Whether to look if the mask lies on the anatomy.
    spent
        Seconds per stage that the case took before the workers.
    """

    case: str
    images: tuple[str, ...]
    mask: str | None
    output: str
    store: Store
    spec: ModelSpec
    steps: tuple[Step, ...]
    overlap: float
    tile: Index3 | None
    memory_bytes: int
    record: Mapping[str, Any]
    policy: Policy
    examined: Examined
    content: bool = False
    scratch: str | None = None
    spent: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StagedCase:
    """A case in a worker's memory or scratch, and its mask if there is one."""

    volume: Staged
    mask_XYZ: npt.NDArray[Any] | None
    mask_inputs: tuple[InputDigest, ...]
    examined: Examined
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Written:
    """The label map, joined and stored; bytes of it, and of it and the picture."""

    labels_sha256: str
    nbytes: int
    all_bytes: int
    inputs: tuple[InputDigest, ...]
    dice: Mapping[str, float | None] | None
    examined: Examined
    seconds: Mapping[str, float]


def stage_case(job: VolumeJob) -> StagedCase:
    """Read the channels and the mask of a case, and show their voxels to the gate.

    Raises
    ------
    CaseError
        The first finding that fails.
    """
    watch, policy = Stopwatch(), job.policy
    volume = stage(
        job.store,
        job.images,
        job.steps,
        budget_bytes=job.memory_bytes,
        scratch=job.scratch,
        form=policy.form,
        allowed_voxels=policy.tolerance.affine_voxels,
        most_bytes=policy.most_bytes,
    )
    watch.lap("stage")  # whose parts the volume knows
    examined = job.examined.with_findings(look_at_image(volume.native.inner))
    watch.lap("look")
    if job.mask is None:
        examined.sound_header()
        return StagedCase(volume, None, (), examined, _of_stages(volume, watch))
    mask = read_mask(job.store, job.mask, volume.header.grid, policy, job.memory_bytes)
    watch.lap("read")
    image_XYZ = volume.native.inner[0].stored(Box.whole(volume.native.shape))
    found = look_at_mask(
        mask.values_XYZ, image_XYZ, volume.header.grid, policy.labels, content=job.content
    )
    examined = examined.with_findings(found)
    examined.sound_header()
    watch.lap("look")
    return StagedCase(volume, mask.labels_XYZ, mask.inputs, examined, _of_stages(volume, watch))


def _of_stages(volume: Staged, watch: Stopwatch) -> dict[str, float]:
    beside = {name: value for name, value in watch.seconds.items() if name != "stage"}
    return added([volume.seconds, beside])


def remove_scratch(job: VolumeJob) -> None:
    """Remove the decoded volumes of a case from its scratch folder."""
    if job.scratch is not None:
        shutil.rmtree(job.scratch, ignore_errors=True)


def prepared_of(staged: StagedCase) -> Prepared:
    """Return the small part of a staged case that says where everything lies.

    Every merge is given it, so it must not hold what steps measured voxel by voxel.
    """
    return staged.volume.prepared.geometry


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


def read_tile(staged: StagedCase, frame: Box) -> TileValues:
    """Return what the network sees of the model voxels of ``frame``, zero outside the volume."""
    begin = perf_counter()
    values_CXYZ = read_with_margin(staged.volume.model, frame)
    return TileValues(values_CXYZ, perf_counter() - begin)


def finish_case(staged: StagedCase, tiles: Sequence[TileLabels], job: VolumeJob) -> Written:
    """Join the labels, score them, draw them, and store label map and picture."""
    volume, begin = staged.volume, perf_counter()
    labels_XYZ = np.zeros(volume.native.shape, dtype=tiles[0].labels_XYZ.dtype, order="F")
    for tile in tiles:
        part = tile.box.within(Box.whole(volume.native.shape))
        copy_into(labels_XYZ[part][None], tile.labels_XYZ[None])
    dice = _dice(labels_XYZ, staged.mask_XYZ, job)
    scored = perf_counter()
    figure = _figure(labels_XYZ, staged)
    drawn = perf_counter()
    data = encode_labels(labels_XYZ, volume.header)
    job.store.remove(f"{job.output}.json")  # the commit mark of what is now replaced
    job.store.write(f"{job.output}.nii.gz", data)
    job.store.write(f"{job.output}.png", figure)
    return Written(
        labels_sha256=digest_bytes(data),
        nbytes=len(data),
        all_bytes=len(data) + len(figure),
        inputs=(*volume.inputs, *staged.mask_inputs),
        dice=dice,
        examined=staged.examined,
        seconds={
            **staged.seconds,
            "merge": sum(tile.seconds for tile in tiles),
            "evaluate": scored - begin,
            "draw": drawn - scored,
            "write": perf_counter() - drawn,
        },
    )


def _dice(
    labels_XYZ: Labels, mask_XYZ: npt.NDArray[Any] | None, job: VolumeJob
) -> dict[str, float | None] | None:
    if mask_XYZ is None:
        return None
    wanted = job.spec.bundle.foreground
    return {str(k): v for k, v in dice_per_label(labels_XYZ, mask_XYZ, wanted).items()}


def _figure(labels_XYZ: Labels, staged: StagedCase) -> bytes:
    header, native = staged.volume.header, staged.volume.native
    return overlay_png(
        native.inner[0].stored(Box.whole(native.shape)),
        labels_XYZ,
        header.grid.spacing_mm,
        staged.mask_XYZ,
        axcodes=tuple(header.grid.axcodes),
    )
