"""Sums of seams lie in scratch until the tiles that need them are merged, and no longer."""

import numpy as np
import pytest
from bundles import CT, random_bundle

from unet_pipeline import pipeline
from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import Budget, ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.jobs.segment import open_segment, segment_case
from unet_pipeline.scratch import scratch_here
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.formats.nifti_voxels import encode_volume
from unet_pipeline.volume.header import header_of


@pytest.fixture
def run(tmp_path):
    values = np.random.default_rng(0).integers(-300, 400, (48, 40, 44)).astype(np.int16)
    data = encode_volume(values, header_of(values.shape, np.eye(4), values.dtype))
    Store().write(str(tmp_path / "images" / "case.nii"), data)
    random_bundle(tmp_path / "bundle", features=(4, 4, 8), roi_size=(16, 16, 16), preprocessing=CT)
    return open_segment(
        SegmentSettings(
            images=str(tmp_path / "images"),
            model=str(tmp_path / "bundle"),
            output=str(tmp_path / "out"),
            windows=WindowSettings(tile=(24, 20, 44)),
            cluster=ClusterSettings(kind="serial", threads=1),
            budget=Budget(scratch=str(tmp_path)),
        )
    )


def test_no_sum_is_left_when_the_last_tile_is_merged(run, monkeypatch):
    kept, finish, merge = [], pipeline.finish_case, pipeline.merge_tile

    def look(job_scratch: str) -> int:
        return len([*scratch_here(job_scratch).glob("*.npy")])

    def merged(*arguments):
        kept.append(look(arguments[-1]))
        return merge(*arguments)

    def finished(staged, tiles, before, job):
        kept.append(look(job.scratch))
        return finish(staged, tiles, before, job)

    monkeypatch.setattr(pipeline, "merge_tile", merged)
    monkeypatch.setattr(pipeline, "finish_case", finished)
    record = segment_case(run, run.cases[0], SerialExecutor())
    assert record.status == "done", record.message
    *at_merges, at_the_end = kept
    assert len(at_merges) == 4
    assert all(at_merges)
    assert at_the_end == 0
