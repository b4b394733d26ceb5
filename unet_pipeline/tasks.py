"""The calls that run on workers, each a step of the data line for one case or one tile.

They are plain functions of plain values, so they can be pickled and run anywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.evaluation.metrics import dice_per_label
from unet_pipeline.gate.examine import Examined, Policy
from unet_pipeline.gate.inspect import look_at_image, look_at_mask, read_mask
from unet_pipeline.inference.importance import importance_map
from unet_pipeline.inference.predictor import ModelSpec, predictor_for
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.report.overlay import overlay_png
from unet_pipeline.storage.ledger import InputDigest, digest_bytes
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.tiling.decision import Labels
from unet_pipeline.tiling.merge import Partial, merged_scores, weight_sum
from unet_pipeline.tiling.plan import Tile, TilePlan, make_plan
from unet_pipeline.volume.nifti import encode_labels
from unet_pipeline.volume.staging import Staged, stage
from unet_pipeline.volume.steps import Prepared, Step, covered_box
from unet_pipeline.volume.views import ArrayView, Voxels, read_with_margin


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
        Folder for volumes over ``memory_bytes``, seen by all workers.
    record
        What the sidecar says beside what the run measures: versions, settings, digests.
    policy
        What the gate holds the case against.
    examined
        What the gate saw in the headers.
    content
        Whether to look if the mask lies on the anatomy.
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


@dataclass(frozen=True)
class StagedCase:
    """A case in a worker's memory or scratch, and its mask if there is one."""

    volume: Staged
    mask_XYZ: npt.NDArray[Any] | None
    mask_inputs: tuple[InputDigest, ...]
    examined: Examined
    seconds: float


@dataclass(frozen=True)
class TileScores:
    """What one tile computed: a partial for each tile that its windows reach into."""

    partials: Mapping[int, Partial]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class TileLabels:
    """The labels of one write box, shape XYZ."""

    box: Box
    labels_XYZ: Labels
    seconds: float


@dataclass(frozen=True)
class Written:
    """The label map, joined and stored."""

    labels_sha256: str
    nbytes: int
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
    begin, policy = perf_counter(), job.policy
    volume = stage(
        job.store,
        job.images,
        job.steps,
        budget_bytes=job.memory_bytes,
        scratch=job.scratch,
        form=policy.form,
        allowed_voxels=policy.tolerance.affine_voxels,
    )
    examined = job.examined.with_findings(look_at_image(volume.native.inner))
    if job.mask is None:
        examined.sound_header()
        return StagedCase(volume, None, (), examined, perf_counter() - begin)
    mask = read_mask(job.store, job.mask, volume.header.grid, policy, job.memory_bytes)
    image_XYZ = volume.native.inner[0].stored(Box.whole(volume.native.shape))
    found = look_at_mask(
        mask.values_XYZ, image_XYZ, volume.header.grid, policy.labels, content=job.content
    )
    examined = examined.with_findings(found)
    examined.sound_header()
    return StagedCase(volume, mask.labels_XYZ, mask.inputs, examined, perf_counter() - begin)


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
        needs=lambda box: covered_box(prepared, box),
        roi_size=job.spec.roi_size,
        overlap=job.overlap,
        channels=job.spec.bundle.in_channels,
        classes=job.spec.bundle.out_channels,
        placement=job.spec.bundle.placement,
        tile_shape=job.tile,
        budget_bytes=job.memory_bytes,
        label_bytes=job.spec.bundle.label_type.itemsize,
    )


def read_tile(staged: StagedCase, frame: Box) -> Voxels:
    """Return what the network sees of the model voxels of ``frame``, zero outside the volume."""
    return read_with_margin(staged.volume.model, frame)


def score_tile(
    values_CXYZ: Voxels,
    frame: Box,
    windows: Sequence[Index3],
    targets: Mapping[int, Box],
    spec: ModelSpec,
) -> TileScores:
    """Run the windows of one tile and cut the sums for each tile that needs some of them."""
    sums_CXYZ, seconds = predictor_for(spec).score(values_CXYZ, frame, windows)
    partials = {}
    for target, score_box in targets.items():
        box = frame.intersect(score_box)
        partials[target] = Partial(box, sums_CXYZ[(slice(None), *box.within(frame))].copy())
    return TileScores(partials, seconds)


def take_partial(scores: TileScores, target: int) -> Partial:
    """Return the partial for one tile, so that only this part travels to it."""
    return scores.partials[target]


def take_seconds(scores: TileScores) -> Mapping[str, float]:
    """Return the seconds that a tile took."""
    return scores.seconds


def merge_tile(
    prepared: Prepared,
    tile: Tile,
    windows: Sequence[Index3],
    partials: Sequence[Partial],
    spec: ModelSpec,
) -> TileLabels:
    """Add the partials of a tile, bring its scores to the native grid, and decide its labels.

    Parameters
    ----------
    windows
        First voxel of every window that reaches into the tile's score box.
    """
    begin, bundle = perf_counter(), spec.bundle
    if not partials:
        labels_XYZ = np.full(tile.write_box.shape, _label_outside(bundle), bundle.label_type)
        return TileLabels(tile.write_box, labels_XYZ, perf_counter() - begin)
    weight_XYZ = weight_sum(tile.score_box, windows, importance_map(spec.roi_size, spec.blend))

    def native_scores(index: int) -> Voxels:
        merged_XYZ = merged_scores(tile.score_box, partials, weight_XYZ, index)
        model_XYZ = bundle.decision.before_resampling(merged_XYZ)
        view = ArrayView(model_XYZ[None], tile.score_box, prepared.model.shape)
        scores_XYZ: Voxels = prepared.backward(view).read(tile.write_box)[0]
        return scores_XYZ

    scores_of_channels = map(native_scores, range(bundle.out_channels))
    labels_XYZ = bundle.decision.decide(scores_of_channels, bundle.label_type)
    return TileLabels(tile.write_box, labels_XYZ, perf_counter() - begin)


def _label_outside(bundle: Bundle) -> int:
    """Return the label of voxels that the preprocessing cropped away: of 0 in every channel."""
    nothing = (np.zeros((1, 1, 1), np.float32) for _ in range(bundle.out_channels))
    return int(bundle.decision.decide(nothing, bundle.label_type).item())


def finish_case(staged: StagedCase, tiles: Sequence[TileLabels], job: VolumeJob) -> Written:
    """Join the labels, score them, draw them, and store label map and picture."""
    volume, begin = staged.volume, perf_counter()
    labels_XYZ = np.zeros(volume.native.shape, dtype=tiles[0].labels_XYZ.dtype, order="F")
    for tile in tiles:
        labels_XYZ[tile.box.within(Box.whole(volume.native.shape))] = tile.labels_XYZ
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
        inputs=(*volume.inputs, *staged.mask_inputs),
        dice=dice,
        examined=staged.examined,
        seconds={
            "read": staged.seconds,
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
