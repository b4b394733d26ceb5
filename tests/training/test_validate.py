"""Validation is what ``segment`` does, without files."""

import nibabel as nib
import numpy as np
import pytest
from bundles import random_bundle

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import SegmentSettings
from unet_pipeline.inference.predictor import Predictor
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.jobs.segment import open_segment, segment_case
from unet_pipeline.networks.bundle_writer import standard_preprocessing
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store
from unet_pipeline.training.cases import load_case, pass_gate
from unet_pipeline.training.history import (
    History,
    Spread,
    Validation,
    mean_per_label,
    spread_per_label,
)
from unet_pipeline.training.validate import segmented, validate, validate_with_confidence

STORE = Store()
PREPROCESSING = standard_preprocessing((3.0, 3.0, 4.0))


def test_the_label_map_and_its_dice_are_those_of_segment(tmp_path):
    names = write_cohort(STORE, str(tmp_path), 4)
    model = random_bundle(
        tmp_path / "model", features=(4, 8), roi_size=(16, 16, 16), preprocessing=PREPROCESSING
    )
    request = {
        "images": f"{tmp_path}/images",
        "masks": f"{tmp_path}/masks",
        "model": model,
        "output": f"{tmp_path}/out",
        "cluster": {"kind": "serial", "threads": 1},
    }
    run = open_segment(SegmentSettings.model_validate(request))
    bundle = load_bundle(model, STORE)
    spec = ModelSpec(bundle, STORE, bundle.roi_size, threads=1)
    predictor = Predictor(spec, load_network(bundle, STORE))
    sound, _ = pass_gate(STORE, run.cases)
    for item in sound[::3]:  # upright, and turned by 8 degrees
        case = load_case(STORE, item, PREPROCESSING)
        record = segment_case(run, item.case, SerialExecutor())
        stored = np.asanyarray(nib.load(record.output).dataobj)
        assert np.array_equal(segmented(predictor, case, bundle.overlap), stored)
        (dice,) = validate(predictor, [case], bundle.overlap)
        assert {str(label): value for label, value in dice.items()} == record.dice
        ((again, sure),) = validate_with_confidence(predictor, [case], bundle.overlap)
        assert again == dice
        assert sure
        assert all(one.items() <= record.statistics[label].items() for label, one in sure.items())
    assert len(names) == 4


def test_a_mean_counts_the_cases_that_have_the_label():
    scores = [{1: 1.0, 2: None}, {1: 0.5, 2: None}, {1: 0.0, 2: 0.25}]
    assert mean_per_label(scores) == {1: 0.5, 2: 0.25}
    spread = spread_per_label(scores)
    assert spread[1] == Spread(3, 0.5, 0.5, 0.0, 1.0)
    assert spread[2] == Spread(1, 0.25, None, 0.25, 0.25)
    assert spread_per_label([{1: None}])[1] == Spread(0, None, None, None, None)


def test_a_history_survives_json():
    history = History([1.5, 1.25], [0.1, 0.2], [Validation(2, {1: 0.5, 2: None}, 0.75)], 3.5)
    assert History.of(history.as_dict()) == history
    assert history.best.mean == 0.5
    assert history.final_loss == pytest.approx(1.25)
