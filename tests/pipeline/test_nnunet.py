"""Models of nnU-Net run as they are: the oracle is its own predictor on the same folder."""

import json
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
    from nnunetv2.inference import predict_from_raw_data
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.inference.sliding_window_prediction import (
        compute_gaussian,
        compute_steps_for_sliding_window,
    )

from nnunet_models import LINEAR, RESIDUAL, read_model, teach, write_model

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.cohort import open_run, segment_all
from unet_pipeline.config import ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.plan import window_starts
from unet_pipeline.volume.preprocessing import parse_preprocessing
from unet_pipeline.volume.staging import stage
from unet_pipeline.volume.views import materialised

pytestmark = pytest.mark.filterwarnings("ignore:Detected old nnU-Net plans:UserWarning")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def predictor(model: Path, *, mirror: bool = False, folds=None) -> nnUNetPredictor:
    """nnU-Net's own predictor of a folder."""
    made = nnUNetPredictor(0.5, True, mirror, False, CPU, False, False, False)
    made.initialize_from_trained_model_folder(str(model), folds)
    return made


@pytest.fixture
def in_float32(monkeypatch):
    """Let nnU-Net add scores in float32; its float16 alone decides labels near ties."""
    weights = compute_gaussian.__wrapped__
    monkeypatch.setattr(predict_from_raw_data, "torch", _WithoutHalf())
    monkeypatch.setattr(
        predict_from_raw_data,
        "compute_gaussian",
        lambda *given, **named: weights(*given, dtype=torch.float32, **named),
    )


class _WithoutHalf:
    """torch, but that half precision is single precision."""

    half = torch.float32

    def __getattr__(self, name: str):
        return getattr(torch, name)


def theirs(model: Path, images, output: Path, **options) -> np.ndarray:
    """The label map that nnU-Net writes."""
    made = predictor(model, **options)
    reader = made.plans_manager.image_reader_writer_class()
    values, properties = reader.read_images([str(image) for image in images])
    labels = made.predict_single_npy_array(values, properties, None, None, False)
    reader.write_seg(labels, str(output), properties)
    return np.asanyarray(nib.load(output).dataobj)


def segmented(model: str | Path, image: str | Path, output: Path, mirror=None) -> np.ndarray:
    settings = SegmentSettings(
        images=str(image), model=str(model), output=str(output),
        cluster=ClusterSettings(kind="serial", threads=1), windows=WindowSettings(mirror=mirror),
    )  # fmt: skip
    (record,) = segment_all(open_run(settings), SerialExecutor())
    assert record.status == "done", record.message
    return np.asanyarray(nib.load(record.output).dataobj)


def dice(found: np.ndarray, wanted: np.ndarray) -> dict[int, float]:
    labels = np.union1d(found, wanted).tolist()
    both = {label: ((found == label).sum() + (wanted == label).sum()) for label in labels}
    return {n: 2 * ((found == n) & (wanted == n)).sum() / both[n] for n in labels}


def model_view(model: Path, images) -> np.ndarray:
    """What our steps make of images, shape CXYZ."""
    bundle = load_bundle(str(model), Store())
    steps = parse_preprocessing(bundle.preprocessing)
    return materialised(
        stage(Store(), [str(i) for i in images], steps, budget_bytes=10**9).model
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


REFUSED = {
    "cascade": ({"changes": {"previous_stage": "3d_lowres"}}, "plan_unsupported", "cascade"),
    "layer": ({"network": "other.PrimusM"}, "network_unknown", "PrimusM"),
    "reader": ({"reader": "Tiff3DIO"}, "plan_unsupported", "Tiff3DIO"),
    "resampling": ({"changes": {"resampling_fn_data": "mine"}}, "plan_unsupported", "mine"),
    "scheme": ({"changes": {"normalization_schemes": ["Mine"]}}, "plan_unsupported", "Mine"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_translation_is_refused_by_name(name, tmp_path):
    options, code, named = REFUSED[name]
    wanted = options.pop("network", None)
    model = write_model(tmp_path / "model", **options)
    if wanted:
        plans = read_model(model)
        plans["configurations"]["base"]["architecture"]["network_class_name"] = wanted
        (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(RequestError, match=named) as caught:
        parse_preprocessing(load_bundle(str(model), Store()).preprocessing)
    assert caught.value.code == code


def test_a_fold_that_is_not_there(tmp_path):
    model = write_model(tmp_path / "model")
    with pytest.raises(RequestError, match="fold_3") as caught:
        load_bundle(str(model / "fold_3"), Store())
    assert caught.value.code == "bundle_invalid"


def test_axes_that_were_not_trained_for_mirroring(shared_data, tmp_path):
    image = shared_data / "hippocampus/images/hippocampus_001.nii.gz"
    model = write_model(tmp_path / "model", mirror=(1, 2))
    with pytest.raises(RequestError, match="--mirror y,z") as caught:
        segmented(model, image, tmp_path / "out", "x,y")
    assert caught.value.code == "mirror_invalid"


class Harmful:
    """Unpickled without care, it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


def test_a_checkpoint_cannot_run_code(tmp_path):
    model = write_model(tmp_path / "model")
    path = model / "fold_0/checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    harm = str(tmp_path / "harm")
    torch.save({**checkpoint, "logging": Harmful(harm)}, path)
    with pytest.raises(RequestError) as caught:
        load_bundle(str(model), Store())
    assert caught.value.code == "weights_unsafe"
    assert not Path(harm).exists()
    torch.load(path, weights_only=False)
    assert Path(harm).exists()  # it would have run


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = write_model(tmp_path / "model") / "fold_0/checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RequestError) as caught:
        load_bundle(str(tmp_path / "model"), Store())
    assert caught.value.code in {"checkpoint_invalid", "weights_unsafe"}
