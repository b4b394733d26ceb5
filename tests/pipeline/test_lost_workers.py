"""A case that kills its worker is told from its neighbours, and is not tried again as it was."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cohorts import write_tiny
from distributed.diagnostics.plugin import SchedulerPlugin

from unet_pipeline.cluster import backends, starting
from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.cluster.places import local
from unet_pipeline.config import Budget, ClusterSettings, SegmentSettings
from unet_pipeline.errors import CaseError
from unet_pipeline.jobs import segment
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.storage.store import Store


@pytest.mark.parametrize("gigabytes", [2.0, 0.032])  # also of those who ask for little
def test_cases_whose_workers_died_are_tried_at_the_end_with_half_the_memory(
    tmp_path, monkeypatch, gigabytes
):
    """Who is at fault dies again; its neighbour does not. Only the deaths are made up here."""
    write_tiny(Store(), str(tmp_path), 3)
    settings = SegmentSettings(
        images=str(tmp_path / "images"), model="phantom", output=str(tmp_path / "out"),
        cluster=ClusterSettings(kind="serial", threads=1),
        budget=Budget(memory_gb=gigabytes, retries=2),
    )  # fmt: skip
    tried, one = [], segment.segment_models

    def dying(run, case, executor):
        tried.append((case.name[-2:], run.settings.budget.memory_gb))
        if case.name.endswith("01") or tried[-1] == ("02", gigabytes):
            error = CaseError(segment.LOST, found="a death", wanted="none", remedy="Look")
            return [segment.quarantined(case, error)]
        return one(run, case, executor)

    monkeypatch.setattr(segment, "segment_models", dying)
    monkeypatch.setattr(segment, "segment_again", lambda *asked: dying(*asked[:3]))
    records = {r.case[-2:]: r for r in run_segment(open_segment(settings), SerialExecutor())}
    half, quarter = gigabytes / 2, gigabytes / 4
    first = [(name, gigabytes) for name in ("01", "02", "03")]
    assert tried == [*first, ("01", half), ("01", quarter), ("02", half)]
    assert {name: r.code or r.status for name, r in records.items()} == {
        "01": "worker_lost", "02": "less_memory", "03": "done",
    }  # fmt: skip
    assert f"a memory budget of {quarter} GB" in records["01"].message


def write_thin(path: Path, gigabytes: float) -> None:
    """Write a volume of float64 that takes hardly any disk: one bright plane, else zeros.

    Its voxels are of 0.05 mm, so the network sees few.
    """
    shape = (500, 500, round(gigabytes * 1e9 / 8 / 500**2))
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape(shape)
    header.set_sform(np.diag([0.05, 0.05, 0.05, 1]), code=1)
    header.set_qform(np.diag([0.05, 0.05, 0.05, 1]), code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with path.open("wb") as file:
        header.write_to(file)
        file.seek(352)
        file.write(np.ones(500**2).tobytes())
        file.truncate(352 + 8 * 500**2 * shape[2])


class Deaths(SchedulerPlugin):
    """Counts the workers that a scheduler loses."""

    name, workers = "deaths", 0

    def remove_worker(self, *_args, **_more) -> None:
        self.workers += 1


def segmented(folder, monkeypatch, failures: int, memory_gb: float):
    """Segment a folder on a worker of 1.2 GB, of which it needs a third for itself.

    Returns the records by name, and how many workers died.
    """
    monkeypatch.setattr(local, "MEMORY_LIMIT", 1_200_000_000)
    monkeypatch.setitem(backends._CONFIG, "distributed.scheduler.allowed-failures", failures)
    settings = SegmentSettings(
        images=str(folder / "images"), model="phantom", output=str(folder / "out"),
        cluster=ClusterSettings(kind="local", workers=1, threads=1),
        budget=Budget(memory_gb=memory_gb),
    )  # fmt: skip
    with starting.open_executor(settings.cluster.spec()) as executor:
        deaths = Deaths()
        executor.client.cluster.scheduler.add_plugin(deaths)
        records = {r.case: r for r in run_segment(open_segment(settings), executor)}
        return records, deaths.workers


@pytest.mark.slow
def test_a_case_that_kills_its_worker_twice_is_quarantined_and_its_neighbour_is_done(
    tmp_path, monkeypatch
):
    """Real deaths, by Dask's nanny; of one worker for each try, to be short."""
    write_tiny(Store(), str(tmp_path), 1)
    write_thin(tmp_path / "images" / "a-huge.nii", 1.5)
    monkeypatch.setattr(backends, "_call_bytes", lambda *_: None)  # as if nobody knew the limit
    monkeypatch.setattr(segment, "HALVINGS", 1)
    records, deaths = segmented(tmp_path, monkeypatch, failures=0, memory_gb=4.0)
    assert {name: r.code or r.status for name, r in records.items()} == {
        "a-huge": "worker_lost", "phantom-01": "done",
    }  # fmt: skip
    assert "a memory budget of 2 GB" in records["a-huge"].message
    assert deaths == 2


@pytest.mark.slow
def test_a_case_that_is_larger_than_its_worker_is_done_in_what_that_has(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    write_thin(tmp_path / "images" / "a-huge.nii", 1.5)
    records, deaths = segmented(tmp_path, monkeypatch, failures=0, memory_gb=4.0)
    assert (records["a-huge"].status, deaths) == ("done", 0)


@pytest.mark.soak
def test_a_case_that_half_the_memory_is_enough_for_is_done(tmp_path, monkeypatch):
    """As built: Dask begins a call again once, so each try may take two workers along.

    The worker is thought to have more than it has: half of that is less than half of the request.
    """
    write_tiny(Store(), str(tmp_path), 3)
    write_thin(tmp_path / "images" / "a-large.nii", 1.0)
    monkeypatch.setattr(backends, "_call_bytes", lambda *_: 1_600_000_000)
    records, deaths = segmented(tmp_path, monkeypatch, failures=1, memory_gb=4.0)
    assert {r.status for r in records.values()} == {"done"}
    assert records["a-large"].code == "less_memory"
    assert deaths >= 2
    (step,) = json.loads((tmp_path / "out" / "a-large_dseg.json").read_bytes())["memory_steps"]
    assert step == "tiles for 0.8 GB of 1.6 GB, after a worker died"
