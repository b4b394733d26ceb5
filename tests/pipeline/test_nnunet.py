"""Models of nnU-Net run as they are: the oracle is its own predictor on the same folder."""

import pickle
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

from nnunet_models import LINEAR, RESIDUAL, teach, write_model
from nnunet_oracle import add_in_float32, dice, predictor, segmented, theirs

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.windows import window_starts
from unet_pipeline.volume.preprocessing import parse_preprocessing
from unet_pipeline.volume.staging import decode, stage
from unet_pipeline.volume.views import ArrayView, materialised

pytestmark = pytest.mark.filterwarnings("ignore:Detected old nnU-Net plans:UserWarning")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def in_float32(monkeypatch):
    add_in_float32(monkeypatch)


def model_view(model: Path, images) -> np.ndarray:
    """What our steps make of images, shape CXYZ."""
    bundle = load_bundle(str(model), Store())
    steps = parse_preprocessing(bundle.preprocessing)
    return materialised(
        stage(decode(Store(), [str(i) for i in images], budget_bytes=10**9), steps, 10**9).model
    ).values_CXYZ


def their_view(model: Path, images) -> np.ndarray:
    """What nnU-Net's preprocessing makes of them."""
    made = predictor(model)
    values, properties = made.plans_manager.image_reader_writer_class().read_images(
        [str(image) for image in images]
    )
    worker = made.configuration_manager.preprocessor_class(verbose=False)
    plans, configuration = made.plans_manager, made.configuration_manager
    return worker.run_case_npy(values, None, properties, plans, configuration, made.dataset_json)[0]


ONE = {"labels": {"background": 0, "one": 1}}
TWO_CHANNELS = {"schemes": ["ZScoreNormalization", "RescaleTo01Normalization"],
                "masked": [True, False]}  # fmt: skip
TORCH = {"resampling_fn_data": "resample_torch_fornnunet",
         "resampling_fn_data_kwargs": {"is_seg": False, "force_separate_z": None},
         "resampling_fn_probabilities": "resample_torch_fornnunet",
         "resampling_fn_probabilities_kwargs": {"is_seg": False}}  # fmt: skip
PREPARED = {
    "CT, finer": ("abdomen_ct/example_ct_sm.nii.gz",
                  {"schemes": ["CTNormalization"], "spacing": (3, 2.0, 2.0)}),
    "thick slices": ("spine/t2.nii.gz", {"spacing": (0.8, 0.8, 0.8)}),
    "thick slices wanted": ("hippocampus/images/hippocampus_001.nii.gz",
                            {"spacing": (4, 0.9, 1.1)}),
    "masked": ("brain/tcia_example_t1c.nii.gz", {"spacing": (2.0, 2.5, 1.7), "masked": [True]}),
    "reoriented": ("abdomen_ct/example_ct_sm.nii.gz",
                   {"reader": "NibabelIOWithReorient", "transpose": (1, 2, 0)}),
    "reoriented by SimpleITK": ("abdomen_ct/example_ct_sm.nii.gz",
                                {"reader": "SimpleITKIOWithReorient", "spacing": (4, 3, 3)}),
    "transposed": ("spine/t2.nii.gz", {"transpose": (2, 0, 1), "spacing": (1.1, 0.7, 0.9)}),
    "not normalised": ("spine/t2.nii.gz", {"schemes": ["NoNormalization"]}),
    "linear": ("spine/t2.nii.gz",
               {"changes": {"resampling_fn_data_kwargs": LINEAR}, "spacing": (0.9, 0.9, 0.9)}),
    "by torch": ("spine/t2.nii.gz", {"changes": TORCH, "spacing": (0.9, 0.9, 0.9)}),
    "never": ("spine/t2.nii.gz",
              {"changes": {"resampling_fn_data": "no_resampling_hack",
                           "resampling_fn_data_kwargs": {},
                           "resampling_fn_probabilities": "no_resampling_hack",
                           "resampling_fn_probabilities_kwargs": {}}}),
    "2d": ("spine/t2.nii.gz", {"patch": (32, 32), "spacing": (0.8, 0.8),
                               "strides": ((1, 1), (2, 2))}),
}  # fmt: skip


