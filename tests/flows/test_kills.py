"""``kill -9`` of each part of the system in the middle of a run: nothing is lost or done twice."""

import os
import random
import secrets
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
from flow_runs import latest_run, start_flow

from benchmarks.kills.cohort import MODEL, label_maps, request_of, undisturbed, write_cohort
from benchmarks.kills.copies import Copies
from benchmarks.kills.rounds import Round, play
from benchmarks.kills.scenes import PARTS, open_scene
from benchmarks.kills.site import BUCKET, Site, wait_until
from benchmarks.outage import bar, tasks
from unet_pipeline.local import keeper
from unet_pipeline.local.keeper import Keeper
from unet_pipeline.local.prefect_worker import is_online

CASES, SOAK_CASES, SOAK_KILLS = 12, 60, 20
AWAY_SECONDS = 8.0


@pytest.fixture(scope="module")
def site(deployed, worker_process, copies, tmp_path_factory):
    """The server and the worker of all flows' tests, looked after as ``up`` does."""
    folder = tmp_path_factory.mktemp("kills")
    (root := folder / BUCKET).mkdir()
    (said := folder / "said").mkdir()
    write_cohort(root, CASES)
    (temporary := folder / "tmp").mkdir()
    made = Copies(copies.process, said)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(keeper, "CALM_SECONDS", 0.0)
        stack.callback(made.close)
        looking = Keeper(deployed, worker_process, lambda _: None, time.time())
        env = {**deployed.env, "TMPDIR": str(temporary)}
        place = Site(root, temporary, env, undisturbed(root), deployed, made, stack, looking)
        place.states()  # of other tests' runs
        yield place
        wait_until(lambda: deployed.is_ready() and is_online(deployed), tick=looking.look)


def killed(site: Site, *names: str, times: int) -> Round:
    """Kill parts in turn at random moments, and hold what must hold of what becomes of it."""
    seed = secrets.token_hex(4)
    sys.stdout.write(f"seed {seed}\n")  # which pytest shows where the test fails
    rng = random.Random(seed)
    scene = open_scene(site, rng, *names)
    try:
        found = play(scene, rng, times)
    finally:
        scene.close()
    assert len(found.kills) <= times
    assert (found.lost, found.different, found.twice, found.left) == ([], [], [], [])
    return found


@pytest.mark.slow
def test_a_run_of_a_worker_goes_on_whatever_of_it_is_killed(site, monkeypatch):
    for name in ("prefect-worker", "prefect-server", "flow"):
        monkeypatch.setattr(PARTS[name][1], "spread", 1.0)
    found = killed(site, "prefect-worker", "prefect-server", "flow", times=3)
    assert found.states.keys() <= {"Completed", "Crashed"}
    assert found.states["Completed"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("names", [("dask-worker",), ("s3", "dask-scheduler")])
def test_a_run_by_hand_goes_on_when_workers_and_stores_are_killed(site, names, monkeypatch):
    for name in names:
        monkeypatch.setattr(PARTS[name][1], "spread", 1.0)
    found = killed(site, *names, times=2)
    assert found.states["Completed"] == 1


@pytest.mark.soak
def test_a_run_that_ends_while_the_server_is_away_waits_for_it(site, deployed, tmp_path):
    """For longer than Prefect's own client asks, which is told to ask twice."""
    hasty = replace(deployed, env={**deployed.env, "PREFECT_CLIENT_MAX_RETRIES": "1"})
    output = site.root / "away"
    flow = start_flow(hasty, request_of(str(site.root), "away", str(site.root / MODEL)), tmp_path)
    wait_until(lambda: label_maps(output))
    os.kill(site.server.process.pid, signal.SIGKILL)
    wait_until(lambda: [*output.glob("runs/*/report.html")])
    time.sleep(AWAY_SECONDS)
    assert flow.poll() is None
    wait_until(lambda: flow.poll() is not None, tick=site.tick)
    assert flow.communicate()[0].count("Traceback") == 0
    assert flow.returncode == 0
    assert dict(site.states()) == {"Completed": 1}
    found = latest_run(site.server)
    wait_until(lambda: tasks(site, found["id"]) == {"Completed": CASES}, 30)
    assert bar(site, found["id"]) == 100


@pytest.fixture(scope="module")
def large(site):
    """The same with more cases, for many kills."""
    write_cohort(site.root, SOAK_CASES)
    site.wanted = undisturbed(site.root)
    return site


@pytest.mark.soak
@pytest.mark.parametrize("name", [*PARTS])
def test_each_part_may_be_killed_twenty_times(large, name):
    done = 0
    while done < SOAK_KILLS:
        found = killed(large, name, times=SOAK_KILLS - done)
        done += len(found.kills)
        assert found.states["Completed"] == 1
