"""A check of a cohort: look at each case and report. Neither Prefect nor a terminal here.

Headers only: many requests at once from this process, for the wait is for the store. With a look
at the voxels: a case per worker of the executor.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import unet_pipeline
from unet_pipeline import stopping
from unet_pipeline.checking.fixing import write_fixed
from unet_pipeline.checking.pictures import pair_picture
from unet_pipeline.cluster.executor import Executor, cases_at_once
from unet_pipeline.config import CheckSettings
from unet_pipeline.errors import PipelineError, RunStopped
from unet_pipeline.gate.examine import Examined, Policy, examine
from unet_pipeline.gate.findings import as_finding
from unet_pipeline.gate.inspect import inspect
from unet_pipeline.logs import about
from unet_pipeline.model import policy_of
from unet_pipeline.opened import checked_by
from unet_pipeline.records import Case, CheckRecord, CheckSummary, json_bytes, masks_text
from unet_pipeline.report.check_page import MAX_FIGURES, check_html
from unet_pipeline.report.check_table import attention_order, check_csv
from unet_pipeline.request import cohort_of, new_run_id, open_store
from unet_pipeline.storage.cases import Cohort, Fault
from unet_pipeline.storage.faults import of_case
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.manifest import manifest_bytes, outside
from unet_pipeline.storage.outage import find_outage, write_somewhere
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import parent

_MANIFEST = "manifest.jsonl"
HEADERS_AT_ONCE = 32  # requests under way


@dataclass(frozen=True)
class CheckRun:
    """A checked request for an run."""

    run_id: str
    settings: CheckSettings
    store: Store
    policy: Policy
    cohort: Cohort

    @property
    def cases(self) -> tuple[Case, ...]:
        """What is to be checked."""
        return self.cohort.cases

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Cases that were at fault already when the cohort was listed."""
        return self.cohort.faults

    @property
    def folder(self) -> str | None:
        """URL of the folder of the report; None if none is to be written."""
        output = self.settings.output
        return None if output is None else join(output, "runs", self.run_id)


def open_check(settings: CheckSettings) -> CheckRun:
    """Check everything about a request that can be checked before work starts.

    Raises
    ------
    RequestError
        For storage that cannot be reached or written, a bundle that cannot be used, or a cohort
        without a case.
    """
    store = open_store(settings.storage)
    bundle, policy = checked_by(settings, store)
    cohort = cohort_of(settings, store, bundle)
    for place in filter(None, (settings.output, settings.fix)):
        store.check_writable(place)
    if settings.fix:
        OwnFiles(store, settings.fix).check([_MANIFEST])
    if policy is None:
        policy = policy_of(settings.gate, settings.limits)
        policy = replace(policy, file_channels=cohort.channels)
    return CheckRun(new_run_id(), settings, store, policy, cohort)


