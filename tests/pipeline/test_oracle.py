"""P2: label maps equal MONAI's sliding_window_inference + argmax on the whole volume."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundles import CT, random_bundle, transform
from monai.inferers import sliding_window_inference

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import SegmentSettings, WindowSettings
from unet_pipeline.evaluation.metrics import dice_per_label
from unet_pipeline.jobs.segment import open_segment, segment_case
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.networks.registry import final_scores
from unet_pipeline.storage.store import Store

MARGIN = 1e-4


def segment(image: Path, bundle: str, output: Path, **windows) -> np.ndarray:
    settings = SegmentSettings(
        images=str(image), model=bundle, output=str(output), windows=WindowSettings(**windows)
    )
    run = open_segment(settings)
    (case,) = run.cases
    record = segment_case(run, case, SerialExecutor())
    assert record.status == "done", record.message
    return np.asarray(nib.load(record.output).dataobj)


def monai_scores(values_XYZ: np.ndarray, bundle: str, blend: str, overlap: float) -> np.ndarray:
    loaded = load_bundle(bundle, Store())
    network = load_network(loaded, Store())
    with torch.inference_mode():
        return sliding_window_inference(
            torch.from_numpy(values_XYZ)[None, None],
            roi_size=loaded.roi_size,
            sw_batch_size=1,
            predictor=lambda windows: final_scores(network(windows)),
            overlap=overlap,
            mode=blend,
        )[0].numpy()


def assert_equal_but_for_ties(labels: np.ndarray, scores: np.ndarray) -> None:
    top = np.sort(scores, axis=0)
    margins = (top[-1] - top[-2])[labels != scores.argmax(axis=0)]
    assert margins.size < labels.size / 1000
    assert (margins < MARGIN).all(), f"largest margin of a differing voxel: {margins.max()}"


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("network", "blend"),
    [("unet", "gaussian"), pytest.param("unetpp", "constant", marks=pytest.mark.soak)],
)
def test_a_real_ct_equals_monai(shared_data, tmp_path, network, blend):
    features = (8, 16, 32) if network == "unet" else (4, 4, 4, 8, 8)
    bundle = random_bundle(
        tmp_path / "bundle", network=network, features=features, roi_size=(64, 64, 64)
    )
    image = shared_data / "abdomen_ct" / "example_ct.nii.gz"
    labels = segment(image, bundle, tmp_path, blend=blend, overlap=0.25, tile=(70, 70, 70))
    values = np.clip((np.asarray(nib.load(image).dataobj, np.float32) + 200) / 500, 0, 1)
    assert_equal_but_for_ties(labels, monai_scores(values, bundle, blend, 0.25))


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
@pytest.mark.parametrize("shape", [(40, 33, 21), (10, 50, 9)], ids=["plain", "smaller than window"])
def test_any_overlap_and_shape_equals_monai(tmp_path, overlap, shape):
    bundle = random_bundle(tmp_path / "bundle", features=(4, 8), roi_size=(16, 24, 16))
    values = np.random.default_rng(0).integers(-300, 400, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "image.nii.gz")
    labels = segment(tmp_path / "image.nii.gz", bundle, tmp_path / "out", overlap=overlap)
    seen = np.clip((values.astype(np.float32) + 200) / 500, 0, 1)
    assert_equal_but_for_ties(labels, monai_scores(seen, bundle, "gaussian", overlap))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("affine", "preprocessing", "identical"),
    [
        (np.diag([-1.5, -1.5, 3.0, 1.0]), CT, True),
        (
            np.array([[0, 0, 2.5, 3], [-1.2, 0, 0, 9], [0, -1.2, 0, 1], [0, 0, 0, 1.0]]),
            (
                *CT[:3],
                transform("Spacingd", pixdim=[1.6, 1.0, 2.0], mode="bilinear"),
                *CT[3:4],
                transform("CropForegroundd", source_key="image", margin=3),
                CT[4],
            ),
            False,
        ),
    ],
    ids=["own spacing", "other spacing and crop"],
)
def test_monais_own_run_of_the_bundle_gives_the_same_label_map(
    tmp_path, affine, preprocessing, identical
):
    bundle = random_bundle(
        tmp_path / "bundle", features=(4, 8), preprocessing=preprocessing, seed=3
    )
    rng = np.random.default_rng(5)
    coarse = rng.normal(50, 250, (6, 5, 7))
    values = np.kron(coarse, np.ones((8, 9, 6))).astype(np.int16)
    values[:9] = -1000
    (tmp_path / "images").mkdir()
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "images" / "case.nii.gz")
    labels = segment(tmp_path / "images" / "case.nii.gz", bundle, tmp_path / "ours")
    subprocess.run(
        [
            sys.executable, "-m", "monai.bundle", "run", "--bundle_root", bundle,
            "--config_file", f"{bundle}/configs/inference.json",
            "--meta_file", f"{bundle}/configs/metadata.json",
            "--logging_file", "False",
            "--dataset_dir", str(tmp_path / "images"), "--output_dir", str(tmp_path / "monai"),
        ],
        check=True, capture_output=True, timeout=200,
    )  # fmt: skip
    (written,) = (tmp_path / "monai").rglob("*_dseg.nii.gz")
    theirs = nib.load(written)
    np.testing.assert_allclose(theirs.affine, affine, atol=1e-5)
    expected = np.asarray(theirs.dataobj)
    if identical:
        assert np.count_nonzero(labels != expected) <= labels.size / 10_000
    dice = dice_per_label(labels, expected, np.unique(expected).tolist())
    assert all(value >= 0.999 for value in dice.values()), dice
