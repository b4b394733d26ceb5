"""The flow as plain Python: a real Prefect server, a real bucket, real Dask workers."""

import json
import re
import shutil
import urllib.request
from pathlib import Path

import pytest
from cohorts import write_tiny
from faulty_s3 import PASS, Answer, faulty_s3
from flow_runs import latest_run, of_run, settings_of, start_flow, wait_until
from planted_names import FAULTS, SOUND

from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.leases import Leases
from unet_pipeline.storage.store import Store, join

pytestmark = pytest.mark.slow


def test_a_cohort_through_the_flow_on_dask(server, on_dask):
    run, _ = on_dask
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "CompletedWithFaults")
    assert f"{len(FAULTS)} quarantined" in run["state"]["message"]
    tasks = {task["name"]: task["state_name"] for task in of_run(server, "task_runs", run)}
    sound, faulty = dict.fromkeys(SOUND, "Completed"), dict.fromkeys(FAULTS, "Quarantined")
    assert tasks == sound | faulty
    logs = server.api("/logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}})
    assert any("loaded phantom" in line["message"] for line in logs)  # said on a worker


def test_what_the_page_of_a_run_shows(server, on_dask, s3):
    run, _ = on_dask
    artifacts = {(a["key"] or a["type"]): a for a in of_run(server, "artifacts", run)}
    assert artifacts["progress"]["data"] == 100
    rows = {row["case"]: row for row in json.loads(artifacts["cases"]["data"])}
    assert rows["moved"]["code"] == "origin_mismatch"
    assert rows["sound-1"]["mean_dice"] > 0.8
    assert "no-volume" in artifacts["summary"]["data"]
    assert "| Network |" in artifacts["cost"]["data"]
    assert "cases per hour" in artifacts["cost"]["data"]
    written = s3.store.list_files(run["parameters"]["settings"]["output"])
    (report,) = [url for url in written if url.endswith("report.html")]
    assert report in artifacts["report"]["description"]
    assert b"moved" in opened(artifacts["report"]["data"])
    assert opened(rows["sound-1"]["picture"]).startswith(b"\x89PNG")
    assert rows["moved"]["picture"] == ""
    assert re.search(
        rf"{len(rows)} of {len(rows)} cases in [^,]*, .* a minute[.] Run 2",
        artifacts["progress"]["description"],
    )


def opened(link: str) -> bytes:
    """What a browser without keys gets by the link of an artifact."""
    address = re.search(r"\((https?://[^)]+)\)", link.replace("<", "").replace(">", ""))[1]
    with urllib.request.urlopen(address) as answer:
        return answer.read()


def test_a_wrong_request_fails_the_flow_with_its_sentence(server, cohort, tmp_path):
    bucket, small = cohort
    flow = start_flow(server, settings_of(bucket, small, model="nonsense"), tmp_path)
    said, _ = flow.communicate(timeout=100)
    assert flow.returncode == 2
    assert "Traceback" not in said
    run = latest_run(server)
    assert (run["state_type"], run["state_name"]) == ("FAILED", "WrongRequest")
    assert "nonsense: found no configs/inference.json" in run["state"]["message"]
    assert run["state"]["message"] == f"[bundle_missing] {said.splitlines()[-1]}"


def test_a_fault_that_passes_is_tried_again(server, copies, tmp_path):
    """The image is a link to itself, which no system can open, until a first try has failed."""
    (name,) = write_cohort(Store(), str(tmp_path), 1)
    image = tmp_path / "images" / f"{name}.nii.gz"
    data = image.read_bytes()
    image.unlink()
    image.symlink_to(image)
    manifest = tmp_path / "cohort.csv"
    manifest.write_text(f"case,image\n{name},{image}\n")
    settings = {
        "images": str(manifest),
        "model": "phantom",
        "output": str(tmp_path / "out"),
        "cluster": {"kind": "serial", "threads": 1},
    }
    flow = copies.start(settings, tmp_path)

    def waits_for_another_try():
        states = {"state": {"name": {"any_": ["AwaitingRetry"]}}}
        return server.api("/task_runs/filter", {"task_runs": {**states, "name": {"any_": [name]}}})

    wait_until(waits_for_another_try, 60)
    image.unlink()
    image.write_bytes(data)
    said, _ = flow.communicate(timeout=100)
    assert flow.returncode == 0, said
    run = latest_run(server)
    assert run["state_name"] == "Completed"
    (task,) = of_run(server, "task_runs", run)
    assert task["run_count"] > 1


def test_a_second_night_has_task_runs_for_what_is_left_alone(server, copies, cohort, tmp_path):
    bucket, small = cohort
    settings = settings_of(bucket, small)
    said, tasks, messages = "", [], []
    for _ in range(2):
        flow = copies.start(settings, tmp_path)
        said, _ = flow.communicate(timeout=100)
        assert flow.returncode == 0, said
        run = latest_run(server)
        tasks.append({one["name"] for one in of_run(server, "task_runs", run)})
        messages.append(run["state"]["message"])
    assert tasks == [{*small.sound, small.misaligned, small.cut_short},
                     {small.misaligned, small.cut_short}]  # fmt: skip
    assert "2 done, 0 skipped, 2 quarantined" in messages[0]
    assert "0 done, 2 skipped, 2 quarantined" in messages[1]


def test_a_case_that_another_run_has_is_no_failed_task_run(server, copies, tmp_path):
    (name,) = write_tiny(Store(), str(tmp_path), 1)
    settings = {
        "images": str(tmp_path / "images"),
        "model": "phantom",
        "output": str(tmp_path / "out"),
        "cluster": {"kind": "serial", "threads": 1},
    }
    other = Leases(Store(), settings["output"], "another")
    assert other.take(f"{name}_dseg")
    flow = copies.start(settings, tmp_path)

    def waits_for_the_other():
        states = {"state": {"name": {"any_": ["WithAnotherRun"]}}}
        return server.api("/task_runs/filter", {"task_runs": {**states, "name": {"any_": [name]}}})

    wait_until(waits_for_the_other, 60)
    other.release(f"{name}_dseg")
    said, _ = flow.communicate(timeout=100)
    other.presence.end()
    assert flow.returncode == 0, said
    run = latest_run(server)
    assert run["state_name"] == "Completed"
    states = [one["state_name"] for one in of_run(server, "task_runs", run)]
    assert sorted(states) == ["Completed", "WithAnotherRun"]


@pytest.mark.parametrize(
    "module",
    [
        "unet_pipeline_flows.segment",
        pytest.param("unet_pipeline_flows.check", marks=pytest.mark.soak),
    ],
)
def test_a_bucket_that_is_gone_stops_a_flow_with_its_message_and_report(
    server, copies, s3_env, monkeypatch, tmp_path, module
):
    bucket, over = s3_env.bucket("stopped"), []
    write_tiny(Store(), bucket, 2)

    def rule(request):
        if over or "/images/phantom-" in request.path:
            over.append(request.path)
            return Answer(404, "NoSuchBucket")
        return PASS

    settings = {
        "images": join(bucket, "images"), "masks": join(bucket, "masks"), "model": "phantom",
        "output": join(bucket, "out"), "cluster": {"kind": "serial"},
    }  # fmt: skip
    with faulty_s3(s3_env.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.restart(rule)
        flow = copies.start(settings, tmp_path, module)
        said, _ = flow.communicate(timeout=100)
    assert flow.returncode == 3, said
    assert "Traceback" not in said
    run = latest_run(server)
    assert (run["state_type"], run["state_name"]) == ("FAILED", "StoppedByFault")
    message = run["state"]["message"]
    assert message.startswith(("0 of 2 done.", "0 of 2 checked."))
    assert "found no bucket stopped-" in message
    report = Path(message.rpartition("Report: ")[2])
    assert report.is_file()
    shutil.rmtree(report.parent)


def test_a_run_that_stops_as_asked_has_not_failed(server, cohort, copies, tmp_path):
    bucket, small = cohort
    request = tmp_path / "settings.json"
    request.write_text(json.dumps(settings_of(bucket, small, stop={"after": "0.001s"})))
    words = ("-m", "unet_pipeline_flows.segment", str(request))
    flow = copies.run(tmp_path, *words, env={"UNET_PIPELINE_LOG_FORMAT": "json"})
    said, _ = flow.communicate(timeout=100)
    assert flow.returncode == 0, said
    run = latest_run(server)
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    (line,) = (line for line in lines if line["message"] == run["state"]["message"])
    assert (line["flow_run"], line["run"][:2]) == (run["id"], "20")
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "StoppedAsAsked")
    assert run["state"]["message"].startswith("0 of 4 done. 4 left: found a run of")
    assert of_run(server, "task_runs", run) == []


def test_settings_that_are_none_are_said_in_one_line(server, tmp_path):
    settings = {"images": "scans", "output": str(tmp_path), "cluster": {"threads": "s3cret"}}
    flow = start_flow(server, settings, tmp_path, "unet_pipeline_flows.check")
    said, _ = flow.communicate(timeout=100)
    assert flow.returncode == 2
    assert said.splitlines()[-1] == "cluster.threads: Extra inputs are not permitted"
    assert "s3cret" not in said
