"""Calls as they travel: opaque to the scheduler, and several at once."""

import operator
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest

from unet_pipeline.cluster.calls import packed, run_packed
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor


@pytest.fixture(scope="module")
def executor():
    with open_executor(ClusterSpec("local", 1)) as opened:
        yield opened


def known(dask_scheduler) -> int:
    return len(dask_scheduler.tasks)


def test_what_is_packed_is_called_with_its_arguments():
    data, handles = packed(operator.add, [[1, 2], [3]])
    assert handles == []
    assert run_packed(data) == [1, 2, 3]


def test_results_of_other_calls_take_their_places_in_lists_too(executor):
    one, two = executor.submit(int, "1"), executor.submit(int, "2")
    both = executor.submit(operator.add, [one, 5], [two, one])
    assert executor.result(both) == [1, 5, 2, 1]


def test_a_scheduler_that_takes_calls_apart_imports_no_network():
    asked = "import sys, unet_pipeline.cluster.calls as calls; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


class Loaded:
    """Sleeps while it is unpickled, and knows how many do so at a time."""

    now, most = 0, 0

    @classmethod
    def load(cls) -> "Loaded":
        cls.now += 1
        cls.most = max(cls.most, cls.now)
        sleep(0.1)
        cls.now -= 1
        return cls()

    def __reduce__(self):
        return Loaded.load, ()


def test_one_call_is_unpacked_at_a_time():
    """What it is made of is imported then, and MONAI cannot be imported by two threads at once."""
    data, _ = packed(type, [Loaded()])
    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(run_packed, [data] * 3)] == [Loaded] * 3
    assert Loaded.most == 1


def test_calls_of_a_case_leave_together_when_one_is_waited_for(executor):
    before = executor.client.run_on_scheduler(known)
    case = executor.for_case(60)
    first = case.submit(int, "3")
    calls = [case.submit(operator.add, first, number) for number in range(9)]
    assert executor.client.run_on_scheduler(known) == before
    assert case.result(calls[8]) == 11
    assert executor.client.run_on_scheduler(known) == before + 10


def test_calls_that_were_never_sent_are_let_go_of_with_their_case(executor):
    case = executor.for_case(60)
    unsent = case.submit(sleep, 60)
    case.give_up()
    assert executor.result(executor.submit(int, "7")) == 7
    assert unsent.cancelled()
