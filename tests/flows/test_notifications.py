"""Somebody is told: automations of a real server, and a real receiver of a webhook."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from flow_runs import latest_run, settings_of, wait_until

from unet_pipeline.errors import RequestError
from unet_pipeline.local.notifications import NAMES, Notify, automations, register
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


@pytest.fixture
def told(server, received):
    """A server whose automations send to the receiver."""
    texts, url = received
    kind = server.api("/block_types/slug/custom-webhook")
    schemas = server.api("/block_schemas/filter",
                         {"block_schemas": {"block_type_id": {"any_": [kind["id"]]}}})  # fmt: skip
    data = {"name": "pager", "url": url, "json_data": {"text": "{{subject}} | {{body}}"}}
    block = {"name": "pager", "block_type_id": kind["id"], "block_schema_id": schemas[0]["id"]}
    made = server.api("/block_documents/", {**block, "data": data})
    register(server, Notify("custom-webhook/pager"))
    yield texts
    for one in server.api("/automations/filter", {}):
        server.api(f"/automations/{one['id']}", method="DELETE")
    server.api(f"/block_documents/{made['id']}", method="DELETE")


def test_a_receiver_is_told_of_faults_and_of_runs_that_fail(server, told, copies, cohort, tmp_path):
    bucket, small = cohort
    env = {"UNET_PIPELINE_ATTENTION_SHARE": "0.5"}  # as `up` tells its worker
    copies.start(settings_of(bucket, small), tmp_path, env=env).communicate(timeout=100)
    copies.start(settings_of(bucket, small, model="nonsense"), tmp_path).communicate(timeout=100)
    failed = latest_run(server)

    def text(*words):
        return next((one for one in told if all(word in one for word in words)), None)

    wait_until(lambda: text("needs a look", "2 of 4 cases are quarantined", "report.html"), 60)
    assert "1 file_truncated" in text("needs a look")
    wait_until(lambda: text(failed["name"], "failed", "found no configs/inference.json"), 60)
    assert f"/flow-run/{failed['id']}" in text(failed["name"], "failed")


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
    assert len([name for name in names if name.startswith(NAMES)]) == 4
    assert all(one["enabled"] for one in again)


@pytest.mark.parametrize("block", ["pager", "slack-webhook/nobody", "no-such-type/pager"])
def test_a_block_that_is_not_there_is_refused(server, block):
    with pytest.raises(RequestError) as caught:
        register(server, Notify(block))
    assert caught.value.code == "notify_block_missing"
