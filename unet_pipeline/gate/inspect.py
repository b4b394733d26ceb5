"""The gate with a look at the voxels: of a cohort under audit, and of a case being segmented."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy.typing as npt

from unet_pipeline.errors import PipelineError
from unet_pipeline.gate.alignment import allowed_mm
from unet_pipeline.gate.content import content_finding, content_opinion
from unet_pipeline.gate.examine import Examined, Policy, examine
from unet_pipeline.gate.findings import Finding, as_finding
from unet_pipeline.gate.voxels import check_body, check_mask_voxels
from unet_pipeline.records import Case
from unet_pipeline.storage.ledger import InputDigest
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.regrid import conformed
from unet_pipeline.volume.staging import StoredView, as_labels, read_volume

Array = npt.NDArray[Any]
BUDGET_BYTES = 16_000_000_000  # of one decoded file


@dataclass(frozen=True)
class Mask:
    """A mask on its image's grid; values as they are in the file, not rounded."""

    values_XYZ: Array
    inputs: tuple[InputDigest, ...]

    @property
    def labels_XYZ(self) -> Array:  # noqa: N802
        """The values as integers."""
        return as_labels(self.values_XYZ)


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
    with TemporaryDirectory(prefix="unet-pipeline-") as scratch:
        return _look(store, case, policy, examined, scratch, content=content)


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
                    budget_bytes=BUDGET_BYTES,
                    scratch=scratch,
                    form=policy.form,
                    most_bytes=policy.most_bytes,
                )
            )
        first, grid = images[0].view, images[0].view.header.grid
        bytes_read = sum(digest.size for read in images for digest in read.inputs)
        examined = examined.with_findings(look_at_image([i.view for i in images]), bytes_read)
        if case.mask is None:
            return examined
        role = "mask"
        mask = read_mask(store, case.mask, grid, policy, BUDGET_BYTES)
    except PipelineError as error:
        return examined.with_findings([as_finding(error, role)])
    image_XYZ = first.stored(Box.whole(first.shape))
    found = look_at_mask(mask.values_XYZ, image_XYZ, grid, policy.labels, content=content)
    return examined.with_findings(found, sum(digest.size for digest in mask.inputs))


def look_at_image(channels: Sequence[StoredView]) -> list[Finding]:
    """Check what was seen of the channels' voxels while they were read."""
    findings = []
    for index, view in enumerate(channels):
        low, high = view.value_range
        if low < high:
            continue
        role = "image" if len(channels) == 1 else f"channel {index + 1}"
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


def read_mask(store: Store, url: str, grid: VoxelGrid, policy: Policy, budget_bytes: int) -> Mask:
    """Read a mask that has passed the gate onto the image's grid.

    Raises
    ------
    CaseError
        As ``read_volume``.
    """
    allowed = allowed_mm(grid, policy.tolerance)
    with TemporaryDirectory(prefix="unet-pipeline-") as scratch:
        read = read_volume(
            store, url, role="mask", budget_bytes=budget_bytes, scratch=scratch, form=policy.form,
            most_bytes=policy.most_bytes,
        )  # fmt: skip
        values_XYZ = conformed(read.view.values(), read.view.header.grid, grid, allowed, "nearest")
    return Mask(values_XYZ, read.inputs)


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
        Values as stored, of one shape.
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
