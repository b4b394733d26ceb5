"""How the memory of a worker is shared between its programs, its calls and what waits."""

import pytest
from cohorts import write_tiny

from unet_pipeline import case_runs
from unet_pipeline.cluster.room import (
    BASE_BYTES,
    MOVING_BYTES,
    call_bytes,
    memory_config,
    smallest_call,
)
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import open_segment, segment_case
from unet_pipeline.storage.store import Store


def test_half_of_what_stays_is_for_calls_and_half_for_what_waits():
    limit = 2_000_000_000
    left = 1_600_000_000 - BASE_BYTES
    stays = left - left // 3  # the rest is for what moves
    assert call_bytes(limit, 1) == stays // 2
    assert call_bytes(limit, 3) == stays // 2 // 3
    share = memory_config(limit)["distributed.worker.memory.target"]
    assert share * limit == pytest.approx(stays / 2)


def test_what_moves_does_not_grow_with_the_worker():
    large = 64_000_000_000
    left = 0.8 * large - BASE_BYTES
    assert call_bytes(large, 1) == (left - MOVING_BYTES) // 2


def test_a_worker_on_which_no_call_gets_anywhere_is_refused_with_the_numbers():
    assert call_bytes(1_050_000_000, 2) == 23_333_333
    with pytest.raises(RequestError) as caught:
        call_bytes(1_000_000_000, 2)
    assert caught.value.code == "worker_too_small"
    assert "1.00 GB" in str(caught.value)
    assert "at least 1.02 GB" in str(caught.value)


@pytest.mark.slow
def test_a_case_takes_no_more_than_a_call_of_the_smallest_worker_may(tmp_path, monkeypatch):
    write_tiny(Store(), str(tmp_path), 1)
    settings = SegmentSettings(
        images=str(tmp_path / "images"), model="phantom", output=str(tmp_path / "out"),
        cluster=ClusterSettings(kind="serial", threads=1),
    )  # fmt: skip
    run, asked = open_segment(settings), []
    fits = case_runs.fits_one_tile
    monkeypatch.setattr(
        case_runs, "fits_one_tile", lambda *of: asked.append(of[0].memory_bytes) or fits(*of)
    )
    with open_executor(ClusterSpec("local", 1, memory_gb=1.05)) as executor:
        record = segment_case(run, run.cases[0], executor)
    assert (record.status, asked) == ("done", [23_333_333])


def test_what_a_call_may_take_goes_by_the_threads_that_a_worker_has():
    """Not by those that the run would give workers of its own: a scheduler of others is asked."""
    workers = {
        "a": {"memory_limit": 2_000_000_000, "nthreads": 1},
        "b": {"memory_limit": 4_000_000_000, "nthreads": 8},
        "c": {"memory_limit": 0, "nthreads": 1},
    }
    least = min(call_bytes(2_000_000_000, 1), call_bytes(4_000_000_000, 8))
    assert smallest_call(workers.values()) == least == call_bytes(4_000_000_000, 8)
    assert smallest_call([workers["c"]]) is None
