"""The flow on a real Prefect server, a real bucket and real Dask workers, and a browser."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cohorts import small_cohort

from unet_pipeline.serve import deploy, prefect_server, worker
from unet_pipeline.storage.store import Store, join

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET_BROWSER = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with prefect_server(tmp_path_factory.mktemp("prefect"), port=_free_port()) as running:
        yield running


@pytest.fixture(scope="module")
def deployed(server):
    with worker(server):
        deploy(server, {"UNET_PIPELINE_TIMEZONE": "Europe/Berlin"})
        yield server


@pytest.fixture
def cohort(s3_env):
    bucket = s3_env.bucket("flow")
    return bucket, small_cohort(Store(), join(bucket, "scans"))


def _free_port() -> int:
    from socket import socket

    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def settings_of(bucket, small, **changes):
    return {
        "images": small.images,
        "masks": small.masks,
        "model": "phantom",
        "output": join(bucket, "out"),
        "cluster": {"kind": "serial", "threads": 1},
        **changes,
    }


def run_flow(server, settings, tmp_path) -> subprocess.CompletedProcess[str]:
    request = tmp_path / "settings.json"
    request.write_text(json.dumps(settings))
    return subprocess.run(
        [sys.executable, "-m", "flows.segment_cohort", request],
        env={**server.env, **_aws(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )


def _aws() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def api(server, path: str, body: dict):
    import urllib.request

    request = urllib.request.Request(
        f"{server.env['PREFECT_API_URL']}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def test_a_cohort_through_the_flow_on_dask(server, cohort, tmp_path):
    bucket, small = cohort
    settings = settings_of(bucket, small, cluster={"kind": "local", "workers": 2, "threads": 1})
    done = run_flow(server, settings, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = api(server, "/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "CompletedWithFaults")
    tasks = api(server, "/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert {task["name"] for task in tasks} == {*small.sound, small.misaligned, small.cut_short}
    assert {task["state_type"] for task in tasks} == {"COMPLETED"}
    artifacts = api(server, "/artifacts/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    kinds = {artifact["type"]: artifact for artifact in artifacts}
    assert kinds["progress"]["data"] == 100
    rows = json.loads(kinds["table"]["data"])
    assert {row["case"]: row["status"] for row in rows}[small.misaligned] == "quarantined"
    assert any("report.html" in str(artifact["data"]) for artifact in artifacts)
    assert [u for u in Store().list_files(join(bucket, "out")) if u.endswith("report.html")]


def test_a_wrong_request_fails_the_flow_with_its_sentence(server, cohort, tmp_path):
    bucket, small = cohort
    failed = run_flow(server, settings_of(bucket, small, model="nonsense"), tmp_path)
    assert failed.returncode != 0
    (run,) = api(server, "/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})
    assert (run["state_type"], run["state_name"]) == ("FAILED", "WrongRequest")
    assert "bundle" in run["state"]["message"]


def test_a_fault_that_passes_is_tried_again(server, cohort, tmp_path):
    """The store goes away for a moment while the cases run: task runs are retried, not lost."""
    from unet_pipeline.local.s3_server import serve_s3

    folder = tmp_path / "s3"
    folder.mkdir()
    with serve_s3(folder, key="flaky-key-1", secret="flaky-secret-1") as s3:
        store_env = s3.environment()
        bucket = s3.make_bucket("flaky")
        from unet_pipeline.storage.store import StorageOptions

        options = StorageOptions(s3.endpoint_url, key="flaky-key-1", secret="flaky-secret-1")
        small = small_cohort(Store(options), join(bucket, "scans"), n_cases=2)
        # An image that vanishes behind a folder of the same name cannot be opened for a while.
        image = folder / "flaky" / "scans" / "images" / f"{small.sound[0]}.nii.gz"
        data = image.read_bytes()
        assert data
        os.kill(s3.pid, 19)  # SIGSTOP: the server hangs
        request = tmp_path / "settings.json"
        request.write_text(json.dumps(settings_of(bucket, small)))
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.segment_cohort", request],
            env={**server.env, **store_env, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )
        time.sleep(12)
        os.kill(s3.pid, 18)  # SIGCONT
        assert process.wait(timeout=200) == 0
        labels = [u for u in Store(options).list_files(join(bucket, "out")) if u.endswith("gz")]
    assert len(labels) == 1


def test_the_deployments_run_through_a_worker(deployed, cohort):
    bucket, small = cohort
    (nightly,) = api(
        deployed, "/deployments/filter", {"deployments": {"name": {"any_": ["nightly"]}}}
    )
    (schedule,) = nightly["schedules"]
    assert schedule["schedule"]["cron"] == "30 1 * * *"
    assert schedule["schedule"]["timezone"] == "Europe/Berlin"
    assert schedule["active"] is False
    assert nightly["global_concurrency_limit"]["limit"] == 1
    # A worker's run sees the worker's environment: this bucket's keys travel as job variables.
    variables = [f"--job-variable=env.{name}={value}" for name, value in _aws().items()]
    said = deployed.prefect(
        "deployment", "run", "segment-cohort/on-demand", "--params",
        json.dumps({"settings": settings_of(bucket, small)}), "--watch", "--watch-timeout", "200",
        *variables, env=_aws(),
    )  # fmt: skip
    assert "CompletedWithFaults" in said


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_the_nightly_page_and_its_run_form_in_a_browser(deployed):
    from playwright.sync_api import sync_playwright

    (nightly,) = api(
        deployed, "/deployments/filter", {"deployments": {"name": {"any_": ["nightly"]}}}
    )
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=BROWSER, args=QUIET_BROWSER)
        page = browser.new_page(viewport={"width": 1300, "height": 2200})
        page.goto(f"{deployed.url}/deployments/deployment/{nightly['id']}")
        page.get_by_text("01:30 AM every day").first.wait_for(timeout=60_000)
        page.goto(f"{deployed.url}/deployments/deployment/{nightly['id']}/run")
        page.get_by_text("Share of a window that overlaps").first.wait_for(timeout=60_000)
        shown = page.inner_text("body")
        browser.close()
    for words in ("Prefix that label maps", "Dask processes on this machine", "AWS variables"):
        assert words in shown
