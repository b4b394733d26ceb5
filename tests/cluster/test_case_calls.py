"""The time of a case on a cluster: from when it runs, and what has timed out takes no slot."""

import time

import pytest

from unet_pipeline.clock import check_time
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.errors import CaseError


@pytest.fixture(scope="module")
def executor():
    """One worker that runs one call at a time."""
    with open_executor(ClusterSpec("local", 1, calls_at_once=1)) as opened:
        yield opened


def looks(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.02)
        check_time()
    return "done"


def test_what_waits_behind_others_has_its_whole_time_left(executor):
    cases = [executor.for_case(1.5) for _ in range(4)]
    handles = [case.submit(looks, 0.8) for case in cases]
    assert [case.result(h) for case, h in zip(cases, handles, strict=True)] == ["done"] * 4


def test_a_call_ends_itself_at_its_limit_and_the_next_one_runs(executor):
    case = executor.for_case(0.5)
    begin = time.monotonic()
    with pytest.raises(CaseError) as caught:
        case.result(case.submit(looks, 60))
    assert caught.value.code == "time_limit"
    assert executor.result(executor.submit(int, "1")) == 1
    assert time.monotonic() - begin < 20


def test_a_call_that_does_not_look_is_given_up_and_its_worker_restarted(executor):
    case = executor.for_case(1.0)
    with pytest.raises(CaseError) as caught:
        case.result(case.submit(time.sleep, 600))
    case.give_up()
    assert caught.value.code == "time_limit"
    begin = time.monotonic()
    assert executor.result(executor.submit(int, "2")) == 2
    assert time.monotonic() - begin < 60
