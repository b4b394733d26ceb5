"""What a bundle's and nnU-Net's postprocessing do to labels: read, and held against theirs."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import random_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.transforms import Compose
from monai.transforms.post import dictionary as of_monai
from nnunet_models import write_model
from nnunetv2.postprocessing.remove_connected_components import (
    remove_all_but_largest_component_from_segmentation as keep_largest,
)
from scipy import ndimage

from unet_pipeline.config import SegmentSettings
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.opening import open_model
from unet_pipeline.postprocessing import postprocess
from unet_pipeline.storage.store import Store

STORE = Store()
ARGMAX = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
shapes = array_shapes(min_dims=3, max_dims=3, max_side=6)


def scores_of(classes):
    return arrays(np.float32, shapes.map(lambda shape: (classes, *shape)),
                  elements=st.integers(0, 3).map(float))  # fmt: skip


def bundle_with(folder: Path, *steps, classes=3):
    url = Path(random_bundle(folder, features=(4, 8), roi_size=(16, 16, 16), classes=classes))
    config = json.loads((url / "configs/inference.json").read_text())
    config["postprocessing"] = {"_target_": "Compose", "transforms": list(steps)}
    (url / "configs/inference.json").write_text(json.dumps(config))
    return load_bundle(str(url), STORE)


def theirs(scores_CXYZ, *steps):
    """The label map that MONAI makes of scores; of one-hot channels the number of each."""
    made = []
    for step in steps:
        options = {name: value for name, value in step.items() if name != "_target_"}
        made.append(getattr(of_monai, step["_target_"])(**options))
    found_CXYZ = np.asarray(Compose(made)({"pred": torch.from_numpy(scores_CXYZ)})["pred"])
    if len(found_CXYZ) == 1:
        return found_CXYZ[0].astype(np.uint8)
    return np.tensordot(np.arange(len(found_CXYZ)), found_CXYZ, 1).astype(np.uint8)


def ours(bundle, scores_CXYZ, voxel_ml=0.001):
    labels_XYZ = np.asfortranarray(bundle.decision.decide(iter(scores_CXYZ), np.uint8))
    postprocess(labels_XYZ, bundle.label_steps, voxel_ml)
    return labels_XYZ


def has_ties(scores_CXYZ):
    """Whether two parts of a label are as large: which one MONAI keeps is nobody's promise."""
    map_XYZ = scores_CXYZ.argmax(0)
    for labels in ([1], [2], [1, 2]):
        for structure in (np.ones((3, 3, 3)), None):
            numbers_XYZ, _ = ndimage.label(np.isin(map_XYZ, labels), structure)
            sizes = np.bincount(numbers_XYZ.ravel())[1:]
            if len(np.unique(sizes)) < len(sizes):
                return True
    return False


def largest(**options):
    return {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", **options}


ONE_HOT = {**ARGMAX, "to_onehot": 3}
STEPS = {
    "all": ([ARGMAX, largest()], "largest"),
    "some": ([ARGMAX, largest(applied_labels=[2])], "largest:2"),
    "one": ([ARGMAX, largest(applied_labels=1)], "largest:1"),
    "together": ([ARGMAX, largest(applied_labels=[1, 2], independent=False)],
                 "largest:1,2:together"),
    "two": ([ARGMAX, largest(num_components=2)], "largest:2 parts"),
    "faces": ([ARGMAX, largest(connectivity=1)], "largest:6 neighbours"),
    "one-hot": ([ONE_HOT, largest(is_onehot=True)], "largest"),
    "one-hot, together": ([ONE_HOT, largest(applied_labels=[1, 2], independent=False)],
                          "largest:1,2:together"),
    "holes": ([ARGMAX, {"_target_": "FillHolesd", "keys": ["pred"]}], "fill-holes"),
    "holes of one": ([ARGMAX, {"_target_": "FillHolesd", "keys": "pred", "applied_labels": [2],
                               "connectivity": 1}], "fill-holes:2:6 neighbours"),
    "filter": ([ARGMAX, {"_target_": "LabelFilterd", "keys": "pred", "applied_labels": [0, 2]}],
               "keep:2"),
}  # fmt: skip


@pytest.mark.parametrize("case", STEPS)
def test_steps_of_a_bundle_are_monais(case, tmp_path):
    steps, text = STEPS[case]
    bundle = bundle_with(tmp_path / "b", *steps)
    assert (list(map(str, bundle.label_steps)), bundle.not_done) == ([text], ())

    @settings(max_examples=60, deadline=None)
    @given(scores_of(3))
    def held(scores_CXYZ):
        wanted, found = theirs(scores_CXYZ, *steps), ours(bundle, scores_CXYZ)
        assert np.array_equal(found, wanted) or ("largest" in text and has_ties(scores_CXYZ))

    held()


def test_small_parts_of_one_label_go_as_monai_says(tmp_path):
    """By its text; with scikit-image 0.26 it also removes those of exactly ``min_size``."""
    step = {"_target_": "RemoveSmallObjectsd", "keys": "pred", "min_size": 3}
    bundle = bundle_with(tmp_path / "b", ARGMAX, step, classes=2)
    assert list(map(str, bundle.label_steps)) == ["remove-small:3voxels:6 neighbours"]
    in_mm = bundle_with(tmp_path / "mm", ARGMAX, {**step, "by_measure": True}, classes=2)
    assert list(map(str, in_mm.label_steps)) == ["remove-small:0.003ml:6 neighbours"]
    scores_CXYZ = np.zeros((2, 9, 1, 1), np.float32)
    scores_CXYZ[1, [0, 1, 3, 4, 5, 7]] = 1
    assert ours(bundle, scores_CXYZ).ravel().tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert np.array_equal(ours(in_mm, scores_CXYZ), ours(bundle, scores_CXYZ))
    assert np.count_nonzero(ours(in_mm, scores_CXYZ, voxel_ml=0.003)) == 6


INVERT = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing"}


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([largest(), ARGMAX], "before the labels are decided"),
        ([ARGMAX, largest(), INVERT], "on the grid of the network, before Invertd"),
        ([{"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
          {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}, largest()],
         "on regions that may overlap"),
        ([ONE_HOT, {"_target_": "FillHolesd", "keys": "pred"}], "behind to_onehot"),
        ([ARGMAX, {"_target_": "RemoveSmallObjectsd", "keys": "pred"}], "of several labels"),
    ],
)  # fmt: skip
def test_what_would_be_another_label_map_is_refused_with_the_reason(steps, why, tmp_path):
    bundle = bundle_with(tmp_path / "b", *steps)
    assert bundle.label_steps == ()
    assert len(bundle.not_done) == 1
    assert bundle.not_done[0].endswith(f"({why})")


