"""The deployments, as a worker runs them and as the Prefect page shows them."""

import json
import tempfile
from pathlib import Path

import psutil
import pytest
from browsing import BROWSER, browser, log_in
from cohorts import small_cohort
from flow_runs import (
    deployment,
    of_run,
    settings_of,
    start_run,
    wait_for_run,
    wait_until,
)

from unet_pipeline.jobs.up import deploy
from unet_pipeline.local.prefect_worker import close_abandoned_runs
from unet_pipeline.storage.store import Store, join

pytestmark = pytest.mark.slow


def test_nightly_is_registered_and_off(deployed):
    nightly = deployment(deployed, "nightly")
    (schedule,) = nightly["schedules"]
    assert schedule["schedule"]["cron"] == "30 1 * * *"
    assert schedule["schedule"]["timezone"] == "Europe/Berlin"
    assert schedule["active"] is False
    assert nightly["global_concurrency_limit"]["limit"] == 1
    assert nightly["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    queues = {
        queue["name"]: queue["priority"]  # 1 comes first
        for queue in deployed.api("/work_pools/local/queues/filter", {})
    }
    assert queues[deployment(deployed, "on-demand")["work_queue_name"]] < queues["archive"]
    assert nightly["work_queue_name"] == "archive"
    assert nightly["pull_steps"] == []  # a worker needs no folder of whoever registered it


def test_a_cohort_switches_nightly_on_and_without_one_it_stays_as_it_is(deployed):
    named = {
        "UNET_PIPELINE_IMAGES": "s3://scans/ward",
        "UNET_PIPELINE_OUTPUT": "s3://results/ward",
        "UNET_PIPELINE_CLUSTER": "slurm",
        "UNET_PIPELINE_SITE": "/etc/site.yaml",
        "UNET_PIPELINE_SCRATCH": "/shared-scratch",
    }
    before = deployment(deployed, "nightly")
    deploy(deployed, named)
    after = deployment(deployed, "nightly")
    assert after["id"] == before["id"]
    assert after["parameters"]["settings"]["images"] == "s3://scans/ward"
    where = {"kind": "slurm", "site": "/etc/site.yaml"}
    assert after["parameters"]["settings"]["cluster"] == where
    assert after["parameters"]["settings"]["budget"] == {"scratch": "/shared-scratch"}
    assert [schedule["active"] for schedule in after["schedules"]] == [True]

    deploy(deployed)
    assert deployment(deployed, "nightly")["parameters"] == after["parameters"]
    assert deployment(deployed, "nightly")["schedules"] == after["schedules"]
    assert deployment(deployed, "on-demand")["parameters"] != after["parameters"]
    (schedule,) = after["schedules"]
    off = f"/deployments/{after['id']}/schedules/{schedule['id']}"
    deployed.api(off, {"active": False}, method="PATCH")
    assert deployment(deployed, "nightly")["schedules"][0]["active"] is False


def test_a_worker_runs_a_cohort(deployed, cohort):
    bucket, small = cohort
    run = wait_for_run(deployed, start_run(deployed, "on-demand", settings_of(bucket, small)))
    assert run["state_name"] == "CompletedWithFaults"


def test_an_output_that_the_worker_would_remove_is_refused(deployed, cohort):
    settings = settings_of(*cohort, output="results")
    run = wait_for_run(deployed, start_run(deployed, "on-demand", settings))
    assert run["state_name"] == "WrongRequest"
    assert "results: found a relative path" in run["state"]["message"]


