"""A wrong request fails the run of any flow with its sentence."""

import json
from pathlib import Path

import pytest
from cohorts import tiny_cohort
from flow_runs import latest_run

from unet_pipeline.storage.store import join

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[1] / "wrong_requests.py"
# name of the flow: its settings besides the cohort, and what its state must say
REQUESTS = {
    "check": ({"images": "s3://no-such-bucket-here/x"}, "bucket"),
    "segment": ({"model": "nonsense"}, "nonsense: found no configs"),
    "layers": ({"model": "phantom", "layers": ["bottleneck"]}, "found layer 'bottleneck'"),
    "depths": ({"model": "phantom", "masks": None}, "0 of 4 cases"),
    "compare": ({"models": ["phantom"]}, "1 to compare"),
    "train": (
        {"classes": 2, "features": [4, 8], "roi_size": [16, 16, 16], "spacing": [4, 4, 4]},
        "labels up to 2",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def states(server, copies, s3, tmp_path_factory):
    """Run all of them, and return the final state of each by the name of its flow."""
    bucket = s3.bucket("wrong")
    small = tiny_cohort(s3.store, join(bucket, "scans"))
    given = {"images": small.images, "masks": small.masks, "output": join(bucket, "out")}
    requests = [(flow, {**given, **changes}) for flow, (changes, _) in REQUESTS.items()]
    file = tmp_path_factory.mktemp("wrong") / "requests.json"
    file.write_text(json.dumps(requests))
    ran = copies.run(file.parent, str(SCRIPT), str(file), env=s3.server.environment())
    said, _ = ran.communicate(timeout=200)
    assert ran.returncode == 0, said
    assert not [url for url in s3.store.list_files(bucket) if "/out" in url]
    return {name: latest_run(server, name)["state"] for name in REQUESTS}


@pytest.mark.parametrize("flow", REQUESTS)
def test_a_wrong_request_fails_its_flow_with_its_sentence(states, flow):
    *_, said = REQUESTS[flow]
    assert (states[flow]["type"], states[flow]["name"]) == ("FAILED", "WrongRequest")
    assert said in states[flow]["message"]
