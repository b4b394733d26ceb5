"""P3: labels and confidence are identical for any tile size and number of workers."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import CT, random_bundle, transform

from unet_pipeline.cluster.dask_executor import DaskExecutor
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import Budget, ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.evaluation.confidence import CONFIDENCE
from unet_pipeline.jobs.segment import open_segment, segment_case
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.formats.nifti_voxels import encode_volume
from unet_pipeline.volume.header import header_of

TILES = [None, (30, 30, 30), (17, 40, 9), (5, 48, 44)]
AFFINE = np.array([[0, 1.1, 0, -3], [-1.4, 0, 0, 20], [0, 0, 2.0, 5], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("p3")
    values = np.random.default_rng(0).integers(-300, 400, (52, 48, 44)).astype(np.int16)
    data = encode_volume(values, header_of(values.shape, AFFINE, values.dtype))
    Store().write(str(folder / "images" / "case.nii"), data)
    random_bundle(
        folder / "bundle",
        network="unetpp",
        features=(4, 4, 4, 8, 8),
        roi_size=(16, 32, 16),
        preprocessing=(
            *CT[:3], transform("Spacingd", pixdim=[1.2, 1.2, 1.8]),
            transform("NormalizeIntensityd"), CT[4],
        ),
    )  # fmt: skip
    return folder


def label_bytes(place: Path, tile, executor, budget_gb: float = 2.0) -> tuple[bytes, object]:
    """Return the label map, and how sure the network is of it."""
    settings = SegmentSettings(
        images=str(place / "images"),
        model=str(place / "bundle"),
        output=str(place / "out"),
        windows=WindowSettings(tile=tile, batch=2),
        cluster=ClusterSettings(kind="serial", threads=1),
        budget=Budget(memory_gb=budget_gb, scratch=str(place)),
        resume=False,
    )
    run = open_segment(settings)
    record = segment_case(run, run.cases[0], executor)
    assert record.status == "done", record.message
    sure = [
        {name: one[name] for name in CONFIDENCE if name in one}
        for one in record.statistics.values()
    ]
    assert any(sure)
    return Store().read(record.output), sure


@pytest.fixture(scope="module")
def expected(place) -> tuple[bytes, object]:
    with open_executor(ClusterSpec("serial")) as executor:
        return label_bytes(place, None, executor)


@pytest.mark.parametrize("tile", TILES)
def test_tiles_change_no_byte_in_one_process(place, expected, tile):
    with open_executor(ClusterSpec("serial")) as executor:
        assert label_bytes(place, tile, executor) == expected


def test_scratch_and_small_memory_change_no_byte(place, expected):
    """A budget under the volume's size: voxels in Zarr, the model view never whole, many tiles."""
    with open_executor(ClusterSpec("serial")) as executor:
        assert label_bytes(place, None, executor, budget_gb=0.0001) == expected
    assert not [*place.glob("unet-pipeline-*")], "decoded voxels were left in scratch"


def test_nothing_is_left_in_scratch_of_a_case_that_fails(place, tmp_path):
    image = next((place / "images").glob("*.nii*"))
    broken = tmp_path / "images" / image.name
    broken.parent.mkdir()
    data = gzip.decompress(image.read_bytes()) if image.suffix == ".gz" else image.read_bytes()
    damaged = bytearray(gzip.compress(data, mtime=0))
    damaged[-8] ^= 1  # the check sum: it shows when all voxels are in scratch
    broken.with_name("broken.nii.gz").write_bytes(bytes(damaged))
    settings = SegmentSettings(
        images=str(tmp_path / "images"), model=str(place / "bundle"), output=str(tmp_path / "out"),
        cluster=ClusterSettings(kind="serial", threads=1),
        budget=Budget(memory_gb=0.0001, scratch=str(tmp_path)),
    )  # fmt: skip
    run = open_segment(settings)
    with open_executor(ClusterSpec("serial")) as executor:
        record = segment_case(run, run.cases[0], executor)
    assert record.code == "file_corrupt"
    assert not [*tmp_path.glob("unet-pipeline-*")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "tiles_by_workers",
    [
        pytest.param({4: TILES[2:3], 2: TILES[1:2], 1: TILES[:1]}, id="a tile each"),
        pytest.param(dict.fromkeys((4, 2, 1), TILES), id="all tiles", marks=pytest.mark.soak),
    ],
)
def test_workers_change_no_byte(place, expected, tiles_by_workers):
    """Four workers, then two of them, then one."""
    with open_executor(ClusterSpec("local", 4)) as executor:
        assert executor.workers == 4
        for workers, tiles in tiles_by_workers.items():
            retire_all_but(executor, workers)
            for tile in tiles:
                assert label_bytes(place, tile, replace(executor, workers=workers)) == expected


def retire_all_but(executor: DaskExecutor, workers: int) -> None:
    """Retire workers of a cluster, which would start others in their place if it wanted them."""
    wanted = executor.client.cluster.worker_spec
    names = [*wanted][workers:]
    for name in names:
        del wanted[name]
    executor.client.retire_workers(names=names)
    assert len(executor.client.scheduler_info(n_workers=-1)["workers"]) == workers
