"""What the gate says: findings with a reason code, a residual, a tolerance and a remedy."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from unet_pipeline.errors import CaseError, PipelineError
from unet_pipeline.records import Verdict

Fix = Literal[
    "reorient",
    "resample-mask",
    "resample-channels",
    "sform",
    "qform",
    "nan-to-zero",
    "onehot",
    "nan-to-min",
]
NAN_IS = "nan="  # and a number: what NaN in an image stands for


@dataclass(frozen=True)
class Finding:
    """One thing that the gate saw.

    Attributes
    ----------
    code
        Reason code in ``snake_case``, stable across releases.
    severity
        ``fail`` quarantines the case, ``warn`` asks for a look, ``pass`` is a remark.
    found, wanted, remedy
        As in ``PipelineError``: what was found and wanted, with units, and what to do.
    role
        Of which file: ``image``, ``channel 2``, ``mask``.
    residual_mm, tolerance_mm
        How far apart the grids are and may be, in mm; None where no distance says it.
    fix
        The fix that puts it right on request, or None if there is none; one of ``Fix``,
        ``nan=V`` or ``volume=N``.
    fixed
        Whether it was requested; then the finding is a remark.
    """

    code: str
    severity: Verdict
    found: str
    wanted: str
    remedy: str
    role: str = "image"
    residual_mm: float | None = None
    tolerance_mm: float | None = None
    fix: str | None = None
    fixed: bool = False

    def as_error(self, case: str) -> CaseError:
        """Return the finding as the error that quarantines ``case``."""
        return CaseError(
            self.code, found=self.found, wanted=self.wanted, remedy=self.remedy, subject=case
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Tolerance:
    """What the gate lets pass. All numbers were held against real archives (``docs/check.md``).

    Attributes
    ----------
    affine_voxels
        Largest displacement of any corner, in voxels of the smallest spacing. Headers keep
        affines as float32, so sound pairs written by different tools differ by up to about 1e-3.
    forms_voxels
        The same between the qform and the sform of one header: a quaternion rounds more.
    spacing_mm
        Smallest and largest plausible distance of voxels, in mm.
    extent_mm
        Largest plausible length of a volume along an axis, in mm.
    """

    affine_voxels: float = 0.05
    forms_voxels: float = 0.1
    spacing_mm: tuple[float, float] = (0.01, 50.0)
    extent_mm: float = 3000.0


def verdict_of(findings: Sequence[Finding]) -> Verdict:
    """Return the worst severity: fail, warn or pass."""
    severities = {finding.severity for finding in findings}
    return "fail" if "fail" in severities else "warn" if "warn" in severities else "pass"


def gravest_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings in the order of their severity; otherwise the order stays."""
    return tuple(
        sorted(findings, key=lambda finding: ("fail", "warn", "pass").index(finding.severity))
    )


def as_finding(error: PipelineError, role: str = "image") -> Finding:
    """Return a fault of a file as a finding that fails the case."""
    said = role == "image" or error.found.startswith(role)
    found = error.found if said else f"{role}: {error.found}"
    return Finding(error.code, "fail", found, error.wanted, error.remedy, role)
