"""The gate on a case's files: headers by range request, then the pure checks.

Faults of the files become findings; nothing is raised but what concerns the whole store.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from unet_pipeline.errors import CaseError, PipelineError
from unet_pipeline.gate.alignment import Roles, check_same_grid
from unet_pipeline.gate.findings import (
    Finding,
    Fix,
    Tolerance,
    as_finding,
    gravest_first,
    verdict_of,
)
from unet_pipeline.gate.header import check_header
from unet_pipeline.records import Case, CheckRecord, Verdict
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.forms import Form
from unet_pipeline.volume.nifti_header import NiftiHeader
from unet_pipeline.volume.probe import MOST_BYTES, probe_header


@dataclass(frozen=True)
class Policy:
    """What the gate holds cases against, and what it may put right.

    Attributes
    ----------
    fixes
        Findings with one of these fixes do not fail a case: whoever reads the case then brings
        the volume onto the grid of the first channel, or takes that form of the header.
    channels
        Channels that the network takes; None if there is no network.
    labels
        Labels that a mask may hold; None for any.
    most_bytes
        Decoded bytes that a volume may claim to have.
    """

    tolerance: Tolerance = field(default_factory=Tolerance)
    fixes: frozenset[Fix] = frozenset()
    channels: int | None = None
    labels: frozenset[int] | None = None
    most_bytes: int = MOST_BYTES

    @property
    def form(self) -> Form | None:
        """The form to take where a header has both."""
        return "qform" if "qform" in self.fixes else "sform" if "sform" in self.fixes else None


@dataclass(frozen=True)
class Examined:
    """What the gate knows of a case.

    Attributes
    ----------
    header
        Header of the first channel, or None if it could not be read.
    bytes_read
        Bytes that were asked of the store.
    """

    case: str
    header: NiftiHeader | None
    findings: tuple[Finding, ...]
    bytes_read: int = 0

    @property
    def verdict(self) -> Verdict:
        """The worst finding: fail, warn or pass."""
        return verdict_of(self.findings)

    @property
    def fixed(self) -> tuple[str, ...]:
        """What is put right when the case is read, e.g. ``mask: reorient``."""
        return tuple(
            dict.fromkeys(f"{f.role}: {f.fix}" for f in self.findings if f.fix and f.fixed)
        )

    def sound_header(self) -> NiftiHeader:
        """Return the header of a case that may be segmented, or raise its first failure."""
        for finding in self.findings:
            if finding.severity == "fail":
                raise finding.as_error(self.case)
        assert self.header is not None  # noqa: S101  a case without one has failed
        return self.header

    def with_findings(self, more: Iterable[Finding], bytes_read: int = 0) -> "Examined":
        """Return what is known after a further look."""
        findings = gravest_first((*self.findings, *more))
        return replace(self, findings=findings, bytes_read=self.bytes_read + bytes_read)

    def record(self) -> CheckRecord:
        """Return one line of ``check --json``."""
        residuals = [f.residual_mm for f in self.findings if f.residual_mm is not None]
        return CheckRecord(
            case=self.case,
            verdict=self.verdict,
            codes=tuple(dict.fromkeys(finding.code for finding in self.findings)),
            residual_mm=max(residuals) if residuals else 0.0 if self.header else None,
            message=sentences(self.findings),
            findings=tuple(finding.as_dict() for finding in self.findings),
            fixed=self.fixed,
            bytes_read=self.bytes_read,
        )


def examine(store: Store, case: Case, policy: Policy) -> Examined:
    """Read the headers of a case and check them; faults of the files become findings."""
    found = _Headers(store, policy)
    findings = list(_contract(case, policy))
    for index, url in enumerate(case.images):
        role = "image" if len(case.images) == 1 else f"channel {index + 1}"
        findings += found.add(url, role)
    if case.mask is not None:
        findings += found.add(case.mask, "mask")
    settled = (_settled(finding, policy.fixes) for finding in findings)
    return Examined(case.name, found.first, gravest_first(settled), found.bytes_read)


def sentences(findings: tuple[Finding, ...]) -> str:
    """Return the findings that fail or warn as text for people."""
    return " ".join(str(f.as_error("")) for f in findings if f.severity != "pass")


class _Headers:
    """The headers of a case as they come; each is held against the first."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self.store, self.policy = store, policy
        self.first: NiftiHeader | None = None
        self.first_role = ""
        self.comparable = False
        self.bytes_read = 0

    def add(self, url: str, role: str) -> list[Finding]:
        """Read one header, and check it by itself and against the first."""
        tolerance = self.policy.tolerance
        try:
            probe = probe_header(self.store, url, self.policy.form, self.policy.most_bytes)
        except PipelineError as error:
            return [as_finding(error, role)]
        self.bytes_read += probe.bytes_read
        findings = check_header(probe.header, role, tolerance)
        if self.first is None:
            if role != "mask":
                self.first, self.first_role = probe.header, role
                self.comparable = not _unusable(findings)
        elif self.comparable and not _unusable(findings):
            roles = Roles(self.first_role, role)
            findings += check_same_grid(self.first.grid, probe.header.grid, tolerance, roles)
        return findings


def _unusable(findings: list[Finding]) -> bool:
    return any(f.code in {"affine_not_finite", "affine_singular"} for f in findings)


def _settled(finding: Finding, fixes: frozenset[Fix]) -> Finding:
    """Return a finding that is put right on request as a remark."""
    asked = {"sform", "qform"} if finding.fix == "sform" else {finding.fix}
    granted = [fix for fix in fixes if fix in asked]
    if not granted:
        return finding
    return replace(finding, severity="pass", fix=granted[0], fixed=True)


def _contract(case: Case, policy: Policy) -> Iterator[Finding]:
    if not case.images:
        yield as_finding(
            CaseError(
                "image_missing",
                found="no image",
                wanted="at least one channel",
                remedy="Add the image, or remove the mask",
            )
        )
    elif policy.channels is not None and len(case.images) != policy.channels:
        yield Finding(
            "channels_mismatch",
            "fail",
            f"{len(case.images)} channels",
            f"{policy.channels}, as the network takes",
            "Give the channels in one manifest row, separated by ';', or another bundle",
        )