@pytest.mark.parametrize("name", PREPARED)
def test_the_network_sees_what_nnunet_would_show_it(name, shared_data, tmp_path):
    image, options = PREPARED[name]
    model = write_model(tmp_path / "model", **options)
    found, wanted = (view(model, [shared_data / image]) for view in (model_view, their_view))
    assert found.shape == wanted.shape
    tolerance = 2e-5 if name == "by torch" else 2e-6  # torch places voxels in float32
    np.testing.assert_allclose(found, wanted, atol=tolerance, rtol=2e-6)


def test_two_channels(shared_data, tmp_path):
    image = shared_data / "brain/tcia_example_t1c.nii.gz"
    other = nib.load(image)
    inverted = np.where(np.asarray(other.dataobj) > 0, 4000 - np.asarray(other.dataobj), 0)
    nib.save(nib.Nifti1Image(inverted.astype(np.int16), other.affine), tmp_path / "b.nii.gz")
    model = write_model(tmp_path / "model", spacing=(2.0, 2.0, 2.0), **TWO_CHANNELS)
    images = [image, tmp_path / "b.nii.gz"]
    np.testing.assert_allclose(model_view(model, images), their_view(model, images), atol=2e-6)


@given(length=st.integers(8, 300), roi=st.integers(2, 128), overlap=st.sampled_from([0.5, 0.2]))
def test_windows_lie_where_nnunet_puts_them(length, roi, overlap):
    if length >= roi:
        steps = compute_steps_for_sliding_window((length,), (roi,), 1 - overlap)[0]
        assert list(window_starts(length, roi, overlap, "evenly")) == steps


SEGMENTED = {
    "3d_fullres": {"spacing": (1.5, 1.5, 1.5)},
    "old plan": {"spacing": (1.0, 1.2, 1.2), "old": True},
    "residual": {"spacing": (1.0, 1.2, 1.2), "network": RESIDUAL},
    "slices one by one": {"spacing": (4.0, 0.9, 1.1), "changes": TORCH},
    "larger window": {
        "spacing": (1.0, 1.0, 1.0),
        "patch": (64, 64, 40),
        "strides": ((1, 1, 1), (2, 2, 2)),
    },
    "old 2d, transposed": {
        "patch": (32, 32),
        "spacing": (1.2, 1.0),
        "strides": ((1, 1), (2, 2)),
        "old": True,
        "transpose": (2, 0, 1),
    },
    "labels as texts and lists": {"labels": {"background": "0", "two": "2", "one": [1]}},
    "regions out of order": {
        "labels": {"background": 0, "posterior": [2], "all": [1, 2]},
        "regions": [5, 1],
    },
    "2d": {"patch": (32, 32), "spacing": (1.0, 1.0), "strides": ((1, 1), (2, 2), (2, 2))},
    "regions": {"labels": {"background": 0, "all": [1, 2], "posterior": [2]}, "regions": [1, 2]},
    "transposed": {"transpose": (1, 0, 2), "reader": "NibabelIOWithReorient"},
    "mirrored": {},
    "two folds": {"folds": (0, 1)},
}


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("name", SEGMENTED)
def test_the_label_map_is_that_of_nnunet(name, shared_data, tmp_path):
    image = shared_data / "hippocampus/images/hippocampus_001.nii.gz"
    model = write_model(tmp_path / "model", **SEGMENTED[name])
    mirror = name == "mirrored"
    wanted = theirs(model, [image], tmp_path / "theirs.nii.gz", mirror=mirror)
    found = segmented(model, image, tmp_path / "out", "x,y,z" if mirror else None)
    agreement = dice(found, wanted)
    assert len(agreement) > 1
    assert min(agreement.values()) >= 0.999, agreement


def test_a_trained_model_gives_what_nnunet_gives(shared_data, tmp_path):
    image = shared_data / "hippocampus/images/hippocampus_001.nii.gz"
    model = write_model(tmp_path / "model", spacing=(1.0, 1.2, 1.2))
    teach(model, image, shared_data / "hippocampus/labels/hippocampus_001.nii.gz")
    wanted = theirs(model, [image], tmp_path / "theirs.nii.gz")
    agreement = dice(segmented(model, image, tmp_path / "out"), wanted)
    assert set(agreement) == {0, 1, 2}
    assert min(agreement.values()) >= 0.999, agreement


