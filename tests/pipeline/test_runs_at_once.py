"""Runs over one output share its cases: each is computed once, also where a run is killed."""

import json
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from bundles import random_bundle
from cohorts import write_tiny

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import SegmentSettings
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.shards import shard_of
from unet_pipeline.storage.store import Store, join

CASES, HELPER = 12, Path(__file__).parents[1] / "run_beside.py"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return random_bundle(tmp_path_factory.mktemp("beside") / "bundle", features=(4, 8))


@pytest.fixture
def local(tmp_path):
    root = str(tmp_path / "store")
    write_tiny(Store(), root, CASES)
    return root


@pytest.fixture
def bucket(s3_env):
    root = s3_env.bucket("beside")
    write_tiny(Store(), root, CASES)
    return root


def request_of(root, bundle, output="out"):
    return {
        "images": join(root, "images"), "model": bundle, "output": join(root, output),
        "cluster": {"kind": "serial", "threads": 1},
    }  # fmt: skip


def run_at_once(root, bundle, tmp_path, *orders):
    """Run processes that begin together; return what each said, and exit statuses."""
    settings = request_of(root, bundle)
    command = [sys.executable, "-W", "error", str(HELPER)]
    with ExitStack() as stack:
        processes = []
        for number, order in enumerate(orders):
            file = tmp_path / f"{number}.json"
            usual = {"settings": settings, "die": 0, "elsewhere": False, "life": 60.0}
            file.write_text(json.dumps(usual | order))
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            opened = subprocess.Popen([*command, str(file)], text=True, **pipes)
            processes.append(stack.enter_context(opened))
        for one in processes:
            assert one.stdout.readline() == "ready\n"
        for one in processes:
            one.stdin.write("go\n")
            one.stdin.flush()
        said = [[tuple(json.loads(line)) for line in one.stdout] for one in processes]
        return said, [one.wait() for one in processes]


def statuses(said):
    return Counter(status for lines in said for _, status, _ in lines)


def label_maps(root, output="out"):
    store, folder = Store(), join(root, output)
    urls = [url for url in store.list_files(folder) if url.endswith("_dseg.nii.gz")]
    return {url.rpartition("/")[2]: store.read(url) for url in urls}


def assert_nothing_is_left(root):
    assert not [url for url in Store().list_files(join(root, "out")) if "/.unet-pipeline" in url]


def assert_shared(root, bundle, tmp_path, runs):
    said, codes = run_at_once(root, bundle, tmp_path, *[{}] * runs)
    assert codes == [0] * runs
    assert statuses(said) == {"done": CASES, "skipped": (runs - 1) * CASES}
    alone = open_segment(SegmentSettings.model_validate(request_of(root, bundle, "alone")))
    assert {one.status for one in run_segment(alone, SerialExecutor())} == {"done"}
    assert label_maps(root) == label_maps(root, "alone")
    assert_nothing_is_left(root)


@pytest.mark.slow
def test_two_runs_that_begin_at_once_compute_each_case_once(local, bundle, tmp_path):
    assert_shared(local, bundle, tmp_path, 2)


@pytest.mark.soak
@pytest.mark.parametrize("place", ["local", "bucket"])
def test_five_runs_that_begin_at_once_compute_each_case_once(place, bundle, tmp_path, request):
    assert_shared(request.getfixturevalue(place), bundle, tmp_path, 5)


@pytest.mark.slow
def test_parts_of_a_cohort_side_by_side_do_each_case_once(local, bundle, tmp_path):
    """Each closes its run, with a report of its own, and has its lines in the one index."""
    shards = [f"{number}/3" for number in (1, 2, 3)]
    orders = [{"settings": {**request_of(local, bundle), "shard": shard}} for shard in shards]
    said, codes = run_at_once(local, bundle, tmp_path, *orders)
    assert codes == [0] * 3
    assert statuses(said) == {"done": CASES}
    mine = {case: shard for shard, lines in zip(shards, said, strict=True) for case, _, _ in lines}
    assert {case: shard_of(shard).has(case) for case, shard in mine.items()} == dict.fromkeys(
        mine, True
    )
    alone = open_segment(SegmentSettings.model_validate(request_of(local, bundle, "alone")))
    assert {one.status for one in run_segment(alone, SerialExecutor())} == {"done"}
    assert label_maps(local) == label_maps(local, "alone")
    told = [json.loads(path.read_text()) for path in Path(local).glob("out/runs/*/run.json")]
    counts = Counter(mine.values())
    assert {one["shard"]: one["counts"]["done"] for one in told} == counts
    assert [one["left"] for one in told] == [0] * 3
    assert_nothing_is_left(local)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "elsewhere"),
    [("local", True), pytest.param("local", False, marks=pytest.mark.soak),
     pytest.param("bucket", True, marks=pytest.mark.soak)],
)  # fmt: skip
def test_the_cases_of_a_killed_run_are_done_by_the_other(
    place, elsewhere, bundle, tmp_path, request
):
    root = request.getfixturevalue(place)
    order = {"elsewhere": elsewhere, "life": 2.0}
    said, codes = run_at_once(root, bundle, tmp_path, {**order, "die": 3}, order)
    assert codes == [-9, 0]
    assert statuses(said[:1])["done"] == 2
    assert statuses(said[1:]) == {"done": CASES - 2, "skipped": 2}
    assert_nothing_is_left(root)
    assert len(label_maps(root)) == CASES
