"""What one process takes for a case: the budget, some room of its own, whatever the volume."""

import json
import subprocess
import sys

import pytest
from bundles import CT, random_bundle, transform

ROOM_BYTES = 400_000_000  # what compilers and buffers take, whatever the volume
FINISHING_BYTES = 250_000_000  # of them, what the last call takes
VALUES_BYTES = 4 * 2**25  # of the labels whose values are in memory at once
CHILD = """
import json, re, sys
from pathlib import Path
from unet_pipeline.processes import prepare_process
prepare_process()
import numpy as np
from unet_pipeline import pipeline
from unet_pipeline.cluster.backends import open_executor
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.jobs.segment import open_segment, segment_case
from unet_pipeline.config import Budget, ClusterSettings, SegmentSettings
from unet_pipeline.volume.formats.nifti_header import header_bytes
from unet_pipeline.volume.header import header_of

def memory(what):
    status = Path("/proc/self/status").read_text()  # anonymous and mapped pages, as Linux counts
    return 1024 * int(re.search(rf"{what}:\\s+(\\d+) kB", status)[1])

finish, peaks = pipeline.finish_case, []

def finish_case(*arguments):
    before, peak = memory("VmRSS"), memory("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")  # let the peak begin anew
    try:
        return finish(*arguments)
    finally:
        peaks.extend([memory("VmHWM") - before, peak])

pipeline.finish_case = finish_case
folder, shape = Path(sys.argv[1]), (512, 512, int(sys.argv[2]))
for kind, values in (("images", np.int16), ("masks", np.uint8)):
    (folder / kind).mkdir()
    header = header_of(shape, np.diag([0.8, 0.8, 1, 1]), values)
    with open(folder / kind / "a.nii", "wb") as file:
        file.write(header_bytes(shape, np.dtype(values), header))
        for z in range(shape[2]):
            plane = np.arange(512 * 512) % (3 if kind == "masks" else 2**15)
            file.write(plane.astype(values).tobytes())
run = open_segment(SegmentSettings(
    images=f"{folder}/images", masks=f"{folder}/masks", model=f"{folder}/bundle",
    output=f"{folder}/out", cluster=ClusterSettings(kind="serial", threads=1),
    budget=Budget(memory_gb=0.1, scratch=str(folder)), confidence="map",
    postprocess=("largest", "remove-small:0.5ml", "fill-holes", "keep:1"),
))
before = memory("VmHWM")
with open_executor(ClusterSpec("serial")) as executor:
    record = segment_case(run, run.cases[0], executor)
assert record.status == "done", record.message
assert record.dice
finishing, earlier = peaks
print(json.dumps({"finishing": finishing, "all": max(earlier, memory("VmHWM")) - before}))
"""


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_what_a_case_takes_does_not_grow_with_its_volume(tmp_path):
    """67 and 268 million voxels with --memory-gb 0.1, under a network of coarse voxels.

    With a mask of as many bytes, margins of as many, and steps after the decision.
    """
    found = {}
    for depth in (256, 1024):
        folder = tmp_path / str(depth)
        random_bundle(
            folder / "bundle", features=(4, 4, 8),
            preprocessing=(*CT[:3], transform("Spacingd", pixdim=[8.0, 8.0, 8.0]),
                           transform("NormalizeIntensityd"), CT[4]),
        )  # fmt: skip
        child = [sys.executable, "-c", CHILD, str(folder), str(depth)]
        said = subprocess.run(child, check=True, capture_output=True, text=True)
        found[depth] = json.loads(said.stdout)
    small, large = found.values()
    assert large["finishing"] < FINISHING_BYTES, found
    assert large["finishing"] < small["finishing"] + VALUES_BYTES + 30_000_000, found
    assert large["all"] < ROOM_BYTES, found
