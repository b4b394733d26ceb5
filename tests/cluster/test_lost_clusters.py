"""A cluster that is lost stops the run within its patience, whatever is being waited for."""

import time

import pytest

from benchmarks.endings import scheduler_of_others
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.errors import RunStopped

PATIENCE_SECONDS, MOST_SECONDS = 2.0, 20.0


def test_a_scheduler_that_is_gone_stops_the_run_and_not_its_cases(tmp_path):
    with scheduler_of_others(tmp_path) as (address, processes):
        spec = ClusterSpec(address, calls_at_once=2, wait_minutes=PATIENCE_SECONDS / 60)
        with open_executor(spec) as executor:
            handles = [executor.submit(time.sleep, 600) for _ in range(2)]
            case = executor.for_case(3600)
            in_a_case = case.submit(time.sleep, 600)
            begin = time.monotonic()
            processes["scheduler"].kill()
            for attempt in (
                lambda: executor.result(handles[0]),
                lambda: executor.wait_for_room(handles, 1),
                lambda: executor.submit(int, "1"),
                lambda: case.result(in_a_case),
            ):
                with pytest.raises(RunStopped) as raised:
                    attempt()
                assert raised.value.code == "cluster_lost"
                case.give_up()
        assert PATIENCE_SECONDS < time.monotonic() - begin < MOST_SECONDS
