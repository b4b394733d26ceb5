"""The gate on a case's files: headers by range request, then the pure checks of ``alignment``."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_pipeline.errors import CaseError, PipelineError
from unet_pipeline.gate.alignment import check_grid, check_same_grid
from unet_pipeline.gate.findings import Finding, Tolerance, as_finding, verdict_of
from unet_pipeline.records import Case, Verdict
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.nifti import NiftiHeader
from unet_pipeline.volume.staging import read_header, read_volume

MASK_BYTES = 2_000_000_000  # of a mask that must be read because its header does not say integer


@dataclass(frozen=True)
class Examined:
    """What the gate knows of a case.

    Attributes
    ----------
    header
        Header of the first channel, or None if it could not be read.
    """

    case: str
    header: NiftiHeader | None
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst finding: fail, warn or pass."""
        return verdict_of(self.findings)

    def sound_header(self) -> NiftiHeader:
        """Return the header of a case that may be segmented, or raise its first failure."""
        for finding in self.findings:
            if finding.severity == "fail":
                raise finding.as_error(self.case)
        if self.header is None:
            raise CaseError(
                "image_missing",
                subject=self.case,
                found="no image",
                wanted="at least one channel",
                remedy="Add the image, or remove the mask",
            )
        return self.header

    def as_dict(self) -> dict[str, Any]:
        """Return one line of ``check --json``."""
        residuals = [f.residual_mm for f in self.findings if f.residual_mm is not None]
        return {
            "case": self.case,
            "verdict": self.verdict,
            "codes": [finding.code for finding in self.findings],
            "residual_mm": max(residuals) if residuals else 0.0 if self.header else None,
            "message": " ".join(str(f.as_error("")) for f in self.findings),
        }


def examine(store: Store, case: Case, tolerance: Tolerance) -> Examined:
    """Read the headers of a case and check them; faults of the files become findings.

    Voxels are read only of a mask whose header cannot promise integers.
    """
    header: NiftiHeader | None = None
    findings: list[Finding] = []
    try:
        for index, url in enumerate(case.images):
            role = "image" if len(case.images) == 1 else f"channel {index + 1}"
            current = read_header(store, url)
            findings += check_grid(current.grid, role)
            if header is not None and not findings:
                findings += check_same_grid(
                    header.grid, current.grid, tolerance, first_role="channel 1", second_role=role
                )
            header = header or current
        if case.mask is not None and header is not None and not findings:
            findings += _check_mask(store, case.mask, header, tolerance)
    except PipelineError as error:
        findings.append(as_finding(error))
    return Examined(case.name, header, tuple(findings))


def _check_mask(store: Store, url: str, image: NiftiHeader, tolerance: Tolerance) -> list[Finding]:
    try:
        mask = read_header(store, url)
        findings = check_grid(mask.grid, "mask") or check_same_grid(
            image.grid, mask.grid, tolerance, first_role="image", second_role="mask"
        )
        return findings if findings or mask.is_integer else _check_labels(store, url)
    except PipelineError as error:
        return [as_finding(error, "mask")]


def _check_labels(store: Store, url: str) -> list[Finding]:
    view, _ = read_volume(store, url, role="mask", budget_bytes=MASK_BYTES)
    values = view.read(Box.whole(view.shape))
    odd = int(np.count_nonzero(values != np.rint(values)))
    if odd == 0:
        return []
    return [
        Finding(
            "mask_not_integer",
            "fail",
            f"{odd:,} mask voxels whose value is not a whole number",
            "label numbers",
            "Resample the mask with nearest neighbour, or threshold it",
        )
    ]
