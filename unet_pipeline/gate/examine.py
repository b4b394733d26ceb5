"""The gate on a case's files: headers by range request, then the pure checks.

Faults of the files become findings; nothing is raised but what concerns the whole store.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

from unet_pipeline.errors import CaseError, PipelineError
from unet_pipeline.gate.alignment import Roles, check_same_grid
from unet_pipeline.gate.findings import (
    NAN_IS,
    Finding,
    Tolerance,
    as_finding,
    gravest_first,
    verdict_of,
)
from unet_pipeline.gate.header import check_header
from unet_pipeline.gate.workload import Layout, check_slice, check_workload
from unet_pipeline.records import Case, CheckRecord, Verdict
from unet_pipeline.storage.fingerprint import Fingerprint
from unet_pipeline.storage.outage import SUSPECT
from unet_pipeline.storage.sidecar import GateNote, MaskFault
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.versions import Versions
from unet_pipeline.volume.axes import ANY_NUMBER, Axes
from unet_pipeline.volume.decoding import NanRule
from unet_pipeline.volume.forms import Form
from unet_pipeline.volume.header import Header
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
        Decoded bytes that a volume may claim to have, and again as the network sees it.
    needs_mask
        Whether a fault of the mask is one of the case; else it only goes without a mask.
    memory_bytes
        Memory for one decoded volume; what is over it goes to scratch.
    layout
        How the network's windows will lie; None if there is no network.
    file_channels
        Channels that one file may hold along its fourth axis, or ``ANY_NUMBER``; None for as many
        as the network takes.
    volume
        The volume to take of a time series, counted from 0.
    flat
        Whether a file of two axes is one slice.
    level
        The level to take of a file that has its voxels at several, 0 for the finest.
    first_layout
        How the windows of a first stage lie, if there is one.
    """

    tolerance: Tolerance = field(default_factory=Tolerance)
    fixes: frozenset[str] = frozenset()
    channels: int | None = None
    labels: frozenset[int] | None = None
    most_bytes: int = MOST_BYTES
    memory_bytes: int = 2_000_000_000
    layout: Layout | None = None
    needs_mask: bool = True
    file_channels: int | None = None
    volume: int | None = None
    flat: bool = False
    level: int = 0
    first_layout: Layout | None = None

    def axes_of(self, files: int) -> Axes:
        """Return what an image may have instead of three axes, of a case of so many files."""
        of_network = 1 if self.layout is None else self.layout.channels
        channels = (self.file_channels or of_network) if files == 1 else 1
        return Axes(channels, self.volume, self.flat, level=self.level)

    @property
    def nan_fix(self) -> str | None:
        """The fix of NaN in images: ``nan-to-min``, ``nan=V`` or None."""
        return next((f for f in self.fixes if f == "nan-to-min" or f.startswith(NAN_IS)), None)

    @property
    def nan_in_images(self) -> NanRule:
        """What NaN in an image stands for."""
        if self.nan_fix is None:
            return None
        return "min" if self.nan_fix == "nan-to-min" else float(self.nan_fix.removeprefix(NAN_IS))

    @property
    def axes_of_masks(self) -> Axes:
        """What a mask may have instead of three axes: a volume for each label, or for each time."""
        if "onehot" in self.fixes:
            return Axes(ANY_NUMBER, flat=self.flat, level=self.level)
        return Axes(1, self.volume, self.flat, optional=True, level=self.level)

    @property
    def nan_in_masks(self) -> NanRule:
        """What NaN in a mask stands for."""
        return 0.0 if "nan-to-zero" in self.fixes else None

    @property
    def form(self) -> Form | None:
        """The form to take where a header has both."""
        return "qform" if "qform" in self.fixes else "sform" if "sform" in self.fixes else None


# Faults that are not of the file itself: they may pass, or concern every case.
_MAY_PASS = (SUSPECT - {"file_missing"}) | {"input_changed", "scratch_full"}


@dataclass(frozen=True)
class Examined:
    """What the gate knows of a case.

    Attributes
    ----------
    header
        Header of the first channel, or None if it could not be read.
    bytes_read
        Bytes that were asked of the store.
    versions
        Of each file as it was seen: whoever reads on reads these or none.
    mask_fault
        What is wrong with the mask, where the case goes on without one.
    """

    case: str
    header: Header | None
    findings: tuple[Finding, ...]
    bytes_read: int = 0
    versions: Versions = field(default_factory=dict)
    mask_fault: Finding | None = None

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

    @property
    def note(self) -> GateNote:
        """What the sidecar says of the gate; whoever reads it later need not ask again."""
        said = self.record()
        return GateNote(said.verdict, said.codes, said.residual_mm, said.message, said.fixed)

    @property
    def mask_note(self) -> MaskFault | None:
        """Why the case goes on without its mask, in words; None if it does not."""
        fault = self.mask_fault
        return None if fault is None else MaskFault(fault.code, str(fault.as_error(self.case)))

    def sound_header(self) -> Header:
        """Return the header of a case that may be segmented, or raise its first failure."""
        for finding in self.findings:
            if finding.severity == "fail":
                raise finding.as_error(self.case)
        assert self.header is not None  # noqa: S101  a case without one has failed
        return self.header

    def channels_of(self, case: Case) -> int:
        """Return the channels of a case: its files, or the volumes of the only one."""
        return max(len(case.images), 1 if self.header is None else self.header.volumes)

    def apart_from_mask(self) -> "Examined":
        """Return what is known where a fault of the mask costs the Dice, and not the case."""
        faults = [f for f in self.findings if f.role == "mask" and f.severity == "fail"]
        if not faults or any(fault.code in _MAY_PASS for fault in faults):
            return self
        rest = tuple(finding for finding in self.findings if finding.role != "mask")
        return replace(self, findings=rest, mask_fault=self.mask_fault or faults[0])

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
    findings: list[Finding] = []
    for index, url in enumerate(case.images):
        role = "image" if len(case.images) == 1 else f"channel {index + 1}"
        findings += found.add(url, role, policy.axes_of(len(case.images)))
    findings = [*_contract(case, policy, found.first), *findings]
    for url in case.mask_files:
        findings += found.add(url, "mask", policy.axes_of_masks)
    findings += _joined(case)
    findings += found.workload()
    settled = (_settled(finding, policy.fixes) for finding in findings)
    read, seen = found.bytes_read, found.versions
    examined = Examined(case.name, found.first, gravest_first(settled), read, seen)
    return examined if policy.needs_mask else examined.apart_from_mask()


