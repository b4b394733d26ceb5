"""From stored image and mask pairs to training samples in the model space."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.errors import CaseError
from unet_pipeline.gate.examine import Policy, examine
from unet_pipeline.records import Case
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box
from unet_pipeline.training.crops import Sample
from unet_pipeline.volume.grid import VoxelGrid, orientation_to
from unet_pipeline.volume.preprocessing import parse_preprocessing
from unet_pipeline.volume.staging import read_labels, stage
from unet_pipeline.volume.steps import prepare
from unet_pipeline.volume.views import ArrayView

log = logging.getLogger(__name__)

Spacing = tuple[float, float, float]
MAX_LABEL = 255
_GEOMETRY = ("Orientationd", "Spacingd")
_FILE_BYTES = 4_000_000_000  # of one decoded volume; training keeps all cases in memory


@dataclass(frozen=True)
class SoundCase:
    """A case that passed the gate, and the grid of its image."""

    case: Case
    grid: VoxelGrid


def pass_gate(
    store: Store, cases: Iterable[Case]
) -> tuple[list[SoundCase], list[tuple[str, CaseError]]]:
    """Sort the cases into those to train on and those at fault, from their headers.

    Returns
    -------
    sound, faults
        Cases with an image and a mask on one grid and as many channels as the first such case;
        names of the others with their errors.
    """
    sound: list[SoundCase] = []
    faults: list[tuple[str, CaseError]] = []
    for case in cases:
        try:
            channels = len(sound[0].case.images) if sound else len(case.images)
            sound.append(_examined(store, case, channels))
        except CaseError as error:
            faults.append((case.name, error))
            log.warning("%s is left out of training (%s)", case.name, error.code)
    return sound, faults


def median_spacing_mm(grids: Iterable[VoxelGrid]) -> Spacing:
    """Return the median spacing along the world's axes (R, A, S), in mm, to 3 decimals."""
    spacings = [orientation_to(grid, "RAS").apply(grid).spacing_mm for grid in grids]
    x, y, z = (round(float(value), 3) for value in np.median(spacings, axis=0))
    return x, y, z


def load_sample(store: Store, case: Case, preprocessing: Sequence[Mapping[str, Any]]) -> Sample:
    """Read a case and bring image and mask into the model space.

    The mask takes the geometric steps only; where a step resamples, each voxel gets the label with
    the largest interpolated share.

    Raises
    ------
    CaseError
        As ``stage`` and ``read_labels``; ``labels_out_of_range`` for labels below 0 or over 255.
    """
    assert case.mask is not None  # noqa: S101  the gate has seen the mask
    staged = stage(store, case.images, parse_preprocessing(preprocessing), budget_bytes=_FILE_BYTES)
    mask_XYZ, _ = read_labels(store, case.mask, budget_bytes=_FILE_BYTES)
    low, high = int(mask_XYZ.min()), int(mask_XYZ.max())
    if low < 0 or high > MAX_LABEL:
        raise CaseError(
            "labels_out_of_range",
            found=f"labels from {low} to {high}",
            wanted=f"labels from 0 to {MAX_LABEL}",
            remedy="Renumber the labels of the mask",
            subject=case.name,
        )
    image_CXYZ = staged.model.read(Box.whole(staged.model.shape))
    labels_XYZ = model_labels(mask_XYZ, staged.prepared.native, preprocessing)
    return Sample(np.ascontiguousarray(image_CXYZ, dtype=np.float32), labels_XYZ)


def load_samples(
    store: Store, cases: Iterable[Case], preprocessing: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Sample | CaseError]]:
    """Yield each case's name with its sample, or with the error that keeps it out."""
    for case in cases:
        try:
            yield case.name, load_sample(store, case, preprocessing)
        except CaseError as error:
            log.warning("%s is left out of training (%s)", case.name, error.code)
            yield case.name, error


def model_labels(
    mask_XYZ: NDArray[Any], grid: VoxelGrid, preprocessing: Sequence[Mapping[str, Any]]
) -> NDArray[np.uint8]:
    """Bring a mask on ``grid`` into the model space, one label at a time."""
    geometry = [t for t in preprocessing if str(t["_target_"]).endswith(_GEOMETRY)]
    steps = parse_preprocessing(geometry)
    best = share = None
    for label in np.unique(mask_XYZ):
        view = ArrayView((mask_XYZ == label)[None])
        model = prepare(steps, view, grid).forward(view)
        candidate = model.read(Box.whole(model.shape))[0]
        if best is None or share is None:
            best, share = np.full(model.shape, label, dtype=np.uint8), candidate
        else:
            best[candidate > share] = label
            share = np.maximum(share, candidate)
    assert best is not None  # noqa: S101  a grid has at least one voxel
    return best


def _examined(store: Store, case: Case, channels: int) -> SoundCase:
    if not case.images or case.mask is None:
        raise CaseError(
            "pair_incomplete",
            found="a mask without an image" if case.mask else "an image without a mask",
            wanted="both, to train on",
            remedy="Add the missing file, or check how image and mask are named",
            subject=case.name,
        )
    if len(case.images) != channels:
        raise CaseError(
            "channels_mismatch",
            found=f"{len(case.images)} channels",
            wanted=f"{channels}, as the first case has",
            remedy="Give every case of the cohort the same channels",
            subject=case.name,
        )
    return SoundCase(case, examine(store, case, Policy()).sound_header().grid)