def test_a_step_behind_invert_is_done_and_comes_before_those_on_request(tmp_path):
    bundle = bundle_with(tmp_path / "b", INVERT, ARGMAX, largest())
    asked = SegmentSettings(
        images="-", model=bundle.url, output="-", postprocess=("remove-small:1ml", "keep:1")
    )
    assert list(map(str, open_model(asked, STORE).label_steps)) == [
        "largest", "remove-small:1ml", "keep:1",
    ]  # fmt: skip


def nnunet_with(folder: Path, *kwargs, form="json", name="crossval_results_folds_0"):
    model = folder / "model"
    if not model.exists():
        write_model(model)
    place = model / name
    place.mkdir(exist_ok=True)
    functions = [keep_largest] * len(kwargs)
    if form == "json":
        text = {"postprocessing_fns": [each.__name__ for each in functions],
                "postprocessing_kwargs": list(kwargs)}  # fmt: skip
        (place / "postprocessing.json").write_text(json.dumps(text))
    else:
        (place / "postprocessing.pkl").write_bytes(pickle.dumps((functions, list(kwargs))))
    return load_bundle(str(model), STORE)


KWARGS = [
    ({"labels_or_regions": [1, 2], "background_label": 0}, "largest:1,2:together:ties"),
    ({"labels_or_regions": 2}, "largest:2:ties"),
    ({"labels_or_regions": [[1, 2]]}, "largest:1,2:together:ties"),
]


@pytest.mark.parametrize("form", ["json", "pkl"])
@pytest.mark.parametrize(("kwargs", "text"), KWARGS)
def test_the_step_of_nnunet_is_nnunets(kwargs, text, form, tmp_path):
    bundle = nnunet_with(tmp_path, kwargs, form=form)
    assert (list(map(str, bundle.label_steps)), bundle.not_done) == ([text], ())
    asked = kwargs["labels_or_regions"]
    regions = [
        tuple(one) if isinstance(one, list) else one for one in np.atleast_1d(asked).tolist()
    ]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(arrays(np.uint8, shapes, elements=st.integers(0, 2)))
    def held(labels_XYZ):
        changed_XYZ = np.asfortranarray(labels_XYZ).copy("F")
        postprocess(changed_XYZ, bundle.label_steps, 0.001)
        assert np.array_equal(changed_XYZ, keep_largest(labels_XYZ, regions))

    held()


def test_both_forms_and_all_folders_are_one(tmp_path):
    both = KWARGS[0][0], KWARGS[1][0]
    nnunet_with(tmp_path, *both)
    nnunet_with(tmp_path, *both, form="pkl")
    bundle = nnunet_with(tmp_path, *both, name="crossval_results_folds_0_1")
    assert list(map(str, bundle.label_steps)) == [KWARGS[0][1], KWARGS[1][1]]
    other = nnunet_with(tmp_path, both[0], name="crossval_results_folds_0_1_2")
    assert other.label_steps == ()
    assert other.not_done[0].endswith("differ")


@pytest.mark.parametrize(
    "kwargs",
    [{"labels_or_regions": "1"}, {"labels_or_regions": [0]}, {"labels_or_regions": [True]}, {}, [],
     {"labels_or_regions": 1, "background_label": 3}, {"labels_or_regions": [], "more": 1},
     {"labels_or_regions": [[[1]]]}, {"labels_or_regions": 10**9}, {"labels_or_regions": None}],
)  # fmt: skip
def test_arguments_of_another_kind_are_named(kwargs, tmp_path):
    for form in ("json", "pkl"):
        bundle = nnunet_with(tmp_path, kwargs, form=form)
        assert bundle.label_steps == ()
        assert len(bundle.not_done) == 1
        shutil.rmtree(tmp_path / "model/crossval_results_folds_0")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80\x04N.", b"\x80\x04r\xff\xff\xff\x7f.", b"cos\nsystem\n(S'true'\ntR.",
     b"p99999999\n.", pickle.dumps(([print], [{}])), b"\x80\x02]q\x00h\x00a."],
)  # fmt: skip
def test_a_pickle_of_anything_else_is_no_more_than_named(data, tmp_path):
    write_model(tmp_path / "model")
    (tmp_path / "model/postprocessing.pkl").write_bytes(data)
    bundle = load_bundle(str(tmp_path / "model"), STORE)
    assert bundle.label_steps == ()
    assert bundle.not_done