def test_a_cancelled_run_leaves_its_report_and_neither_work_nor_scratch(
    deployed, worker_process, s3_env
):
    before = scratch_folders()
    polling = psutil.Process(worker_process.pid)
    bucket = s3_env.bucket("cancelled")
    settings = settings_of(
        bucket,
        small_cohort(Store(), join(bucket, "scans")),
        windows={"overlap": 0.9},
        budget={"memory_gb": 0.005},  # voxels lie in scratch
        cluster={"kind": "local", "workers": 1, "threads": 1},
    )
    run = start_run(deployed, "on-demand", settings)
    wait_until(lambda: of_run(deployed, "task_runs", run), 100)
    assert len(polling.children(recursive=True)) > 1  # the flow, and its Dask worker
    wait_until(lambda: scratch_folders() - before, 100)
    cancelling = {"type": "CANCELLING", "name": "Cancelling"}
    deployed.api(f"/flow_runs/{run['id']}/set_state", {"state": cancelling})
    assert wait_for_run(deployed, run, 60)["state_name"] == "Cancelled"
    wait_until(lambda: not polling.children(recursive=True), 10)
    states = {task["state_name"] for task in of_run(deployed, "task_runs", run)}
    assert "Stopped" in states
    assert states <= {"Stopped", "Completed", "Quarantined"}
    files = Store().list_files(join(bucket, "out/runs"))
    (report,) = [url for url in files if url.endswith("/run.json")]
    said = json.loads(Store().read(report))
    assert "SIGTERM" in said["stopped"]
    assert "stopped" not in Store().read(said["table"]).decode()  # who was not finished is no fault
    assert scratch_folders() <= before


def scratch_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("unet-pipeline-" + "[0-9a-f]" * 32))


def test_a_run_whose_worker_was_killed_does_not_block_the_next(deployed):
    """A state of RUNNING that nobody will ever end, as a power cut leaves it."""
    nightly = deployment(deployed, "nightly")

    def begin():
        far = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"}}
        body = {"parameters": nightly["parameters"], "state": far}  # not for the worker
        return deployed.api(f"/deployments/{nightly['id']}/create_flow_run", body)

    def set_state(run, kind, force=False):
        body = {"state": {"type": kind}, "force": force}
        return deployed.api(f"/flow_runs/{run['id']}/set_state", body)

    abandoned = begin()
    assert set_state(abandoned, "PENDING")["status"] == "ACCEPT"
    assert set_state(abandoned, "RUNNING", force=True)["status"] == "ACCEPT"
    assert set_state(begin(), "PENDING")["state"]["type"] == "CANCELLED"  # one at a time
    close_abandoned_runs(deployed)
    assert deployed.api(f"/flow_runs/{abandoned['id']}")["state_type"] == "CRASHED"
    following = begin()
    assert set_state(following, "PENDING")["status"] == "ACCEPT"
    set_state(following, "CANCELLED")


def test_deployments_of_old_names_go_and_what_was_set_for_the_night_stays(deployed):
    """As ``up`` finds them in a database that an earlier version made."""
    there = deployment(deployed, "nightly")
    deployed.api(f"/deployments/{there['id']}", method="DELETE")
    flow = deployed.api("/flows/", {"name": "segment-cohort"})
    night = {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}
    old = {
        "name": "nightly", "flow_id": flow["id"], "parameters": {"settings": {"images": "s3://ward"}},
        "entrypoint": "flows.segment_cohort.segment_cohort",
        "schedules": [{"schedule": night, "active": True}],
    }  # fmt: skip
    deployed.api("/deployments/", old)
    theirs = {"name": "theirs", "flow_id": flow["id"], "entrypoint": "flows.ours.ours"}
    deployed.api("/deployments/", theirs)
    deploy(deployed)
    now = deployment(deployed, "nightly")
    assert now["parameters"] == old["parameters"]
    assert [(one["schedule"]["cron"], one["active"]) for one in now["schedules"]] == [
        ("0 3 * * *", True)
    ]
    assert deployed.api("/deployments/name/segment-cohort/nightly") is None
    assert deployed.api("/deployments/name/segment-cohort/theirs") is not None
    kept = {"parameters": there["parameters"], "schedules": [
        {key: one[key] for key in ("schedule", "active")} for one in there["schedules"]
    ]}  # fmt: skip
    deployed.api(f"/deployments/{now['id']}", kept, method="PATCH")


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_the_nightly_page_and_its_run_form_in_a_browser(deployed):
    page_of_nightly = (
        f"{deployed.url}/deployments/deployment/{deployment(deployed, 'nightly')['id']}"
    )
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1300, "height": 2200})
        log_in(page, deployed)
        page.goto(page_of_nightly)
        page.get_by_text("01:30 AM every day").first.wait_for(timeout=60_000)
        page.goto(f"{page_of_nightly}/run")
        page.get_by_text("Windows and tiles").first.wait_for(timeout=60_000)
        shown = page.inner_text("body")
    for words in ("Prefix that label maps", "Where the work runs", "AWS variables"):
        assert words in shown
    assert "Share of a window that overlaps" not in shown  # folded
