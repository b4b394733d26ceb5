"""Calls several at once: what they return comes as it is ready, and a stop comes last."""

from threading import Event
from time import sleep

import pytest

from unet_pipeline import stopping
from unet_pipeline.errors import RunStopped

GONE = RunStopped("storage_gone", found="no store", wanted="a store", remedy="Run again")


def test_all_results_come_the_quick_ones_first():
    slow = Event()

    def call(item: int) -> int:
        if item == 0:
            slow.wait(60)
        return item

    ready = stopping.as_ready(2, call, range(5))
    assert sorted(next(ready) for _ in range(4)) == [1, 2, 3, 4]
    slow.set()
    assert list(ready) == [0]


def test_a_stop_comes_behind_what_was_under_way_and_begins_no_more():
    begun, results = [], []

    def call(item: int) -> int:
        begun.append(item)
        if item == 0:
            raise GONE
        sleep(0.3)
        return item

    with pytest.raises(RunStopped) as raised:
        results.extend(stopping.as_ready(2, call, range(20)))
    assert raised.value is GONE
    assert sorted(results) == sorted(begun)[1:]
    assert len(begun) < 20
