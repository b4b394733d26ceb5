"""The gate with a look at the voxels, for ``check`` and for a case that is being segmented."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.errors import PipelineError
from unet_pipeline.gate.alignment import allowed_mm
from unet_pipeline.gate.content import content_finding, content_opinion
from unet_pipeline.gate.examine import Examined, Policy, examine
from unet_pipeline.gate.findings import NAN_IS, Finding, as_finding
from unet_pipeline.gate.voxels import check_body, check_mask_voxels
from unet_pipeline.records import Case, Part
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.storage.sidecar import InputDigest
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.versions import Versions
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.decoding import StoredView, read_volume
from unet_pipeline.volume.disk_arrays import IN_MEMORY, SHARE, Room, zeros
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.kept import KeptArray, each_box, for_others, opened
from unet_pipeline.volume.labels import LabelMapBuilder, as_labels, of_one_hot, without_steps
from unet_pipeline.volume.regrid import match_grid

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Mask:
    """A mask on its image's grid; values as they are in the file, not rounded.

    Attributes
    ----------
    values
        Shape XYZ: in memory, in a mapped file, or in scratch for other processes.
    room
        Where they may lie in this process.
    """

    values: Array | KeptArray
    inputs: tuple[InputDigest, ...]
    filled: int = 0
    room: Room = IN_MEMORY

    @property
    def is_real(self) -> bool:
        """Whether the values may be no integers."""
        return self.values.dtype.kind not in "iu"

    @property
    def values_XYZ(self) -> Array:  # noqa: N802
        """The values, in memory or in a mapped file."""
        return opened(self.values, self.room)

    @property
    def labels_XYZ(self) -> Array:  # noqa: N802
        """The values as integers."""
        return as_labels(self.values_XYZ)

    def for_others(self) -> "Mask":
        """Return the mask as it may be handed to other processes."""
        return replace(self, values=for_others(self.values, self.room.scratch))


def inspect(store: Store, case: Case, policy: Policy, *, content: bool) -> Examined:
    """Examine the headers of a case and, where they are sound, its voxels.

    Parameters
    ----------
    content
        Whether to look if the mask lies on the anatomy; takes up to some seconds.
    """
    examined = examine(store, case, policy)
    if examined.verdict == "fail":
        return examined
    with scratch_folder() as scratch:
        return _look(store, case, policy, examined, str(scratch), content=content)


def _look(
    store: Store, case: Case, policy: Policy, examined: Examined, scratch: str, *, content: bool
) -> Examined:
    role = "image"
    try:
        images = []
        for index, url in enumerate(case.images):
            role = "image" if len(case.images) == 1 else f"channel {index + 1}"
            images.append(
                read_volume(
                    store,
                    url,
                    role=role,
                    budget_bytes=policy.memory_bytes,
                    scratch=scratch,
                    form=policy.form,
                    most_bytes=policy.most_bytes,
                    versions=examined.versions,
                    axes=policy.axes_of(len(case.images)),
                    nan=policy.nan_in_images,
                )
            )
        first, grid = images[0].view, images[0].view.header.grid
        bytes_read = sum(digest.size for read in images for digest in read.inputs)
        examined = examined.with_findings(
            look_at_image([view for one in images for view in one.views], policy), bytes_read
        )
        if case.mask is None:
            return examined
        role = "mask"
        room, versions = Room(policy.memory_bytes, scratch), examined.versions
        mask = read_reference(store, case.mask, case.parts, grid, policy, room, versions)
    except PipelineError as error:
        return examined.with_findings([as_finding(error, role)])
    image_XYZ = first.sliced
    found = look_at_mask(mask.values_XYZ, image_XYZ, grid, policy.labels, content=content)
    found += filled("mask", mask.filled, "nan-to-zero")
    return examined.with_findings(found, sum(digest.size for digest in mask.inputs))


def look_at_image(channels: Sequence[StoredView], policy: Policy) -> list[Finding]:
    """Check what was seen of the channels' voxels while they were read."""
    findings = []
    for index, view in enumerate(channels):
        low, high = view.value_range
        role = "image" if len(channels) == 1 else f"channel {index + 1}"
        findings += filled(role, view.filled, policy.nan_fix)
        if low < high:
            continue
        findings.append(
            Finding(
                "image_constant",
                "fail",
                f"{role} whose voxels all have the value {low:g}",
                "an image with something on it",
                "Replace the file by a sound copy",
                role,
            )
        )
    return findings


