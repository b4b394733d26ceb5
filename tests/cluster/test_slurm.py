"""Workers as jobs of a real Slurm: they come, are cancelled, retire, and come again."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from cohorts import small_cohort
from slurm_server import Slurm, running_slurm, until, why_not

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.cluster.places.slurm import SlurmSite, job_options
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.config.sites import read_site
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.storage.store import Store

UNDER_WAY = {"PENDING", "RUNNING", "COMPLETING"}
needs_slurm = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


@pytest.fixture(scope="module")
def slurm():
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # munge wants folders that all may enter
    folder.chmod(0o755)
    with running_slurm(folder) as running:
        yield running
    shutil.rmtree(folder)


@pytest.fixture
def site(slurm: Slurm, tmp_path, monkeypatch) -> Path:
    """A site file for the node: jobs of one GPU, one core, and little memory."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "site.yaml"
    file.write_text(
        "partition: main\ntime_minutes: 10\ncores: 1\nmemory_gb: 3\n"
        f"logs: {tmp_path / 'logs'}\nscratch: {tmp_path}\ninterface: lo\n"
    )
    return file


def cohort_on_slurm(tmp_path, site, **changes):
    """Return phantoms of many tiles, the settings of a run on Slurm, and of one in this process."""
    scans = small_cohort(Store(), str(tmp_path / "scans"), n_cases=4)
    windows = WindowSettings(tile=(40, 40, 40), overlap=0.5)
    common = {"images": scans.images, "masks": scans.masks, "model": "phantom", "windows": windows}
    cluster = ClusterSettings(kind="slurm", workers=2, minimum=2, threads=1, site=str(site))
    there = SegmentSettings(
        **common, output=str(tmp_path / "there"), cluster=cluster.model_copy(update=changes)
    )
    here = SegmentSettings(
        **common, output=str(tmp_path / "here"), cluster=ClusterSettings(kind="serial", threads=1)
    )
    return scans, there, here


def run_all(settings, during=lambda records: None):
    run = open_segment(settings)
    with open_executor(settings.cluster.spec()) as executor:
        records = []
        for record in run_segment(run, executor):
            records.append(record)
            during(records)
    return {record.case: record for record in records}


@needs_slurm
@pytest.mark.slow
def test_a_job_is_cancelled_in_the_middle_and_the_cohort_ends_complete(slurm, site, tmp_path):
    scans, there, here = cohort_on_slurm(tmp_path, site)
    cancelled: list[str] = []

    def cancel(records):
        if not cancelled and records[-1].status == "done":
            cancelled.append(slurm.jobs()[0])
            slurm("scancel", cancelled[0])
            until(lambda: len(slurm.job_states()) >= 3, "a job in place of the cancelled one")

    records = run_all(there, cancel)
    assert slurm.job_states()[cancelled[0]] == "CANCELLED"
    expected = {r.case: r for r in run_segment(open_segment(here), SerialExecutor())}
    assert {name: record.status for name, record in records.items()} == {
        name: record.status for name, record in expected.items()
    }
    for name in scans.sound:
        assert records[name].status == "done"
        assert Store().read(records[name].output) == Store().read(expected[name].output)


@needs_slurm
@pytest.mark.soak
def test_workers_whose_time_is_shorter_than_the_work_retire_and_come_back(slurm, site):
    """There is work until both have retired and another came; it is no more than must be."""
    before = set(slurm.job_states())
    site.write_text(site.read_text().replace("time_minutes: 10", "time_minutes: 1"))
    spec = ClusterSettings(kind="slurm", workers=2, minimum=2, site=str(site)).spec()

    def states() -> dict[str, str]:
        return {job: it for job, it in slurm.job_states().items() if job not in before}

    with open_executor(spec) as executor:
        until(lambda: len(states()) >= 2, "two jobs")
        first, tasks, results = set(states()), [], []
        deadline = time.monotonic() + 200
        while (now := states()).keys() == first or UNDER_WAY & {now[job] for job in first}:
            assert time.monotonic() < deadline, f"not all retired, or none came back: {now}"
            while len(tasks) < 6:  # on 2 workers of 2 threads
                number = len(results) + len(tasks)
                work = f"__import__('time').sleep(2) or {number} * {number}"
                tasks.append(executor.submit(eval, work))
            results.append(executor.result(tasks.pop(0)))  # fetched is let go of, as by a run
        results += [executor.result(task) for task in tasks]
    assert results == [n * n for n in range(len(results))]
    assert "TIMEOUT" not in states().values()


@needs_slurm
def test_each_worker_has_a_gpu_of_its_own(slurm, site):
    spec = ClusterSettings(kind="slurm", workers=2, minimum=2, site=str(site)).spec()
    with open_executor(spec) as executor:
        executor.client.wait_for_workers(2, timeout=60)
        seen = executor.client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
    assert sorted(seen.values()) == ["0", "1"]


@needs_slurm
def test_jobs_that_never_start_are_said_to(slurm, site):
    site.write_text(site.read_text() + "directives: [--begin=now+1hour]\n")
    settings = ClusterSettings(kind="slurm", site=str(site), wait_minutes=0.05)
    with pytest.raises(RequestError) as raised, open_executor(settings.spec()):
        pass
    assert raised.value.code == "cluster_empty"
    assert "squeue" in raised.value.remedy


def test_a_job_says_what_the_site_says():
    site = SlurmSite(
        partition="gpu", account="lab", time_minutes=90, gres="gpu:a100", cores=12,
        memory_gb=48, directives=("--qos=night",), prologue=("module load cuda",),
    )  # fmt: skip
    options = job_options(site, threads=2)
    assert options["walltime"] == "01:30:00"
    assert options["job_extra_directives"] == ["--gres=gpu:a100:1", "--qos=night"]
    assert (options["cores"], options["job_cpu"], options["memory"]) == (2, 12, "48GB")
    lifetime, stagger = options["worker_extra_args"][1::2][:2]
    assert (lifetime, stagger) == ("3825s", "1275s")  # together five minutes less than the job
    assert "module load cuda" in options["job_script_prologue"]


@pytest.mark.parametrize(
    ("text", "code", "names"),
    [
        ("partitions: gpu", "site_invalid", "partitions"),
        ("time_minutes: soon", "site_invalid", "time_minutes"),
        ("- gpu", "site_unreadable", "mapping"),
        ("a: [", "site_unreadable", "read"),
    ],
)
def test_site_files_that_say_what_no_site_has(tmp_path, text, code, names):
    file = tmp_path / "site.yaml"
    file.write_text(text)
    with pytest.raises(RequestError) as raised:
        read_site("slurm", str(file))
    assert raised.value.code == code
    assert names in raised.value.found


def test_a_site_file_is_for_clusters_that_have_one(tmp_path):
    with pytest.raises(RequestError) as raised:
        ClusterSettings(kind="local", site=str(tmp_path / "site.yaml")).spec()
    assert raised.value.code == "site_unused"


def test_without_slurm_it_is_said_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError) as raised, open_executor(ClusterSettings(kind="slurm").spec()):
        pass
    assert raised.value.code == "slurm_missing"
