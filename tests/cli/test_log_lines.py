"""`--log-format json`: all that goes to stderr is one JSON object a line, also from workers."""

import json
from datetime import datetime

from cohorts import write_tiny
from command_line import cli_process

from unet_pipeline.storage.store import Store


def test_each_line_says_when_who_what_and_of_which_run_and_case(tmp_path):
    (name,) = write_tiny(Store(), str(tmp_path), 1)
    (tmp_path / "images" / "torn.nii.gz").write_bytes(b"torn")
    words = ("segment", tmp_path / "images", "--model", "phantom", "--output", tmp_path / "out")
    done = cli_process("--log-format", "json", *words, "--cluster", "local", "--threads", "1")
    assert done.returncode == 1, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(datetime.fromisoformat(line["time"]).tzinfo for line in lines)
    (run,) = {line["run"] for line in lines if "run" in line}
    assert (tmp_path / "out" / "runs" / run / "run.json").exists()
    said = {line["message"]: line for line in lines}
    assert said["loaded phantom on cpu"] == {  # on a worker
        "time": said["loaded phantom on cpu"]["time"], "level": "INFO", "run": run, "case": name,
        "logger": "unet_pipeline.inference.loaded", "message": "loaded phantom on cpu",
    }  # fmt: skip
    assert said[f"{name} is done"]["case"] == name
    torn = said["torn is quarantined: file_truncated"]
    assert (torn["level"], torn["case"]) == ("WARNING", "torn")
    assert "Cases" in done.stdout  # which is as it was