def filled(role: str, voxels: int, fix: str | None) -> list[Finding]:
    """Return the remark on a file whose NaN were taken for a number, on request."""
    if not voxels or fix is None:
        return []
    said = {"nan-to-zero": "0", "nan-to-min": "its smallest value"}
    number = said.get(fix, fix.removeprefix(NAN_IS))
    return [
        Finding(
            "voxels_not_finite", "pass", f"{role} with {voxels:,} voxels that are NaN",
            "finite numbers", f"Nothing to do: they are taken as {number}", role, fix=fix,
            fixed=True,
        )
    ]  # fmt: skip


def read_mask(
    store: Store,
    url: str,
    grid: VoxelGrid,
    policy: Policy,
    room: Room,
    versions: Versions | None = None,
) -> Mask:
    """Read a mask that has passed the gate onto the image's grid.

    Raises
    ------
    CaseError
        As ``read_volume``.
    """
    allowed = allowed_mm(grid, policy.tolerance)
    with scratch_folder(room.beside) as scratch:
        read = read_volume(
            store, url, role="mask", budget_bytes=int(room.budget_bytes / SHARE),
            scratch=str(scratch), form=policy.form, most_bytes=policy.most_bytes, versions=versions,
            nan=policy.nan_in_masks,
            axes=policy.axes_of_masks,
        )  # fmt: skip
        header = read.view.header
        volumes = [_whole_values(view, room) for view in read.views]
        values_XYZ = volumes[0] if len(volumes) == 1 else of_one_hot(volumes)
        values_XYZ = match_grid(values_XYZ, header.grid, grid, allowed, "nearest")
    return Mask(values_XYZ, read.inputs, read.view.filled, room)


def _whole_values(view: StoredView, room: Room) -> Array:
    """Return the values of a volume of a mask; labels that were stored in steps are whole."""
    header = view.header
    if header.is_plain and view.kept is None:
        return view.values()
    step = abs(header.slope) if header.dtype.kind in "iu" else 0.0
    kind = header.dtype.newbyteorder("=") if header.is_plain else np.dtype(np.float32)
    values_XYZ = zeros(view.shape, kind, room)
    for part in each_box(values_XYZ):
        box = Box.of(part)
        read_XYZ = view.stored(box) if header.is_plain else view.read(box)[0]
        values_XYZ[part] = without_steps(read_XYZ, step)
    return values_XYZ


def read_reference(
    store: Store,
    url: str,
    parts: Sequence[Part],
    grid: VoxelGrid,
    policy: Policy,
    room: Room,
    versions: Versions | None = None,
) -> Mask:
    """Read a mask in one file, or join one that has a file for each structure.

    Raises
    ------
    CaseError
        As ``read_mask``; ``mask_not_one_hot`` for a part with other values than 0 and 1,
        ``mask_parts_overlap`` for a voxel of two parts.
    """
    if not parts:
        return read_mask(store, url, grid, policy, room, versions)
    builder = LabelMapBuilder(grid.shape, room)
    inputs: list[InputDigest] = []
    filled_voxels = 0
    for part in parts:
        one = read_mask(store, part.url, grid, policy, room, versions)
        builder.add(part.label, part.name, one.values_XYZ)
        named = (replace(i, role=i.role.replace("mask", f"mask{part.label}")) for i in one.inputs)
        inputs += named
        filled_voxels += one.filled
    return Mask(builder.labels_XYZ, tuple(inputs), filled_voxels, room)


def look_at_mask(
    mask_XYZ: Array,
    image_XYZ: Array,
    grid: VoxelGrid,
    labels: Collection[int] | None,
    *,
    content: bool,
) -> list[Finding]:
    """Check the voxels of a mask that lies on the image's grid.

    Parameters
    ----------
    mask_XYZ, image_XYZ
        Values as stored, of one shape; of the image only what is sliced is read.
    labels
        Labels that the mask may hold; None for any.
    content
        Whether to look if the mask lies on the anatomy.
    """
    axcodes = tuple(grid.axcodes)
    findings = list(check_mask_voxels(mask_XYZ, labels, grid.spacing_mm, axcodes=axcodes))
    if any(f.severity == "fail" or f.code == "mask_empty" for f in findings):
        return findings
    labels_XYZ = as_labels(mask_XYZ)
    findings += check_body(image_XYZ, labels_XYZ, grid.spacing_mm)
    if content:
        opinion = content_opinion(image_XYZ, labels_XYZ, grid.spacing_mm, axcodes=axcodes)
        doubt = content_finding(opinion) if opinion is not None else None
        findings += [doubt] if doubt is not None else []
    return findings
