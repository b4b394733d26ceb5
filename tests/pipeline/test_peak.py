"""What one process takes for a case: the budget, some room of its own, and a byte a voxel."""

import subprocess
import sys

import pytest
from bundles import CT, random_bundle, transform

ROOM_BYTES = 300_000_000  # what compilers and buffers take, whatever the volume
CHILD = """
import resource, sys
from unet_pipeline.processes import prepare_process
prepare_process()
import numpy as np
from unet_pipeline.cluster.backends import open_executor
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.jobs.segment import open_segment, segment_case
from unet_pipeline.config import Budget, ClusterSettings, SegmentSettings
from unet_pipeline.volume.formats.nifti_header import header_bytes
from unet_pipeline.volume.header import header_of

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

folder, shape = sys.argv[1], (512, 512, 768)
header = header_of(shape, np.diag([0.8, 0.8, 1, 1]), np.int16)
with open(f"{folder}/images/a.nii", "wb") as file:
    file.write(header_bytes(shape, np.dtype(np.int16), header))
    for _ in range(shape[2]):
        file.write(np.arange(512 * 512, dtype=np.int16).tobytes())
run = open_segment(SegmentSettings(
    images=f"{folder}/images", model=f"{folder}/bundle", output=f"{folder}/out",
    cluster=ClusterSettings(kind="serial", threads=1),
    budget=Budget(memory_gb=0.1, scratch=folder),
    postprocess=("largest", "remove-small:0.5ml", "fill-holes", "keep:1"),
))
before = peak()
with open_executor(ClusterSpec("serial")) as executor:
    record = segment_case(run, run.cases[0], executor)
assert record.status == "done", record.message
print(peak() - before, np.prod(shape))
"""


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_large_volume_takes_little_more_than_its_label_map(tmp_path):
    """0.4 GB of int16 with --memory-gb 0.1, under a network of coarse voxels."""
    (tmp_path / "images").mkdir()
    random_bundle(
        tmp_path / "bundle", features=(4, 4, 8),
        preprocessing=(*CT[:3], transform("Spacingd", pixdim=[8.0, 8.0, 8.0]),
                       transform("NormalizeIntensityd"), CT[4]),
    )  # fmt: skip
    said = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], check=True, capture_output=True, text=True
    )
    rise, voxels = map(int, said.stdout.split())
    assert rise < ROOM_BYTES + 1.3 * voxels
