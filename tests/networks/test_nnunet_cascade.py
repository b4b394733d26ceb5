"""nnU-Net's cascades: the oracle is its own predictor, run on one stage and then on the other."""

import json
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from nnunet_models import CASCADE, LINEAR, LOWRES, read_model, teach, write_cascade
    from nnunet_oracle import add_in_float32, dice, predictor, segmented, theirs

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.decoding import keep_labels
from unet_pipeline.volume.first_stage import with_labels
from unet_pipeline.volume.preprocessing import parse_preprocessing
from unet_pipeline.volume.staging import decode, stage
from unet_pipeline.volume.views import materialised

IMAGE = "hippocampus/images/hippocampus_001.nii.gz"
MASK = "hippocampus/labels/hippocampus_001.nii.gz"
BY_TORCH = {"resampling_fn_seg": "resample_torch_fornnunet",
            "resampling_fn_seg_kwargs": {"is_seg": True, "force_separate_z": None}}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def first_of(model: Path) -> Path:
    return model.parent / model.name.replace(CASCADE, LOWRES)


def both_stages(model: Path, image: Path, output: Path, **options) -> np.ndarray:
    """The label map that nnU-Net's second stage writes, with the one that its first has written."""
    theirs(first_of(model), [image], output / "first.nii.gz", **options)
    return theirs(model, [image], output / "theirs.nii.gz", output / "first.nii.gz", **options)


SEEN = {
    "the same spacing": {"spacing": (1.0, 1.0, 1.0)},
    "finer": {"spacing": (0.7, 0.8, 0.6)},
    "half": {"spacing": (2.0, 2.0, 2.0)},  # each voxel lies between labels
    "odd": {"spacing": (1.4, 1.2, 1.7)},
    "transposed": {"spacing": (1.3, 0.9, 1.6), "transpose": (1, 2, 0)},
    "slices one by one": {"spacing": (4.0, 0.9, 1.1)},
    "by torch": {"spacing": (1.3, 0.9, 1.6), "second": {"changes": BY_TORCH}},
}


@pytest.mark.parametrize("name", SEEN)
def test_the_second_stage_sees_what_nnunet_would_show_it(name, shared_data, tmp_path):
    image, mask = with_a_dark_corner(shared_data, tmp_path)
    model = write_cascade(tmp_path, **SEEN[name])
    found, wanted = our_view(model, image, mask), their_view(model, image, mask)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found[:1], wanted[:1], atol=2e-6, rtol=2e-6)
    assert set(np.unique(found[1:])) == {0, 1}
    near_ties = 1e-4 if name == "by torch" else 0  # it takes the largest of scores in float16
    assert (found[1:] != wanted[1:]).mean() <= near_ties


def with_a_dark_corner(shared_data: Path, folder: Path) -> tuple[Path, Path]:
    """An image with much that is 0 within its box, and labels beside that."""
    paths = folder / "image.nii.gz", folder / "mask.nii.gz"
    for path, source in zip(paths, (IMAGE, MASK), strict=True):
        loaded = nib.load(shared_data / source)
        values = np.asarray(loaded.dataobj).copy()
        if path == paths[0]:
            values[:15, :30] = 0
            values[:, :, :2] = 0
        else:
            values[13:17, 20:40, 5:20] = 2
        nib.save(nib.Nifti1Image(values, loaded.affine), path)
    return paths


def our_view(model: Path, image: Path, mask: Path) -> np.ndarray:
    bundle = load_bundle(str(model), Store())
    decoded = decode(Store(), [str(image)], budget_bytes=10**9)
    staged = stage(decoded, parse_preprocessing(bundle.preprocessing), 10**9)
    labels = np.asarray(nib.load(mask).dataobj).astype(np.uint8)
    kept = keep_labels(labels, decoded.header, budget_bytes=10**9, scratch=None)
    seen = [
        materialised(with_labels(staged, kept, bundle.label_channels, budget).model).values_CXYZ
        for budget in (0, 10**9)
    ]
    np.testing.assert_array_equal(*seen)
    return seen[0]


def their_view(model: Path, image: Path, mask: Path) -> np.ndarray:
    made = predictor(model)
    reader = made.plans_manager.image_reader_writer_class()
    values, properties = reader.read_images([str(image)])
    worker = made.configuration_manager.preprocessor_class(verbose=False)
    plans = made.plans_manager, made.configuration_manager, made.dataset_json
    values, labels, _ = worker.run_case_npy(
        values, reader.read_seg(str(mask))[0], properties, *plans
    )
    channels = made.label_manager.foreground_labels
    return np.vstack([values, *(labels == label for label in channels)])


SEGMENTED = {
    "another spacing": {},
    "transposed": {"transpose": (1, 0, 2), "reader": "NibabelIOWithReorient"},
    "regions": {"labels": {"background": 0, "all": [1, 2], "posterior": [2]}, "regions": [1, 2]},
    "two folds": {"folds": (0, 1)},
    "mirrored": {},
    "labels by torch": {"second": {"changes": BY_TORCH}},
}


@pytest.mark.parametrize("name", SEGMENTED)
def test_the_label_map_is_that_of_nnunets_two_stages(name, shared_data, tmp_path, monkeypatch):
    add_in_float32(monkeypatch)
    image, mirror = shared_data / IMAGE, name == "mirrored"
    model = write_cascade(tmp_path / "models", **SEGMENTED[name])
    wanted = both_stages(model, image, tmp_path, mirror=mirror)
    found = segmented(model, image, tmp_path / "out", "x,y,z" if mirror else None)
    agreement = dice(found, wanted)
    print(name, agreement, (found != wanted).sum(), found.size)
    assert len(agreement) > 1
    assert min(agreement.values()) >= 0.999, agreement
