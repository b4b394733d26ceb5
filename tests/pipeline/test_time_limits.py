"""A limit is a case's own: neither others' nor the time that it waits behind them."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import nibabel as nib
import numpy as np
import psutil
import pytest
from cohorts import write_tiny

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.cluster.monitor import _state
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import Budget, ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.jobs.segment import open_segment, run_segment, segment_case
from unet_pipeline.storage.store import Store


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Four sound cases, and two of 24,000 windows each, which take minutes."""
    folder = tmp_path_factory.mktemp("limits")
    write_tiny(Store(), str(folder), 4)
    values = np.random.default_rng(0).integers(0, 300, (24, 24, 24)).astype(np.int16)
    for index in range(2):
        write(folder / "images" / f"a-endless-{index}.nii.gz", values, 16)
    return folder


@pytest.fixture(scope="module")
def executor():
    """One worker that runs one call at a time."""
    with open_executor(ClusterSpec("local", 1, calls_at_once=1)) as opened:
        yield opened


def write(path: Path, values, spacing_mm: float) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([*[spacing_mm] * 3, 1])), path)


def settings_of(scans, output, seconds, kind="local") -> SegmentSettings:
    return SegmentSettings(
        images=str(scans / "images"),
        model="phantom",
        output=str(output),
        cluster=ClusterSettings(kind=kind, workers=1, threads=1),
        budget=Budget(case_minutes=seconds / 60, max_windows=10**6, retries=0),
        windows=WindowSettings(overlap=0.75),
    )


def own_seconds(record) -> float:
    return record.seconds["total"] - record.seconds["wait"]


def test_identical_cases_that_wait_longer_than_their_limit_are_all_done(executor, tmp_path):
    """Eight at once on one slot: the last waits for seven, and may itself take as long as four."""
    values = np.random.default_rng(0).integers(0, 300, (40, 40, 24)).astype(np.int16)
    for index in range(11):
        write(tmp_path / "images" / f"case-{index:02d}.nii.gz", values, 2)
    run = open_segment(settings_of(tmp_path, tmp_path / "out", 3600))
    spec = replace(run.model.spec, threads=1)  # two would wait for each other on a busy machine
    run = replace(run, model=replace(run.model, spec=spec))
    _, *alone = (segment_case(run, case, executor) for case in run.cases[:3])  # the first loads
    limit = 4 * max(map(own_seconds, alone))
    limited = replace(run, settings=settings_of(tmp_path, tmp_path / "out", limit))
    begin = monotonic()
    with ThreadPoolExecutor(8) as threads:  # as the tasks of a flow do
        records = list(
            threads.map(lambda case: segment_case(limited, case, executor), run.cases[3:])
        )
    assert [r.code or r.status for r in records] == ["done"] * 8
    assert monotonic() - begin > limit, "nobody waited for so long"


def test_endless_cases_end_at_their_limit_and_the_others_are_done(scans, executor, tmp_path):
    """The limit is some times what a sound case took just before, on the same worker."""
    first = settings_of(scans, tmp_path / "first", 3600).model_copy(
        update={"images": str(scans / "images" / "phantom-0[12].nii.gz")}
    )
    *_, last = run_segment(open_segment(first), executor)
    (worker,) = executor.client.run(os.getpid).values()
    settings = settings_of(scans, tmp_path, max(2.0, 4 * own_seconds(last)))
    found = {r.case: r.code or r.status for r in run_segment(open_segment(settings), executor)}
    endless = {name: code for name, code in found.items() if "endless" in name}
    assert list(endless.values()) == ["time_limit"] * 2
    assert [found[name] for name in sorted(found) if name not in endless] == ["done"] * 4
    deadline = monotonic() + 30  # the scheduler knows what its workers said last
    while executor.client.run_on_scheduler(_state)[1]:
        assert monotonic() < deadline, "a call has not ended"
        sleep(0.2)
    assert worker in executor.client.run(os.getpid).values(), "a worker had to be restarted"
    before = sum(psutil.Process(worker).cpu_times()[:2])
    sleep(1)
    assert sum(psutil.Process(worker).cpu_times()[:2]) - before < 0.5, "it still computes"


def test_a_case_in_this_process_ends_at_its_limit_too(scans, tmp_path):
    settings = settings_of(scans, tmp_path, 3, "serial").model_copy(
        update={"images": str(scans / "images" / "a-endless-0.nii.gz")}
    )
    (record,) = run_segment(open_segment(settings), SerialExecutor())
    assert record.code == "time_limit"
