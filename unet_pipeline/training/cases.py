"""From stored image and mask pairs to training samples in the model space."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.errors import CaseError
from unet_pipeline.gate.examine import Examined, Policy, examine
from unet_pipeline.gate.inspect import look_at_image, look_at_mask, read_mask
from unet_pipeline.records import Case
from unet_pipeline.storage.ledger import InputDigest
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box
from unet_pipeline.training.crops import Sample
from unet_pipeline.volume.grid import VoxelGrid, orientation_to
from unet_pipeline.volume.labels import model_labels
from unet_pipeline.volume.preprocessing import parse_preprocessing
from unet_pipeline.volume.staging import stage
from unet_pipeline.volume.steps import Prepared

log = logging.getLogger(__name__)

Spacing = tuple[float, float, float]
MAX_LABEL = 255
_FILE_BYTES = 4_000_000_000  # of one decoded volume; training keeps all cases in memory


@dataclass(frozen=True)
class SoundCase:
    """A case whose headers passed the gate, and the grid of its image."""

    case: Case
    grid: VoxelGrid
    examined: Examined


@dataclass(frozen=True)
class LoadedCase:
    """A case, read.

    Attributes
    ----------
    sample
        Image and labels in the model space.
    mask_XYZ
        The mask on the image's native grid.
    prepared
        The way between the two grids.
    inputs
        Digests of the files.
    warnings
        Codes of what the gate warns about.
    """

    sample: Sample
    mask_XYZ: NDArray[Any]
    prepared: Prepared
    inputs: tuple[InputDigest, ...]
    warnings: tuple[str, ...] = ()


def pass_gate(
    store: Store, cases: Iterable[Case], policy: Policy | None = None
) -> tuple[list[SoundCase], list[tuple[str, CaseError]]]:
    """Sort the cases into those to train on and those at fault, from their headers.

    Parameters
    ----------
    policy
        What the gate holds them against. Default: its usual tolerance, and no remedies.

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
            sound.append(_examined(store, case, channels, policy or Policy()))
        except CaseError as error:
            faults.append((case.name, error))
            log.warning("%s is left out of training (%s)", case.name, error.code)
    return sound, faults


def median_spacing_mm(grids: Iterable[VoxelGrid]) -> Spacing:
    """Return the median spacing along the world's axes (R, A, S), in mm, to 3 decimals."""
    spacings = [orientation_to(grid, "RAS").apply(grid).spacing_mm for grid in grids]
    x, y, z = (round(float(value), 3) for value in np.median(spacings, axis=0))
    return x, y, z


def load_case(
    store: Store,
    item: SoundCase,
    preprocessing: Sequence[Mapping[str, Any]],
    policy: Policy | None = None,
) -> LoadedCase:
    """Read a case, show its voxels to the gate, and bring image and mask into the model space.

    The mask takes the geometric steps only.

    Raises
    ------
    CaseError
        As ``stage`` and ``read_mask``; the first finding of the gate that fails;
        ``labels_out_of_range`` for labels below 0 or over 255.
    """
    policy, case = policy or Policy(), item.case
    assert case.mask is not None  # noqa: S101  the gate has seen the mask
    staged = stage(
        store,
        case.images,
        parse_preprocessing(preprocessing),
        budget_bytes=_FILE_BYTES,
        form=policy.form,
        allowed_voxels=policy.tolerance.affine_voxels,
    )
    grid, native = staged.header.grid, staged.native
    mask = read_mask(store, case.mask, grid, policy, _FILE_BYTES)
    _check_range(mask.values_XYZ, case.name)
    image_XYZ = native.inner[0].stored(Box.whole(native.shape))
    seen = look_at_image(native.inner)
    seen += look_at_mask(mask.values_XYZ, image_XYZ, grid, policy.labels, content=False)
    examined = item.examined.with_findings(seen)
    examined.sound_header()
    image_CXYZ = staged.model.read(Box.whole(staged.model.shape))
    mask_XYZ = mask.labels_XYZ.astype(np.uint8)
    return LoadedCase(
        Sample(
            np.ascontiguousarray(image_CXYZ, dtype=np.float32),
            model_labels(mask_XYZ, staged.prepared).astype(np.uint8),
        ),
        mask_XYZ,
        staged.prepared,
        (*staged.inputs, *mask.inputs),
        tuple(f.code for f in examined.findings if f.severity == "warn"),
    )


def load_samples(
    store: Store,
    cases: Iterable[SoundCase],
    preprocessing: Sequence[Mapping[str, Any]],
    policy: Policy | None = None,
) -> Iterator[tuple[str, Sample | CaseError]]:
    """Yield each case's name with its sample, or with the error that keeps it out."""
    for item in cases:
        try:
            yield item.case.name, load_case(store, item, preprocessing, policy).sample
        except CaseError as error:
            log.warning("%s is left out (%s)", item.case.name, error.code)
            yield item.case.name, error


def _check_range(mask_XYZ: NDArray[Any], case: str) -> None:
    low, high = float(mask_XYZ.min()), float(mask_XYZ.max())
    if low < 0 or high > MAX_LABEL:
        raise CaseError(
            "labels_out_of_range",
            found=f"labels from {low:g} to {high:g}",
            wanted=f"labels from 0 to {MAX_LABEL}",
            remedy="Renumber the labels of the mask",
            subject=case,
        )


def _examined(store: Store, case: Case, channels: int, policy: Policy) -> SoundCase:
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
    examined = examine(store, case, policy)
    return SoundCase(case, examined.sound_header().grid, examined)