def run_check(run: CheckRun, executor: Executor) -> Iterator[CheckRecord]:
    """Check all cases, many at once, and yield each record as it is ready.

    Raises
    ------
    RunStopped
        Behind the records of the cases that were under way, for a fault that concerns all.
    """
    for case, error in run.faults:
        yield Examined(case.name, None, (as_finding(error),)).record()
    at_once = cases_at_once(executor) if run.settings.gate.content else HEADERS_AT_ONCE
    lost: list[str] = []  # cases whose workers died: of each worker, its own or another's fault
    for record in stopping.as_ready(
        at_once, partial(_check_or_stop, run, executor=executor), run.cases
    ):
        if record.codes[:1] == ("worker_lost",):
            lost.append(record.case)
        else:
            yield record
    policy = replace(run.policy, memory_bytes=run.policy.memory_bytes // 2)
    for case in run.cases:
        if case.name in lost:  # once more, alone and with half the memory
            yield _check_or_stop(replace(run, policy=policy), case, executor)


def _check_or_stop(run: CheckRun, case: Case, executor: Executor) -> CheckRecord:
    """Check a case; a fault that concerns all cases stops the run."""
    with about(run.run_id, case.name):
        record = _check(run, case, executor)
    settings = run.settings
    read = (settings.images, settings.masks)
    for code in record.codes:
        outage = find_outage(run.store, code, record.message, read, settings.fix)
        if outage is not None:
            raise outage
    return record


def check_case(
    store: Store, case: Case, policy: Policy, content: bool, fix: str | None
) -> CheckRecord:
    """Check one case and, where ``fix`` names a place, write there what could be put right."""
    with of_case(case.name):
        examined = (
            inspect(store, case, policy, content=True) if content else examine(store, case, policy)
        )
        if fix is not None and examined.verdict != "fail" and examined.fixed:
            try:
                write_fixed(store, case, examined, policy, fix)
            except PipelineError as error:
                examined = examined.with_findings((as_finding(error, "mask"),))
        return examined.record()


def close_check(
    run: CheckRun,
    records: Sequence[CheckRecord],
    *,
    seconds: float,
    stopped: PipelineError | None = None,
) -> CheckSummary:
    """Write table, report and manifest where the request names a place, and sum up.

    A check that was stopped writes no manifest: it would hold some of the cases only.
    """
    records = sorted(
        (record for record in records if stopping.CODE not in record.codes),
        key=lambda record: record.case,
    )
    fix = None if stopped else run.settings.fix
    so_far = f"{len(records)} of {len(run.cases) + len(run.faults)} checked"
    manifest, elsewhere = "", tuple[str, ...]()
    try:
        if fix is not None:
            manifest, elsewhere = _write_manifest(run, fix, records)
    except PipelineError as error:
        stopped = RunStopped.because(error)
    summary = CheckSummary(
        run_id=run.run_id,
        counts={v: sum(r.verdict == v for r in records) for v in ("pass", "warn", "fail")},
        codes=_codes(records),
        content=run.settings.gate.content,
        seconds=round(seconds, 3),
        cases_per_second=len(records) / seconds if seconds else 0.0,
        bytes_read=sum(record.bytes_read for record in records),
        report="",
        table="",
        files=run.cohort.accounting.as_dict(),
        manifest=manifest,
        outside=elsewhere,
        stopped="" if stopped is None else f"{so_far}. {stopped}",
    )
    if run.folder is None:
        return summary

    def lies_in(folder: str, fault: RunStopped | None) -> CheckSummary:
        return replace(
            summary,
            report=join(folder, "check.html"),
            table=join(folder, "check.csv"),
            stopped=summary.stopped or ("" if fault is None else f"{so_far}. {fault}"),
        )

    def write(said: CheckSummary, store: Store) -> None:
        _write_report(run, records, said, store)

    return write_somewhere(run.store, run.folder, lies_in, write)


def _write_report(
    run: CheckRun, records: Sequence[CheckRecord], summary: CheckSummary, store: Store
) -> None:
    page = check_html(summary, records, _figures(run, records), _context(run))
    store.write(summary.table, check_csv(records).encode())
    store.write(summary.report, page.encode())
    store.write(join(parent(summary.report), "check.json"), json_bytes(summary.as_dict()))


def _check(run: CheckRun, case: Case, executor: Executor) -> CheckRecord:
    content, fix = run.settings.gate.content, run.settings.fix
    try:
        if not content:
            return check_case(run.store, case, run.policy, False, fix)
        handle = executor.submit(check_case, run.store, case, run.policy, True, fix)
        record: CheckRecord = executor.result(handle)
    except RunStopped:
        raise
    except PipelineError as error:  # a worker that was lost, keys that ran out
        return Examined(case.name, None, (as_finding(error),)).record()
    return record


def _codes(records: Sequence[CheckRecord]) -> dict[str, int]:
    counts = Counter(
        code
        for record in records
        for code in {f["code"] for f in record.findings if f["severity"] != "pass"}
    )
    return dict(counts.most_common())


def _figures(run: CheckRun, records: Sequence[CheckRecord]) -> dict[str, bytes]:
    """Draw the pairs that most want a look; a case that cannot be drawn has no picture."""
    cases = {case.name: case for case in run.cases}
    doubtful = [record for record in attention_order(records) if record.verdict != "pass"]
    drawn: dict[str, bytes] = {}
    for record in doubtful:
        if len(drawn) == MAX_FIGURES:
            break
        case = cases.get(record.case)
        picture = pair_picture(run.store, case, run.policy) if case else None
        if picture is not None:
            drawn[record.case] = picture
    return drawn


def _write_manifest(
    run: CheckRun, place: str, records: Sequence[CheckRecord]
) -> tuple[str, tuple[str, ...]]:
    """List every sound case with the files to use: those that were fixed, else the originals.

    Returns its URL, and the prefixes that it leads to.
    """
    by_name = {record.case: record for record in records}
    sound = []
    for case in run.cases:
        record = by_name[case.name]
        if record.verdict == "fail":
            continue
        if record.fixed:
            files = json.loads(run.store.read(join(place, f"{case.name}.json")))["files"]
            case = replace(case, images=tuple(files["image"].split(";")), mask=files.get("mask"))
        sound.append(case)
    url = join(place, _MANIFEST)
    OwnFiles(run.store, place).write({_MANIFEST: manifest_bytes(sound, url)})
    return url, outside(sound, url)


def _context(run: CheckRun) -> Mapping[str, str]:
    settings, tolerance = run.settings, run.policy.tolerance
    return {
        "Images": settings.images,
        "Files": str(run.cohort.accounting),
        "Masks": masks_text(settings.masks, run.cases),
        "Model": settings.model or "any",
        "Tolerance": f"{tolerance.affine_voxels:g} voxels",
        "Remedies": ", ".join(sorted(run.policy.fixes)) or "none",
        **({} if settings.gate.volume is None else {"Volume": str(settings.gate.volume)}),
        **({"Level": str(settings.gate.level)} if settings.gate.level else {}),
        "Voxels": "looked at" if settings.gate.content else "not read, headers only",
        "Version": unet_pipeline.__version__,
    }
