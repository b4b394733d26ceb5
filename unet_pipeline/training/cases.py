"""From stored image and mask pairs to training samples in the model space."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.errors import CaseError
from unet_pipeline.gate.examine import Examined, Policy, examine
from unet_pipeline.gate.inspect import look_at_image, look_at_mask, read_reference
from unet_pipeline.gate.workload import check_workload
from unet_pipeline.records import Case
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.storage.faults import of_case
from unet_pipeline.storage.outage import stop_for
from unet_pipeline.storage.sidecar import InputDigest
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box
from unet_pipeline.training.crops import Sample
from unet_pipeline.volume.axes import ANY_NUMBER
from unet_pipeline.volume.disk_arrays import Room
from unet_pipeline.volume.grid import VoxelGrid, orientation_to
from unet_pipeline.volume.labels import model_labels
from unet_pipeline.volume.preprocessing import parse_preprocessing
from unet_pipeline.volume.staging import decode, stage
from unet_pipeline.volume.steps import Prepared

log = logging.getLogger(__name__)

Spacing = tuple[float, float, float]
MAX_LABEL = 255


@dataclass(frozen=True)
class SoundCase:
    """A case whose headers passed the gate, and the grid of its image."""

    case: Case
    grid: VoxelGrid
    examined: Examined

    @property
    def channels(self) -> int:
        """Channels of the image: one a file, or all in one file."""
        return self.examined.channels_of(self.case)


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
    store: Store,
    cases: Iterable[Case],
    policy: Policy | None = None,
    read: Sequence[str | None] = (),
) -> tuple[list[SoundCase], list[tuple[str, CaseError]]]:
    """Sort the cases into those to train on and those at fault, from their headers.

    Parameters
    ----------
    policy
        What the gate holds them against. Default: its usual tolerance, and no remedies.
    read
        Prefixes that the cases lie below: where one of them fails, no case is at fault.

    Raises
    ------
    RunStopped
        For a fault of the store that concerns all cases.

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
            channels = sound[0].channels if sound else None
            with of_case(case.name):
                sound.append(_examined(store, case, channels, policy or Policy()))
        except CaseError as error:
            stop_for(store, error, read)
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
        As ``stage`` and ``read_reference``; the first finding of the gate that fails;
        ``labels_out_of_range`` for labels below 0 or over 255.
    """
    with of_case(item.case.name), scratch_folder() as scratch:
        return _load(store, item, preprocessing, policy or Policy(), str(scratch))


def _load(
    store: Store,
    item: SoundCase,
    preprocessing: Sequence[Mapping[str, Any]],
    policy: Policy,
    scratch: str,
) -> LoadedCase:
    case = item.case
    assert case.mask is not None  # noqa: S101  the gate has seen the mask
    if policy.layout is not None:
        item.examined.with_findings(
            check_workload(item.grid, policy.layout, policy.most_bytes)
        ).sound_header()
    decoded = decode(
        store,
        case.images,
        budget_bytes=policy.memory_bytes,
        scratch=scratch,
        form=policy.form,
        allowed_voxels=policy.tolerance.affine_voxels,
        most_bytes=policy.most_bytes,
        versions=item.examined.versions,
        axes=replace(policy, file_channels=item.channels).axes_of(len(case.images)),
        nan=policy.nan_in_images,
    )
    staged = stage(decoded, parse_preprocessing(preprocessing), policy.memory_bytes)
    grid, native = staged.header.grid, staged.native
    versions = item.examined.versions
    room = Room(policy.memory_bytes, scratch)
    mask = read_reference(store, case.mask, case.parts, grid, policy, room, versions)
    _check_range(mask.values_XYZ, case.name)
    image_XYZ = native.inner[0].stored(Box.whole(native.shape))
    seen = look_at_image(native.inner, policy)
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
    read: Sequence[str | None] = (),
) -> Iterator[tuple[str, Sample | CaseError]]:
    """Yield each case's name with its sample, or with the error that keeps it out.

    Parameters and errors as of ``pass_gate``.
    """
    for item in cases:
        try:
            yield item.case.name, load_case(store, item, preprocessing, policy).sample
        except CaseError as error:
            stop_for(store, error, read)
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


def _examined(store: Store, case: Case, channels: int | None, policy: Policy) -> SoundCase:
    """Show a case to the gate; its channels must be as many as the first case has, if given."""
    if not case.images or case.mask is None:
        raise CaseError(
            "pair_incomplete",
            found="a mask without an image" if case.mask else "an image without a mask",
            wanted="both, to train on",
            remedy="Add the missing file, or check how image and mask are named",
            subject=case.name,
        )
    if len(case.images) > 1:
        _check_channels(case, len(case.images), channels)
    number = channels or policy.file_channels or ANY_NUMBER
    examined = examine(store, case, replace(policy, file_channels=number))
    item = SoundCase(case, examined.sound_header().grid, examined)
    _check_channels(case, item.channels, channels)
    return item


def _check_channels(case: Case, found: int, wanted: int | None) -> None:
    if wanted is not None and found != wanted:
        raise CaseError(
            "channels_mismatch",
            found=f"{found} channels",
            wanted=f"{wanted}, as the first case has",
            remedy="Give every case of the cohort the same channels",
            subject=case.name,
        )
