"""Memory that runs out in the middle of a case: less is taken, and the record says so.

Real faults: the processes here may have only so much address space.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from bundles import random_bundle
from cohorts import write_tiny

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.formats.nifti_voxels import encode_volume
from unet_pipeline.volume.header import header_of

BATCH = 256  # whose layers take 268 MB each
ROOM_GB = 0.2
LIMITED = """
import json, resource, sys
from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import SegmentSettings
from unet_pipeline.jobs.segment import open_segment, run_segment

gigabytes, *runs = json.loads(sys.argv[1])
first, *others = [SegmentSettings(**one) for one in runs]
assert all(one.status == "done" for one in run_segment(open_segment(first), SerialExecutor()))
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + int(gigabytes * 1e9)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for one in others:
    for record in run_segment(open_segment(one), SerialExecutor()):
        print(json.dumps([record.status, record.code, record.message]), flush=True)
"""


def asked(images, model: str, output, batch: int = 1) -> SegmentSettings:
    return SegmentSettings(
        images=str(images), model=model, output=str(output),
        windows=WindowSettings(batch=batch),
        cluster=ClusterSettings(kind="serial", threads=1),
    )  # fmt: skip


def limited(gigabytes: float, *runs: SegmentSettings) -> tuple[list[list[str]], str]:
    """Run in a process that may have so much more than its first run; return records and log."""
    asked = json.dumps([gigabytes, *(one.model_dump(mode="json") for one in runs)])
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, asked], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def steps_of(folder) -> list[list[str]]:
    return [json.loads(path.read_bytes())["memory_steps"] for path in folder.glob("*_dseg.json")]


def assert_equal_label_maps(folder, settings: SegmentSettings) -> None:
    for record in run_segment(open_segment(settings), SerialExecutor()):
        name = record.output.rpartition("/")[2]
        assert Store().read(record.output) == (folder / name).read_bytes()


@pytest.mark.soak  # how much is free below a limit on address space differs from run to run
def test_less_is_taken_where_memory_runs_out(tmp_path):
    write_tiny(Store(), str(tmp_path), 2)
    images, long = tmp_path / "images", tmp_path / "long"
    values = np.random.default_rng(0).integers(-200, 300, (64, 64, 128), np.int16)
    header = header_of(values.shape, np.diag([2.0, 2.0, 2.0, 1.0]), values.dtype)
    Store().write(str(long / "one.nii"), encode_volume(values, header))
    small = random_bundle(tmp_path / "small", features=(8, 16))
    large = random_bundle(tmp_path / "large", features=(32, 64), roi_size=(128, 128, 128))
    records, log = limited(
        ROOM_GB,
        asked(images, small, tmp_path / "warm"),
        asked(images, small, tmp_path / "batches", BATCH),
        asked(long, large, tmp_path / "none"),
    )
    codes = [one[:2] for one in records]
    assert codes == [["done", "less_memory"]] * 2 + [["quarantined", "out_of_memory"]], log

    # two cases, and one way down: 128, 64 ... what fits
    assert f"of {BATCH}: near ties may have another label" in records[0][2]
    (steps,) = {*map(tuple, steps_of(tmp_path / "batches"))}
    fitted = int(steps[0].split()[1])
    assert fitted < BATCH
    assert log.count("no memory for") == (BATCH // fitted).bit_length() - 1
    again = asked(images, small, tmp_path / "as-said", fitted)
    assert_equal_label_maps(tmp_path / "batches", again)

    assert "batch of 1 windows of 128 x 128 x 128 voxels" in records[2][2]
    assert "in a process that may have" in records[2][2]
