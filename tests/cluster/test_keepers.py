"""Workers whose folders for temporary files differ, as those of several hosts do."""

import tempfile

import numpy as np
import pytest
from bundles import CT, random_bundle

from benchmarks.endings import scheduler_of_others
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import Budget, ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.elsewhere import own_address, read_from
from unet_pipeline.errors import CaseError
from unet_pipeline.jobs.segment import open_segment, segment_case
from unet_pipeline.scratch import scratch_here
from unet_pipeline.storage.store import Store
from unet_pipeline.tasks import remove_scratch
from unet_pipeline.volume.formats.nifti_voxels import encode_volume
from unet_pipeline.volume.header import header_of
from unet_pipeline.volume.kept import keep, keep_plain

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """Return the address of a scheduler with two workers, each with temporary files of its own."""
    with scheduler_of_others(tmp_path_factory.mktemp("hosts"), ["other"]) as (address, _):
        yield address


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    values = np.random.default_rng(0).integers(-300, 400, (48, 40, 44)).astype(np.int16)
    data = encode_volume(values, header_of(values.shape, np.eye(4), values.dtype))
    Store().write(str(folder / "images" / "case.nii"), data)
    random_bundle(folder / "bundle", features=(4, 4, 8), roi_size=(16, 16, 16), preprocessing=CT)
    return folder


def label_map(place, executor) -> bytes:
    settings = SegmentSettings(
        images=str(place / "images"), model=str(place / "bundle"), output=str(place / "out"),
        windows=WindowSettings(tile=(24, 20, 44), batch=2), resume=False,
        cluster=ClusterSettings(kind="serial", threads=1), budget=Budget(memory_gb=0.0001),
    )  # fmt: skip
    run = open_segment(settings)
    record = segment_case(run, run.cases[0], executor)
    assert record.status == "done", record.message
    return Store().read(record.output)


def test_a_case_in_scratch_needs_no_folder_that_all_hosts_see(hosts, place):
    with open_executor(ClusterSpec("serial")) as executor:
        expected = label_map(place, executor)
    with open_executor(ClusterSpec(hosts)) as executor:
        assert label_map(place, executor) == expected
        folders = executor.client.run(tempfile.gettempdir)
        assert len({*folders.values(), tempfile.gettempdir()}) == 3
        left = executor.client.run(lambda: [*scratch_here(".").glob("unet-pipeline-*")])
        assert not any(left.values())


def test_sums_are_read_from_who_keeps_them_until_another_host_has_them_removed(hosts):
    values = np.arange(120).reshape(2, 3, 4, 5)[:, 1:, :, ::2]
    with open_executor(ClusterSpec(hosts)) as executor:
        one, other = executor.client.scheduler_info()["workers"]
        name = "unet-pipeline-" + "1" * 32
        call = executor.client.submit
        kept = call(keep_plain, values, name, workers=[one]).result()
        read = call(lambda: kept[:, :, :, :], workers=[other]).result()
        np.testing.assert_array_equal(read, values)
        call(kept.remove, workers=[other]).result()
        assert not call(lambda: (scratch_here(name) / kept.name).exists(), workers=[one]).result()
        call(kept.remove, workers=[other], key="once more").result()
        with pytest.raises(CaseError, match="removed there"):
            call(lambda: kept[0], workers=[other]).result()
        executor.everywhere(10, remove_scratch, name)


def test_a_part_is_read_from_who_keeps_it_and_is_lost_with_it(hosts):
    values = np.arange(24.0).reshape(2, 3, 4)
    with open_executor(ClusterSpec(hosts)) as executor:
        one, other = executor.client.scheduler_info()["workers"]
        name = "unet-pipeline-" + "0" * 32
        call = executor.client.submit
        kept = call(keep, values, name, workers=[one]).result()
        assert kept.keeper == one
        part = call(lambda: kept[1, 1:3, ::2], workers=[other]).result()
        np.testing.assert_array_equal(part, values[1, 1:3, ::2])
        with pytest.raises(CaseError) as caught:
            kept[0]  # this process is no worker
        assert caught.value.code == "scratch_lost"
        executor.everywhere(10, remove_scratch, name)
        with pytest.raises(CaseError, match="removed there"):
            call(lambda: kept[0], workers=[other], pure=False).result()
    assert own_address() is None
    with pytest.raises(CaseError):
        read_from(None, name, "x", [])
