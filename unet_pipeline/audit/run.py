"""An audit run: check each case and report. Neither Prefect nor a terminal here.

Headers only: many requests at once from this process, for the wait is for the store. With a look
at the voxels: a case per worker of the executor.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import unet_pipeline
from unet_pipeline.audit.fixing import mend
from unet_pipeline.audit.pictures import pair_picture
from unet_pipeline.cluster.executor import Executor, cases_at_once
from unet_pipeline.config import CheckSettings
from unet_pipeline.errors import CaseError, PipelineError
from unet_pipeline.gate.examine import Examined, Policy, examine
from unet_pipeline.gate.findings import as_finding
from unet_pipeline.gate.inspect import inspect
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.records import AuditSummary, Case, CheckRecord, json_bytes
from unet_pipeline.report.audit_page import MAX_FIGURES, audit_html
from unet_pipeline.report.audit_table import attention_order, audit_csv
from unet_pipeline.request import new_run_id, open_store, policy_of
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.store import Store, join

HEADERS_AT_ONCE = 32  # requests under way


@dataclass(frozen=True)
class Audit:
    """A checked request for an audit.

    Attributes
    ----------
    faults
        Cases that were at fault already when the cohort was listed.
    """

    run_id: str
    settings: CheckSettings
    store: Store
    policy: Policy
    cases: tuple[Case, ...]
    faults: tuple[tuple[Case, CaseError], ...]

    @property
    def folder(self) -> str | None:
        """URL of the folder of the report; None if none is to be written."""
        output = self.settings.output
        return None if output is None else join(output, "runs", self.run_id)


def open_audit(settings: CheckSettings) -> Audit:
    """Check everything about a request that can be checked before work starts.

    Raises
    ------
    RequestError
        For storage that cannot be reached or written, a bundle that cannot be used, or a cohort
        without a case.
    """
    store = open_store(settings.storage)
    bundle = load_bundle(settings.model, store) if settings.model else None
    cohort = discover(store, settings.images, settings.masks)
    for place in filter(None, (settings.output, settings.fix)):
        store.check_writable(place)
    policy = policy_of(settings.gate, bundle)
    return Audit(new_run_id(), settings, store, policy, cohort.cases, cohort.faults)


def check_all(audit: Audit, executor: Executor) -> Iterator[CheckRecord]:
    """Check all cases, many at once, and yield each record as it is ready."""
    for case, error in audit.faults:
        yield Examined(case.name, None, (as_finding(error),)).record()
    at_once = cases_at_once(executor) if audit.settings.gate.content else HEADERS_AT_ONCE
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(_check, audit, case, executor) for case in audit.cases]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def check_case(
    store: Store, case: Case, policy: Policy, content: bool, fix: str | None
) -> CheckRecord:
    """Check one case and, where ``fix`` names a place, write there what could be put right."""
    examined = (
        inspect(store, case, policy, content=True) if content else examine(store, case, policy)
    )
    if fix is not None and examined.verdict != "fail" and examined.fixed:
        try:
            mend(store, case, examined, policy, fix)
        except PipelineError as error:
            examined = examined.with_findings((as_finding(error, "mask"),))
    return examined.record()


def close_audit(audit: Audit, records: Sequence[CheckRecord], *, seconds: float) -> AuditSummary:
    """Write table, report and manifest where the request names a place, and sum up."""
    records = sorted(records, key=lambda record: record.case)
    summary = AuditSummary(
        run_id=audit.run_id,
        counts={v: sum(r.verdict == v for r in records) for v in ("pass", "warn", "fail")},
        codes=_codes(records),
        content=audit.settings.gate.content,
        seconds=round(seconds, 3),
        cases_per_second=len(records) / seconds if seconds else 0.0,
        bytes_read=sum(record.bytes_read for record in records),
        report=join(audit.folder, "check.html") if audit.folder else "",
        table=join(audit.folder, "check.csv") if audit.folder else "",
    )
    if audit.settings.fix is not None:
        _write_manifest(audit, audit.settings.fix, records)
    if audit.folder is not None:
        page = audit_html(summary, records, _figures(audit, records), _context(audit))
        audit.store.write(summary.table, audit_csv(records).encode())
        audit.store.write(summary.report, page.encode())
        audit.store.write(join(audit.folder, "check.json"), json_bytes(summary.as_dict()))
    return summary


def _check(audit: Audit, case: Case, executor: Executor) -> CheckRecord:
    content, fix = audit.settings.gate.content, audit.settings.fix
    if not content:
        return check_case(audit.store, case, audit.policy, False, fix)
    handle = executor.submit(check_case, audit.store, case, audit.policy, True, fix)
    try:
        record: CheckRecord = executor.result(handle)
    except CaseError as error:  # a worker that was lost
        return Examined(case.name, None, (as_finding(error),)).record()
    return record


def _codes(records: Sequence[CheckRecord]) -> dict[str, int]:
    counts = Counter(
        code
        for record in records
        for code in {f["code"] for f in record.findings if f["severity"] != "pass"}
    )
    return dict(counts.most_common())


def _figures(audit: Audit, records: Sequence[CheckRecord]) -> dict[str, bytes]:
    """Draw the pairs that most want a look; a case that cannot be drawn has no picture."""
    cases = {case.name: case for case in audit.cases}
    doubtful = [record for record in attention_order(records) if record.verdict != "pass"]
    drawn: dict[str, bytes] = {}
    for record in doubtful:
        if len(drawn) == MAX_FIGURES:
            break
        case = cases.get(record.case)
        picture = pair_picture(audit.store, case, audit.policy) if case else None
        if picture is not None:
            drawn[record.case] = picture
    return drawn


def _write_manifest(audit: Audit, place: str, records: Sequence[CheckRecord]) -> None:
    """List every sound case with the files to use: those that were mended, else the originals."""
    by_name = {record.case: record for record in records}
    lines = []
    for case in audit.cases:
        record = by_name[case.name]
        if record.verdict == "fail":
            continue
        row = {"case": case.name, "image": ";".join(case.images), "mask": case.mask}
        if record.fixed:
            row.update(json.loads(audit.store.read(join(place, f"{case.name}.json")))["files"])
        lines.append(json.dumps(row) + "\n")
    audit.store.write(join(place, "manifest.jsonl"), "".join(lines).encode())


def _context(audit: Audit) -> Mapping[str, str]:
    settings, tolerance = audit.settings, audit.policy.tolerance
    return {
        "Images": settings.images,
        "Masks": settings.masks or "none",
        "Model": settings.model or "any",
        "Tolerance": f"{tolerance.affine_voxels:g} voxels",
        "Remedies": ", ".join(sorted(audit.policy.fixes)) or "none",
        "Voxels": "looked at" if settings.gate.content else "not read, headers only",
        "Version": unet_pipeline.__version__,
    }
