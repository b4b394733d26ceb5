"""A window's scores depend neither on its place in a batch nor on the other windows."""

import numpy as np
import pytest
import torch
from bundles import random_bundle
from monai.data.utils import compute_importance_map

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.inference.importance import importance_map
from unet_pipeline.inference.loaded import predictor_for
from unet_pipeline.inference.predictor import Predictor
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.merge import FIXED_POINT

ROI = (16, 16, 16)
READ_BOX = Box.whole((32, 16, 16))


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> ModelSpec:
    folder = random_bundle(tmp_path_factory.mktemp("bundle"), features=(4, 8), roi_size=ROI)
    return ModelSpec(load_bundle(folder, Store()), Store(), ROI, batch=2)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.random.default_rng(0).random((1, *READ_BOX.shape), dtype=np.float32)


def test_the_sums_are_weight_times_score(spec, values):
    predictor = Predictor(spec)
    scored = predictor.score(values, READ_BOX, [(0, 0, 0)])
    sums, seconds = scored.sums_CXYZ, scored.stats.seconds
    with torch.inference_mode():
        batch = torch.zeros(2, 1, *ROI)
        batch[0] = torch.from_numpy(values[:, :16])
        scores = predictor.network(batch)[0].numpy() * importance_map(ROI, "gaussian")
    np.testing.assert_allclose(sums[:, :16] / FIXED_POINT, scores, atol=1e-7)
    assert (sums[:, 16:] == 0).all()
    assert seconds["infer"] >= seconds["forward"] > 0


def test_order_and_batches_of_windows_change_no_bit(spec, values):
    windows = [(0, 0, 0), (8, 0, 0), (16, 0, 0)]
    predictor = Predictor(spec)
    together = predictor.score(values, READ_BOX, windows).sums_CXYZ
    backwards = predictor.score(values, READ_BOX, windows[::-1]).sums_CXYZ
    alone = sum(predictor.score(values, READ_BOX, [start]).sums_CXYZ for start in windows)
    assert together.tobytes() == backwards.tobytes() == alone.tobytes()


def test_a_process_loads_a_model_once(spec, values):
    assert predictor_for(spec) is predictor_for(spec)
    assert predictor_for(ModelSpec(spec.bundle, spec.store, ROI, batch=1)) is not None


def test_scores_that_are_no_numbers_are_the_cases_fault(spec, values):
    with pytest.raises(CaseError) as caught:
        Predictor(spec).score(values * np.float32(np.inf), READ_BOX, [(0, 0, 0)])
    assert caught.value.code == "scores_not_finite"


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_the_importance_map_is_monais(blend):
    expected = compute_importance_map((8, 16, 12), mode=blend, device="cpu", dtype=torch.float32)
    np.testing.assert_array_equal(importance_map((8, 16, 12), blend), expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(spec):
    with pytest.raises(RequestError) as caught:
        Predictor(ModelSpec(spec.bundle, spec.store, ROI, device="cuda"))
    assert caught.value.code == "cuda_missing"
