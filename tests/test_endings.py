"""A run ends within 10 s of a signal, leaves no scratch, and says what was done."""

import signal

import pytest

from benchmarks.endings import LOSSES, SIGNALS, Ending, measure, place_of, write_cohort

MOST_SECONDS = 10.0


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("endings")
    write_cohort(folder)
    return folder


def ended(kind: str, name: str, cohort, tmp_path) -> Ending:
    end = {**SIGNALS, **LOSSES}[name]
    (tmp_path / "images").symlink_to(cohort / "images")
    with place_of(kind, tmp_path) as place:
        ending = measure(place, end, tmp_path)
    assert ending.status == end.status
    assert ending.scratch == []
    assert ending.seconds < MOST_SECONDS
    assert "Traceback (most recent call last)" not in ending.said, ending.said
    if len(end.signals) < 2:
        assert ending.report is not None
        assert ending.report["counts"]["done"] == 1
        assert ending.report["stopped"].startswith("1 of 5 done.")
    return ending


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [("serial", "SIGTERM"), ("local", "Ctrl-C")])
def test_a_signal_ends_a_run_in_time_with_its_report_and_without_scratch(
    cohort, tmp_path, kind, name
):
    ending = ended(kind, name, cohort, tmp_path)
    assert signal.Signals(SIGNALS[name].signals[0]).name in ending.report["stopped"]
    assert "Run the same command again to go on" in ending.said


@pytest.mark.slow
def test_a_second_signal_ends_a_run_at_once_and_scratch_is_gone(cohort, tmp_path):
    ended("serial", "Ctrl-C twice", cohort, tmp_path)


@pytest.mark.slow
def test_a_cluster_without_workers_ends_a_run_with_its_report_and_without_scratch(cohort, tmp_path):
    ending = ended("tcp", "worker killed", cohort, tmp_path)
    assert "found no worker for" in ending.report["stopped"]
    assert ending.report["stopped"].endswith("Run again: what is done stays.")


@pytest.mark.soak
def test_a_scheduler_that_is_gone_ends_a_run_with_its_report_and_without_scratch(cohort, tmp_path):
    ending = ended("tcp", "scheduler killed", cohort, tmp_path)
    assert "found no scheduler for" in ending.report["stopped"]


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["serial", "local", "tcp"])
@pytest.mark.parametrize("name", SIGNALS)
def test_every_signal_ends_a_run_on_every_cluster(cohort, tmp_path, kind, name):
    ended(kind, name, cohort, tmp_path)
