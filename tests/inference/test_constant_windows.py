"""Windows of one value are computed once, and not a bit of any sum changes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from bundles import random_bundle

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.errors import CaseError
from unet_pipeline.inference import loaded
from unet_pipeline.inference.constant import ScoreCache, constant_value
from unet_pipeline.inference.predictor import Predictor
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.jobs.segment import open_segment, segment_case
from unet_pipeline.networks.bundle import PACKAGED
from unet_pipeline.networks.depth import AdaptiveRule
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.windows import window_starts
from unet_pipeline.volume.formats.nifti_voxels import encode_volume
from unet_pipeline.volume.header import header_of

ROI = (16, 16, 16)
READ_BOX = Box.whole((48, 32, 32))


def windows_of(read_box: Box, roi: int = 16) -> list[tuple[int, int, int]]:
    xs, ys, zs = (window_starts(n, roi, 0.5) for n in read_box.shape)
    return [(x, y, z) for x in xs for y in ys for z in zs]


@pytest.fixture(scope="module")
def air() -> np.ndarray:
    """A small body in air."""
    values = np.zeros((1, *READ_BOX.shape), np.float32)
    values[0, 33:45, 3:13, 2:30] = np.random.default_rng(0).random((12, 10, 28))
    return values


def make_spec(folder, **options) -> ModelSpec:
    bundle = load_bundle(random_bundle(folder, roi_size=ROI, **options), Store())
    return ModelSpec(bundle, Store(), ROI, batch=3, threads=1)


def test_one_value_is_told_from_several():
    window = np.full((2, 8, 8, 8), 0.25, np.float32)
    window[1] = -1
    assert constant_value(window) == np.array([0.25, -1], np.float32).tobytes()
    window[1, 7, 3, 5] = np.nextafter(np.float32(-1), np.float32(0))
    assert constant_value(window) is None
    zeros = np.zeros((1, 8, 8, 8), np.float32)
    assert constant_value(zeros[:, ::2, 1:3, ::-1]) == bytes(4)  # a view in any order
    zeros[0, 4, 4, 4] = -0.0
    assert constant_value(zeros) is None  # a network could tell them apart


def test_the_least_recently_used_scores_make_room():
    cache = ScoreCache(max_bytes=2 * 4 * 4)
    a, b, c = (torch.full((4,), float(value)) for value in range(3))
    cache.put(b"a", a)
    cache.put(b"b", b)
    assert cache.get(b"a") is a
    cache.put(b"c", c)
    assert (cache.get(b"a"), cache.get(b"b"), cache.get(b"c")) == (a, None, c)


def assert_reuse_changes_no_bit(spec: ModelSpec, air: np.ndarray) -> None:
    read_box = Box.whole(air.shape[1:])
    windows = windows_of(read_box, spec.roi_size[0])
    reusing = Predictor(spec)
    first, again = (reusing.score(air, read_box, windows) for _ in range(2))
    every = Predictor(spec, reuse_bytes=0).score(air, read_box, windows)
    assert first.sums_CXYZ.tobytes() == every.sums_CXYZ.tobytes() == again.sums_CXYZ.tobytes()
    boxes = [Box.at(start, spec.roi_size).within(read_box) for start in windows]
    constant = sum(not air[(slice(None), *box)].any() for box in boxes)
    assert 2 * constant > len(windows)
    assert (every.stats.reused, first.stats.reused, again.stats.reused) == (
        0,
        constant - 1,
        constant,
    )
    assert again.stats.seconds["forward"] < every.stats.seconds["forward"]


@pytest.mark.parametrize("mirror", [(), (0, 2)])
def test_reuse_changes_no_bit_of_a_network_with_instance_norm(tmp_path, air, mirror):
    """The variance of such windows is zero, so that the norm divides rounding errors by epsilon."""
    spec = replace(make_spec(tmp_path, features=(4, 8)), mirror=mirror)
    layers = load_network(spec.bundle, spec.store).modules()
    assert any(isinstance(layer, torch.nn.InstanceNorm3d) for layer in layers)
    assert_reuse_changes_no_bit(spec, air)


@pytest.mark.parametrize("depth", [2, "adaptive"])
def test_reuse_changes_no_bit_of_a_trained_network_at_any_depth(air, depth):
    bundle = load_bundle(str(PACKAGED / "phantom"), Store())
    bundle = replace(bundle, adaptive=AdaptiveRule(limit=0.25, promised_loss=0.01))
    spec = ModelSpec(bundle, Store(), (32, 32, 32), batch=3, threads=1, depth=depth)
    assert_reuse_changes_no_bit(
        spec, np.kron(air[:, 8:, :, :16], np.ones((1, 2, 2, 2), np.float32))
    )


def test_values_of_their_own_have_scores_of_their_own(tmp_path):
    """Two channels of four constants, each window's value another; every one computed once."""
    spec = make_spec(tmp_path, channels=2, features=(4, 8))
    read_box = Box.whole((64, 16, 16))
    values = np.repeat(np.float32([[0, 1, 0, 1], [0, 0, 1, 1]]), 16, axis=1)
    values = np.broadcast_to(values[..., None, None], (2, *read_box.shape)).copy()
    windows = [(start, 0, 0) for start in (0, 16, 32, 48)]
    reusing = Predictor(spec)
    scored = [reusing.score(values, read_box, windows) for _ in range(2)]
    every = Predictor(spec, reuse_bytes=0).score(values, read_box, windows)
    assert [one.stats.reused for one in scored] == [0, 4]
    assert all(one.sums_CXYZ.tobytes() == every.sums_CXYZ.tobytes() for one in scored)


def test_scores_that_are_no_numbers_are_not_kept(tmp_path):
    predictor = Predictor(make_spec(tmp_path, features=(4, 8)))
    nothing = np.full((1, *READ_BOX.shape), np.nan, np.float32)
    for _ in range(2):
        with pytest.raises(CaseError) as caught:
            predictor.score(nothing, READ_BOX, windows_of(READ_BOX))
        assert caught.value.code == "scores_not_finite"


def test_the_label_map_of_a_ct_with_air_is_the_same_and_the_sidecar_counts(tmp_path, air):
    """A run whose predictor keeps nothing, and one that reuses more than half of the windows."""
    folder = random_bundle(tmp_path / "model", features=(4, 8), roi_size=ROI)
    hounsfield = np.where(air[0] > 0, 100 * air[0], -1000).astype(np.int16)
    data = encode_volume(hounsfield, header_of(READ_BOX.shape, np.eye(4), hounsfield.dtype))
    Store().write(str(tmp_path / "images" / "ct.nii"), data)
    settings = SegmentSettings(
        images=str(tmp_path / "images"), model=folder, output=str(tmp_path / "out"),
        cluster=ClusterSettings(kind="serial", threads=1), resume=False,
    )  # fmt: skip
    run = open_segment(settings)
    spec = run.model.spec
    label_maps, reused = [], []
    for predictor in (Predictor(spec, reuse_bytes=0), Predictor(spec)):
        loaded._predictors.clear()
        loaded._predictors[spec.key] = predictor
        record = segment_case(run, run.cases[0], SerialExecutor())
        assert record.status == "done", record.message
        label_maps.append(Store().read(record.output))
        sidecar = json.loads(Store().read(record.output.replace(".nii.gz", ".json")))
        reused.append(sidecar["windows_reused"] / sidecar["windows"])
    assert label_maps[0] == label_maps[1]
    assert reused[0] == 0
    assert reused[1] > 0.5
