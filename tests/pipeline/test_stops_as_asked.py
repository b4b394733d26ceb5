"""A night that ends after a time or at a price: at a case's end, and the next one goes on."""

import json
from itertools import count
from pathlib import Path
from time import perf_counter

import pytest
from cohorts import write_tiny
from command_line import cli

import unet_pipeline as up
from unet_pipeline import run_end
from unet_pipeline.errors import RequestError
from unet_pipeline.storage.store import Store

ONE_HOUR_A_LOOK = 3600


@pytest.fixture
def cohort(tmp_path, monkeypatch) -> tuple[str, str]:
    """Three scans, and a clock of the run that goes on by an hour whenever it is looked at."""
    write_tiny(Store(), str(tmp_path), 3)
    first = perf_counter() + ONE_HOUR_A_LOOK + 30
    monkeypatch.setattr(run_end, "perf_counter", count(first, ONE_HOUR_A_LOOK).__next__)
    return str(tmp_path / "images"), str(tmp_path / "out")


def last_run(output: str) -> Path:
    """Return the folder that was written last: names of one second are in no order."""
    ends = Path(output, "runs").glob("*/run.json")
    return max(ends, key=lambda file: file.stat().st_mtime_ns).parent


def test_after_its_time_a_run_begins_no_further_case_and_the_next_one_goes_on(cohort):
    images, output = cohort
    words = ("segment", images, "--model", "phantom", "--output", output, "--cluster", "serial")
    done = cli(*words, "--stop-after", "1h 30m")
    assert done.returncode == 3
    said = (
        "1 of 3 done. 2 left: found a run of 2 h; wanted no further case after 1 h 30 min "
        "(--stop-after). Nothing is at fault: the next run goes on. Run again: what is done stays."
    )
    assert f"stopped {said}" in done.stderr
    folder = last_run(output)
    told = json.loads((folder / "run.json").read_text())
    assert (told["stopped"], told["stop_code"], told["left"]) == (said, "time_up", 2)
    assert said in (folder / "report.html").read_text()
    first = (folder / "statistics.csv").read_text()
    assert cli(*words).returncode == 0
    rest = last_run(output)
    assert json.loads((rest / "run.json").read_text())["counts"] == {
        "done": 2, "skipped": 1, "quarantined": 0,
    }  # fmt: skip
    assert set(first.splitlines()) < set((rest / "statistics.csv").read_text().splitlines())


def test_at_its_price_a_call_ends_with_what_is_done_and_keeps_the_numbers_of_before(cohort):
    images, output = cohort
    asked = {"model": "phantom", "output": output, "hourly_rate": 2.5, "currency": "EUR"}
    result = up.segment(images, stop_at_price="5 EUR", **asked)
    assert [one.status for one in result] == ["done"]
    assert (result.summary.stop_code, result.summary.left) == ("price_reached", 2)
    assert "; wanted no further case from 5.00 EUR on (--stop" in result.summary.stopped
    table = (last_run(output) / "statistics.csv").read_text()
    up.segment(images, stop_at_price=0.1, **asked)  # begins none
    assert (last_run(output) / "statistics.csv").read_text() == table


def test_what_a_manifest_calls_urgent_is_done_before_the_time_is_up(cohort, tmp_path):
    images, output = cohort
    rows = [f"{n},{images}/phantom-0{n}.nii.gz,{n}" for n in (1, 2, 3)]
    manifest = tmp_path / "cohort.csv"
    manifest.write_text("\n".join(["case,image,priority", *rows]))
    result = up.segment(str(manifest), model="phantom", output=output, stop_after="3h")
    assert [one.case for one in result] == ["2", "3"]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"stop_after": "soon"}, "such as 6h, 90m"),
        ({"stop_after": "0h"}, "more than none"),
        ({"stop_at_price": "20 EUR"}, "only with hourly_rate"),
        ({"stop_at_price": "20 EUR", "hourly_rate": 1.0}, "say currency EUR"),
        ({"stop_at_price": "0", "hourly_rate": 1.0}, "a price above 0"),
    ],
)
def test_a_time_or_a_price_that_is_none_is_refused(cohort, asked, wanted):
    with pytest.raises(RequestError, match=wanted):
        up.segment(cohort[0], model="phantom", output=cohort[1], **asked)