@pytest.mark.usefixtures("in_float32")
def test_one_fold_alone(shared_data, tmp_path):
    image = shared_data / "hippocampus/images/hippocampus_001.nii.gz"
    model = write_model(tmp_path / "model", folds=(0, 1))
    wanted = theirs(model, [image], tmp_path / "theirs.nii.gz", folds=(1,))
    found = segmented(model / "fold_1", image, tmp_path / "out")
    assert min(dice(found, wanted).values()) >= 0.999
    both = load_bundle(str(model), Store())
    assert both.weights_digest != load_bundle(str(model / "fold_1"), Store()).weights_digest


CUT = {
    "cubic, masked": {"spacing": (1.4, 0.8, 1.2), "masked": [True]},
    "slices one by one": {"spacing": (4.0, 0.9, 1.1)},
    "linear, transposed": {"changes": {"resampling_fn_data_kwargs": LINEAR}, "transpose": (1, 2, 0),
                           "spacing": (0.8, 1.3, 1.1)},
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_neither_tiles_nor_memory_change_the_labels(name, shared_data, tmp_path):
    image = shared_data / "hippocampus/images/hippocampus_001.nii.gz"
    model = write_model(tmp_path / "model", patch=(16, 16, 16), **CUT[name])
    whole = segmented(model, image, tmp_path / "whole")
    assert set(np.unique(whole)) == {0, 1, 2}
    for tile, memory_gb in [((13, 30, 9), 2.0), ((20, 18, 17), 5e-5)]:  # the image has 125 kB
        output = tmp_path / str(memory_gb)
        found = segmented(model, image, output, tile=tile, memory_gb=memory_gb)
        np.testing.assert_array_equal(found, whole)


def test_what_merges_are_given_is_small(shared_data, tmp_path):
    image = shared_data / "brain/tcia_example_t1c.nii.gz"
    model = write_model(tmp_path / "model", spacing=(2.0, 2.5, 1.7), masked=[True])
    steps = parse_preprocessing(load_bundle(str(model), Store()).preprocessing)
    staged = stage(decode(Store(), [str(image)], budget_bytes=10**9), steps, 10**9)
    whole, small = staged.prepared, staged.prepared.geometry
    assert len(pickle.dumps(whole)) > 100_000 > 10_000 > len(pickle.dumps(small))
    scores = ArrayView(staged.model.read(Box.whole(whole.model.shape)))
    box = Box.whole(whole.native.shape)
    np.testing.assert_array_equal(
        small.backward(scores).read(box), whole.backward(scores).read(box)
    )


def test_a_volume_thinner_than_half_a_voxel_of_the_model(tmp_path):
    values = np.ones((40, 40, 1), np.float32)
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 0.5, 1])), tmp_path / "thin.nii.gz")
    model = write_model(tmp_path / "model", spacing=(1.5, 1.0, 1.0))
    with pytest.raises(CaseError, match=r"0\.5 x 40 x 40 mm") as caught:
        model_view(model, [tmp_path / "thin.nii.gz"])
    assert caught.value.code == "volume_too_small"


def test_values_that_are_no_colours(shared_data, tmp_path):
    model = write_model(tmp_path / "model", schemes=["RGBTo01Normalization"])
    with pytest.raises(CaseError, match="0 to 255") as caught:
        model_view(model, [shared_data / "brain/tcia_example_t1c.nii.gz"])
    assert caught.value.code == "values_not_rgb"


def test_a_model_in_object_storage(s3, tmp_path):
    folder = write_model(tmp_path / "Dataset001_Test" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    url = f"{s3.bucket()}/Dataset001_Test/{folder.name}"
    for file in (path for path in folder.rglob("*") if path.is_file()):
        s3.store.write(f"{url}/{file.relative_to(folder).as_posix()}", file.read_bytes())
    bundle = load_bundle(url, s3.store)
    assert bundle.name == "Dataset001_Test"
    assert bundle.weights_digest == load_bundle(str(folder), Store()).weights_digest
    assert bundle.labels == {0: "background", 1: "one", 2: "two"}
    assert (bundle.roi_size, bundle.mirror_axes) == ((16, 32, 32), (0, 1, 2))


def test_axes_that_were_not_trained_for_mirroring(shared_data, tmp_path):
    image = shared_data / "hippocampus/images/hippocampus_001.nii.gz"
    model = write_model(tmp_path / "model", mirror=(1, 2))
    with pytest.raises(RequestError, match="--mirror y,z") as caught:
        segmented(model, image, tmp_path / "out", "x,y")
    assert caught.value.code == "mirror_invalid"
