"""A case's time is counted while it runs, in the thread that works on it."""

from threading import Thread
from time import sleep

import pytest

from unet_pipeline.clock import Clock, check_time, waiting
from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.errors import CaseError


def test_time_is_counted_while_the_clock_runs_and_not_while_it_waits():
    clock = Clock(0.2)
    with clock.running():
        sleep(0.05)
        with waiting():
            sleep(0.3)
        check_time()
        assert 0.04 < clock.seconds < 0.2
    sleep(0.2)
    assert clock.seconds < 0.2
    with clock.running():
        sleep(0.2)
        with pytest.raises(CaseError) as caught:
            check_time()
    assert caught.value.code == "time_limit"
    check_time()  # no clock, no limit


def test_other_threads_have_clocks_of_their_own():
    errors = []

    def work() -> None:
        try:
            check_time()
        except CaseError as error:
            errors.append(error)

    with Clock(0.0).running():
        sleep(0.01)
        thread = Thread(target=work)
        thread.start()
        thread.join()
    assert not errors


def test_calls_in_this_process_share_the_clock_of_their_case():
    def slow() -> None:
        for _ in range(20):
            sleep(0.02)
            check_time()

    executor = SerialExecutor().for_case(0.1)
    with pytest.raises(CaseError):
        executor.submit(slow)
    with pytest.raises(CaseError):
        executor.submit(check_time)
    executor.everywhere(1, check_time)  # cleaning up has its own time
    SerialExecutor().for_case(0.1).submit(check_time)
