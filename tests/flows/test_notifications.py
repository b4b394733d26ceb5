"""Somebody is told: automations of a real server, and a real receiver of a webhook."""

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cohorts import small_cohort
from flow_runs import (
    latest_run,
    settings_of,
    start_run,
    wait_for_run,
    wait_until,
)

from unet_pipeline.errors import RequestError
from unet_pipeline.local.notifications import NAMES, Notify, automations, register
from unet_pipeline.storage.store import Store, join
from unet_pipeline_flows.lifecycle import AS_ASKED, STOPPED

pytestmark = pytest.mark.slow


@pytest.fixture
def received():
    """What a webhook on loopback was sent, and its address."""
    texts = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        yield texts, f"http://127.0.0.1:{receiver.server_port}/"
        receiver.shutdown()


NOTIFY = Notify("custom-webhook/pager")


@pytest.fixture
def told(server, received, request):
    """A server whose automations send to the receiver."""
    texts, url = received
    kind = server.api("/block_types/slug/custom-webhook")
    schemas = server.api("/block_schemas/filter",
                         {"block_schemas": {"block_type_id": {"any_": [kind["id"]]}}})  # fmt: skip
    data = {"name": "pager", "url": url, "json_data": {"text": "{{subject}} | {{body}}"}}
    block = {"name": "pager", "block_type_id": kind["id"], "block_schema_id": schemas[0]["id"]}
    made = server.api("/block_documents/", {**block, "data": data})
    register(server, getattr(request, "param", NOTIFY))
    yield texts
    for one in server.api("/automations/filter", {}):
        server.api(f"/automations/{one['id']}", method="DELETE")
    server.api(f"/block_documents/{made['id']}", method="DELETE")


def text(told, *words):
    return next((one for one in told if all(word in one for word in words)), None)


def test_a_receiver_is_told_of_faults_and_of_runs_that_fail(server, told, copies, cohort, tmp_path):
    bucket, small = cohort
    env = {"UNET_PIPELINE_ATTENTION_SHARE": "0.5"}  # as `up` tells its worker
    copies.start(settings_of(bucket, small), tmp_path, env=env).communicate(timeout=100)
    copies.start(settings_of(bucket, small, model="nonsense"), tmp_path).communicate(timeout=100)
    failed = latest_run(server)
    wait_until(
        lambda: text(told, "needs a look", "2 of 4 cases are quarantined", "report.html"), 60
    )
    assert "1 file_truncated" in text(told, "needs a look")
    wait_until(lambda: text(told, failed["name"], "failed", "found no configs/inference.json"), 60)
    assert f"/flow-run/{failed['id']}" in text(told, failed["name"], "failed")


def test_a_receiver_is_told_of_a_run_that_takes_longer_than_cases_did(
    server, told, copies, cohort, tmp_path
):
    """The second run has a case to do again, and two that are done tell how long one takes."""
    bucket, small = cohort
    settings = settings_of(bucket, small)
    copies.start(settings, tmp_path).communicate(timeout=100)
    Store().remove(join(bucket, f"out/{small.sound[0]}.json"))
    env = {"UNET_PIPELINE_LATE_FACTOR": "0.001"}
    copies.start(settings, tmp_path, env=env).communicate(timeout=100)
    late = latest_run(server)
    wait_until(lambda: text(told, "takes longer than expected", "cases done after 0 s"), 60)
    assert f"/flow-run/{late['id']}" in text(told, "takes longer than expected")


SHORT = 12 / 3600  # hours; Prefect takes 10 seconds at least


@pytest.mark.soak
@pytest.mark.parametrize("told", [replace(NOTIFY, late_hours=SHORT, begin_hours=SHORT,
                                          night_hours=SHORT)], indirect=True)  # fmt: skip
def test_a_receiver_is_told_of_what_does_not_happen(deployed, told, s3_env):
    """A night that goes on, with none after it; then one that is due, and that no worker takes."""
    bucket = s3_env.bucket("long")
    small = small_cohort(Store(), join(bucket, "scans"))
    settings = settings_of(bucket, small, windows={"overlap": 0.95})
    run = start_run(deployed, "nightly", settings)
    wait_until(lambda: text(told, run["name"], "takes longer than 0.00333333 hours", "Running"))
    wait_until(lambda: text(told, "no night has begun", "Look at the schedule"), 60)
    cancelling = {"type": "CANCELLING", "name": "Cancelling"}
    deployed.api(f"/flow_runs/{run['id']}/set_state", {"state": cancelling})
    wait_for_run(deployed, run, 60)
    archive = "/work_pools/local/queues/archive"  # that of the nights
    deployed.api(archive, {"is_paused": True}, method="PATCH")
    try:
        due = start_run(deployed, "nightly", settings)
        wait_until(lambda: text(told, due["name"], "has not begun", "polls its work pool"), 100)
    finally:
        deployed.api(f"/flow_runs/{due['id']}", method="DELETE")
        deployed.api(archive, {"is_paused": False}, method="PATCH")


def test_a_run_has_ended_whatever_its_state_is_called():
    (late,) = [
        one for one in automations("id", Notify("a/b")) if one["name"].endswith("takes long")
    ]
    names = {
        "Completed",
        "CompletedWithFaults",
        "WrongRequest",
        "Crashed",
        "Cancelled",
        STOPPED,
        AS_ASKED,
    }
    assert {f"prefect.flow-run.{name}" for name in names} <= {*late["trigger"]["expect"]}


def test_registered_again_there_are_as_many_as_before(server, told):
    names = sorted(one["name"] for one in server.api("/automations/filter", {}))
    register(server, Notify("custom-webhook/pager"))
    again = server.api("/automations/filter", {})
    assert sorted(one["name"] for one in again) == names
    assert len([name for name in names if name.startswith(NAMES)]) == 6
    assert all(one["enabled"] for one in again)


@pytest.mark.parametrize("block", ["pager", "slack-webhook/nobody", "no-such-type/pager"])
def test_a_block_that_is_not_there_is_refused(server, block):
    with pytest.raises(RequestError) as caught:
        register(server, Notify(block))
    assert caught.value.code == "notify_block_missing"
