"""The Dask executor on a real cluster of processes: what it says when things go wrong."""

import logging
import os
import time

import dask
import pytest
from distributed.comm.core import CommClosedError

from unet_pipeline.cluster import backends, dask_executor
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.errors import CaseError, RequestError


@pytest.fixture(scope="module")
def executor():
    """One worker; what it was doing when it ended is not tried again."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        open_executor(ClusterSpec("local", 1)) as opened,
    ):
        yield opened


def test_a_result_and_an_error_come_back(executor):
    total = executor.submit(sum, [executor.submit(int, "2"), executor.submit(int, "3")])
    assert executor.result(total) == 5
    with pytest.raises(ValueError, match="invalid literal"):
        executor.result(executor.submit(int, "no number"))


def test_each_worker_is_told_and_none_is_waited_for_long(executor, tmp_path):
    executor.everywhere(10, (tmp_path / "told").touch)
    assert (tmp_path / "told").exists()
    executor.everywhere(0.1, time.sleep, 2)
    assert executor.result(executor.submit(int, "4")) == 4


def test_a_result_that_takes_longer_to_fetch_than_a_wait_comes_whole(executor, monkeypatch):
    monkeypatch.setattr(dask_executor, "POLL_SECONDS", 0.005)
    assert len(executor.result(executor.submit(bytes, 200_000_000))) == 200_000_000


def test_room_is_there_once_few_enough_are_unfinished(executor):
    quick, slow = executor.submit(int, "1"), executor.submit(time.sleep, 2)
    assert executor.wait_for_room([quick, slow], 2) in ([slow], [])
    assert executor.wait_for_room([quick, slow], 1) == []


def test_what_a_worker_logs_comes_out_here(executor, caplog):
    worker_side = logging.getLogger("unet_pipeline.somewhere")
    with caplog.at_level(logging.INFO, "unet_pipeline"):
        executor.result(executor.submit(worker_side.info, "said on a worker"))
        deadline = time.monotonic() + 20
        while "said on a worker" not in caplog.messages and time.monotonic() < deadline:
            time.sleep(0.05)
    (record,) = [r for r in caplog.records if r.getMessage() == "said on a worker"]
    assert record.process != os.getpid()


def test_a_case_that_kills_its_workers_is_told_apart(executor, caplog):
    with caplog.at_level(logging.CRITICAL, "distributed"):
        with pytest.raises(CaseError) as raised:
            executor.result(executor.submit(os._exit, 1))
        assert raised.value.code == "worker_lost"
        assert executor.result(executor.submit(int, "5")) == 5  # by a new worker


def lose_a_connection() -> None:
    """Fail as the fetching of a result does whose scheduler dies, and is there again at once."""
    raise CommClosedError("Stream is closed")


def test_a_connection_that_is_lost_on_the_way_is_not_unforeseen(executor):
    with pytest.raises(CaseError) as raised:
        executor.result(executor.submit(lose_a_connection))
    assert raised.value.code == "scheduler_lost"


def test_work_of_a_cluster_that_was_closed_is_neither_lost_nor_unforeseen():
    with open_executor(ClusterSpec("local", 1)) as executor:
        under_way = executor.submit(time.sleep, 60)
    for attempt in (
        lambda: executor.result(under_way),
        lambda: executor.submit(int, "6"),
    ):
        with pytest.raises(CaseError) as raised:
            attempt()
        assert raised.value.code == "cluster_closed"


def test_an_address_without_a_scheduler(monkeypatch):
    monkeypatch.setattr(backends, "CONNECT_SECONDS", 1.0)
    with pytest.raises(RequestError) as raised, open_executor(ClusterSpec("tcp://127.0.0.1:1")):
        pass
    assert raised.value.code == "cluster_unreachable"
