"""Runs with another engine: eager's labels but for near ties, the same bytes on any workers."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from bundles import random_bundle
from command_line import cli

from unet_pipeline.caches import cache_of
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.records import CaseRecord
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.decoding import read_labels
from unet_pipeline.volume.formats.nifti_voxels import encode_volume
from unet_pipeline.volume.header import header_of

SHAPE = (44, 36, 28)
pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="no openvino")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("engines")
    values = np.random.default_rng(0).integers(-300, 400, SHAPE).astype(np.int16)
    header = header_of(SHAPE, np.diag([1.0, 1.0, 2.0, 1.0]), values.dtype)
    Store().write(str(folder / "images" / "case.nii"), encode_volume(values, header))
    random_bundle(folder / "bundle", features=(4, 8), roi_size=(16, 16, 16))
    return folder


@pytest.fixture(autouse=True)
def cache(place, monkeypatch) -> None:
    """A cache of their own, but for compiled loops: workers would compile them for seconds."""
    loops = cache_of("numba")
    monkeypatch.setenv("UNET_PIPELINE_CACHE", str(place / "cache"))
    shutil.copytree(loops, cache_of("numba"), dirs_exist_ok=True)


def segmented(place: Path, name: str, executor, engine: str, tile=None) -> CaseRecord:
    settings = SegmentSettings(
        images=str(place / "images"),
        model=str(place / "bundle"),
        output=str(place / name),
        windows=WindowSettings(tile=tile, batch=2, engine=engine),
        cluster=ClusterSettings(kind="serial", threads=1),
    )
    (record,) = run_segment(open_segment(settings), executor)
    assert record.status == "done", record.message
    return record


def sidecar(record: CaseRecord) -> dict:
    return json.loads(Path(record.output.replace(".nii.gz", ".json")).read_text())


@pytest.mark.slow
def test_openvino_gives_eagers_labels_and_the_same_bytes_on_any_workers(place):
    with open_executor(ClusterSpec("serial")) as serial:
        eager = segmented(place, "eager", serial, "eager")
        whole = segmented(place, "whole", serial, "openvino")
        tiles = segmented(place, "tiles", serial, "openvino", (17, 40, 9))
    with open_executor(ClusterSpec("local", 2)) as workers:
        dask = segmented(place, "dask", workers, "openvino", (20, 20, 20))
    expected = Path(whole.output).read_bytes()
    assert Path(tiles.output).read_bytes() == expected
    assert Path(dask.output).read_bytes() == expected
    labels = [
        read_labels(Store(), record.output, budget_bytes=2**20)[0] for record in (eager, whole)
    ]
    assert len(np.unique(labels[0])) == 3
    assert np.mean(labels[0] != labels[1]) <= 1e-4


def test_the_sidecar_says_which_engine_and_what_a_window_takes(place):
    with open_executor(ClusterSpec("serial")) as serial:
        eager = sidecar(segmented(place, "says-eager", serial, "eager"))
        other = sidecar(segmented(place, "says-openvino", serial, "openvino"))
    assert (eager["engine"]["asked"], eager["engine"]["used"]) == ("eager", "eager")
    assert eager["engine"]["seconds_per_window"] == {}
    assert (other["engine"]["asked"], other["engine"]["used"]) == ("openvino", "openvino")
    assert other["engine"]["seconds_per_window"].keys() == {"eager", "openvino"}
    assert min(other["engine"]["seconds_per_window"].values()) > 0
    assert other["engine"]["agreement"]["decided"] == 0
    assert other["settings"]["engine"] == "openvino"
    assert eager["settings_digest"] != other["settings_digest"]


@pytest.mark.parametrize(
    ("engine", "code"), [("openvin", "setting_invalid"), ("tensorrt", "engine_unsupported")]
)
def test_the_command_says_what_is_wrong_with_an_engine(place, engine, code):
    done = cli(
        "segment", str(place / "images"), "--model", str(place / "bundle"),
        "--output", str(place / "never"), "--cluster", "serial", "--engine", engine,
    )  # fmt: skip
    assert done.returncode == 2
    assert code in done.stderr
    assert not list((place / "never").rglob("*.nii.gz"))