def sentences(findings: tuple[Finding, ...]) -> str:
    """Return the findings that fail or warn as text for people."""
    return " ".join(str(f.as_error("")) for f in findings if f.severity != "pass")


class _Headers:
    """The headers of a case as they come; each is held against the first."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self.store, self.policy = store, policy
        self.first: Header | None = None
        self.first_role = ""
        self.comparable = False
        self.bytes_read = 0
        self.versions: dict[str, Fingerprint] = {}

    def add(self, url: str, role: str, axes: Axes) -> list[Finding]:
        """Read one header, and check it by itself and against the first."""
        tolerance = self.policy.tolerance
        try:
            policy = self.policy
            probe = probe_header(self.store, url, policy.form, policy.most_bytes, axes)
        except PipelineError as error:
            return [as_finding(error, role)]
        self.bytes_read += probe.bytes_read
        self.versions |= probe.versions
        findings = check_header(probe.header, role, tolerance)
        findings += [*_several(probe.header, role)]
        if self.first is None:
            if role != "mask":
                self.first, self.first_role = probe.header, role
                self.comparable = not _unusable(findings)
        elif self.comparable and not _unusable(findings):
            roles = Roles(self.first_role, role)
            findings += check_same_grid(self.first.grid, probe.header.grid, tolerance, roles)
        return findings

    def workload(self) -> list[Finding]:
        """Hold what the network will be asked for against its budget."""
        if self.first is None or self.policy.layout is None or not self.comparable:
            return []
        grid, layout = self.first.grid, self.policy.layout
        try:
            across = check_slice(grid, layout) if self.first.flat else []
            stages = (layout, self.policy.first_layout)
            asked = [check_workload(grid, one, self.policy.most_bytes) for one in stages if one]
            return [*across, *chain.from_iterable(asked)]
        except PipelineError as error:
            return [as_finding(error)]


def _joined(case: Case) -> Iterator[Finding]:
    if case.parts:
        yield Finding(
            "mask_joined", "pass", f"mask of {len(case.parts)} files, one structure each",
            "one file", "Nothing to do: they are joined by the names of the labels", "mask",
            fix="join", fixed=True,
        )  # fmt: skip


def _several(header: Header, role: str) -> Iterator[Finding]:
    """Yield the remark on a file of several volumes, of which one is taken, or each for a label."""
    if header.stored > header.volumes:
        yield Finding(
            "volume_of_series", "pass", f"{role} of {header.stored} volumes", "one volume",
            f"Nothing to do: volume {header.first}, counted from 0, is taken", role,
            fix=f"volume={header.first}", fixed=True,
        )  # fmt: skip
    elif role == "mask" and header.volumes > 1:
        yield Finding(
            "mask_one_hot", "pass", f"mask of {header.volumes} volumes", "one volume of labels",
            "Nothing to do: each is taken for a label", "mask", fix="onehot", fixed=True,
        )  # fmt: skip


def _unusable(findings: list[Finding]) -> bool:
    return any(
        f.code in {"affine_not_finite", "affine_out_of_range", "affine_singular"} for f in findings
    )


def _settled(finding: Finding, fixes: frozenset[str]) -> Finding:
    """Return a finding that is put right on request as a remark."""
    asked = {"sform", "qform"} if finding.fix == "sform" else {finding.fix}
    granted = [fix for fix in fixes if fix in asked]
    if not granted:
        return finding
    return replace(finding, severity="pass", fix=granted[0], fixed=True)


def _contract(case: Case, policy: Policy, first: Header | None) -> Iterator[Finding]:
    channels = len(case.images) if first is None else max(len(case.images), first.volumes)
    if not case.images:
        yield as_finding(
            CaseError(
                "image_missing",
                found="no image",
                wanted="at least one channel",
                remedy="Add the image, or remove the mask",
            )
        )
    elif first is None and len(case.images) == 1:
        return  # how many it holds is not known
    elif policy.channels is not None and channels != policy.channels:
        yield Finding(
            "channels_mismatch",
            "fail",
            f"{channels} channels",
            f"{policy.channels}, as the network takes",
            "Give the channels in one manifest row, separated by ';', or another bundle",
        )
