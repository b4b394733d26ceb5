"""Bundles whose channels are decided one by one (sigmoid, threshold), against MONAI's own steps.

The oracle is the bundle's own list of transforms, built by MONAI from the same JSON.
"""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks.nets.segresnet import SegResNet

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.networks.bundle import PACKAGED
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.decision import Combined
from unet_pipeline.training.calibrate import calibrate_on

SHAPE, SPACING_MM = (40, 36, 28), (1.5, 1.7, 2.2)
ROI = [24, 24, 24]
REGIONS = ["tumour core", "whole tumour", "enhancing tumour"]
SIGMOID = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
THRESHOLD = {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}
INVERT = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing",
          "orig_keys": "image", "nearest_interp": False, "to_tensor": True}  # fmt: skip
PAINT = {"_target_": "Lambdad", "keys": "pred",
         "func": "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, "
                 "torch.where(x[[1]] > 0, 2, 0)))"}  # fmt: skip
LOAD = {"_target_": "LoadImaged", "keys": "image"}
NORMALISE = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True,
             "channel_wise": True}  # fmt: skip
TO_RAS = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS",
          "labels": [["L", "R"], ["P", "A"], ["I", "S"]]}  # fmt: skip
RESPACE = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.9, 1.3, 2.6], "mode": "bilinear"}
CROP = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}


def bundle(folder: Path, channels: int, regions: list[str], preprocessing: list[dict[str, Any]],
           postprocessing: list[dict[str, Any]]) -> Path:  # fmt: skip
    """Write a bundle laid out as brats_mri_segmentation of MONAI's model zoo, smaller."""
    arguments = {"in_channels": channels, "out_channels": len(regions), "init_filters": 8,
                 "blocks_down": [1, 2, 2, 4], "blocks_up": [1, 1, 1]}  # fmt: skip
    torch.manual_seed(3)  # each region is then found in a quarter to three quarters
    network = SegResNet(**arguments)
    config = {
        "imports": ["$import torch"],
        "network_def": {"_target_": "SegResNet", **arguments},
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": ROI, "sw_batch_size": 1,
                    "overlap": 0.5},
        "postprocessing": {"_target_": "Compose", "transforms": postprocessing},
    }  # fmt: skip
    names = {str(index): name for index, name in enumerate(regions)}
    metadata = {"network_data_format": {"outputs": {"pred": {"channel_def": names}}}}
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs/inference.json").write_text(json.dumps(config))
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    torch.save(network.state_dict(), folder / "models/model.pt")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """One case of four channels, stored left to right, front to back."""
    folder = tmp_path_factory.mktemp("regions") / "images"
    folder.mkdir()
    phantom = make_phantom(0, SHAPE, SPACING_MM, "LPS")
    rng = np.random.default_rng(0)
    inside = phantom.image_XYZ > 200
    for channel in range(4):
        values = (phantom.image_XYZ + rng.normal(0, 60, SHAPE)) * inside
        image = nib.Nifti1Image(values.astype(np.int16), phantom.affine)
        nib.save(image, folder / f"case_{channel:04}.nii.gz")
    return folder


def segmented(model: Path, images: Path, output: Path, masks: Path | None = None, **windows):
    settings = SegmentSettings(
        images=str(images), masks=masks and str(masks), model=str(model), output=str(output),
        windows=WindowSettings(**windows), cluster=ClusterSettings(kind="serial", threads=1),
    )  # fmt: skip
    (record,) = run_segment(open_segment(settings), SerialExecutor())
    assert record.status == "done", record.message
    return np.asanyarray(nib.load(record.output).dataobj), record


def monais(model: Path, images: Path) -> tuple[np.ndarray, np.ndarray]:
    """MONAI's prediction, and how far each channel is from the threshold, both CXYZ."""
    parser = ConfigParser()
    parser.read_config(model / "configs/inference.json")
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(model / "models/model.pt"))
    files = sorted(images.glob("*.nii.gz"))
    case = parser.get_parsed_content("preprocessing")({"image": files})
    with torch.inference_mode():
        scores = SlidingWindowInferer(ROI, 1, 0.5)(case["image"][None], network.eval())[0]
    case["pred"] = MetaTensor(scores, meta=case["image"].meta)
    distance = None
    for step in parser.get_parsed_content("postprocessing").transforms:
        if type(step).__name__ == "AsDiscreted":
            distance = (case["pred"] - 0.5).abs().numpy()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "inverse has been called but no invertible")
            case = step(case)
    return case["pred"].numpy(), distance


def assert_bits_are_channels(labels, channels, distance):
    """Bit c of a label is channel c, but where that is decided by a hair."""
    for index, channel in enumerate(channels):
        assert np.unique(channel).size == 2, "MONAI must decide both ways"
        differs = (labels >> index & 1) != channel
        assert distance[index][differs].max(initial=0) < 1e-4


def test_a_bundle_of_overlapping_regions_runs_as_it_stands(images, tmp_path):
    post = [SIGMOID, INVERT, THRESHOLD]
    model = bundle(tmp_path / "model", 4, REGIONS, [LOAD, NORMALISE], post)
    labels, record = segmented(model, images, tmp_path / "out")
    assert_bits_are_channels(labels, *monais(model, images))
    sidecar = json.loads(Path(record.output.replace(".nii.gz", ".json")).read_text())
    assert sidecar["labels"]["3"] == "tumour core + whole tumour"
    assert len(sidecar["labels"]) == 8
    assert sidecar["settings"]["decision"]["kind"] == "combined"


def test_what_is_resampled_is_what_the_bundle_resamples(images, tmp_path):
    """Probabilities if the sigmoid stands before Invertd, else scores; they differ."""
    found = {}
    for order, post in {
        "probabilities": [SIGMOID, INVERT, THRESHOLD],
        "scores": [INVERT, SIGMOID, THRESHOLD],
    }.items():
        steps = [LOAD, NORMALISE, TO_RAS, RESPACE]
        model = bundle(tmp_path / order, 4, REGIONS, steps, post)
        found[order], _ = segmented(model, images, tmp_path / f"{order} out")
        assert_bits_are_channels(found[order], *monais(model, images))
    assert (found["probabilities"] != found["scores"]).any()


def test_tiles_cannot_show_even_where_the_bundle_crops(images, tmp_path):
    post = [SIGMOID, INVERT, {**THRESHOLD, "threshold": 0.3}]
    steps = [LOAD, TO_RAS, CROP, RESPACE, NORMALISE]
    model = bundle(tmp_path / "model", 4, REGIONS, steps, post)
    whole, _ = segmented(model, images, tmp_path / "whole")
    tiled, _ = segmented(model, images, tmp_path / "tiled", tile=(13, 9, 4))
    assert np.unique(whole).size > 2
    assert tiled.tobytes() == whole.tobytes()


def test_the_painting_of_brats_gives_the_labels_that_monai_writes(images, tmp_path):
    post = [SIGMOID, INVERT, THRESHOLD, PAINT]
    model = bundle(tmp_path / "model", 4, REGIONS, [LOAD, NORMALISE], post)
    labels, record = segmented(model, images, tmp_path / "out")
    (wanted,), distance = monais(model, images)
    assert set(np.unique(wanted)) == {0, 1, 2, 4}
    assert distance.min(axis=0)[labels != wanted].max(initial=0) < 1e-4
    masks = Path(record.output).parent
    _, scored = segmented(model, images, tmp_path / "scored", masks)
    assert scored.dice == {"1": 1.0, "2": 1.0, "4": 1.0}


def test_a_single_channel_and_its_threshold_make_a_mask(images, tmp_path):
    steps = [LOAD, {"_target_": "EnsureChannelFirstd", "keys": "image"}, NORMALISE]
    model = bundle(tmp_path / "model", 1, ["lesion"], steps, [SIGMOID, THRESHOLD])
    (tmp_path / "one").mkdir()
    one = tmp_path / "one" / "case.nii.gz"
    one.write_bytes((images / "case_0000.nii.gz").read_bytes())
    labels, record = segmented(model, one, tmp_path / "out")
    assert set(np.unique(labels)) == {0, 1}
    assert_bits_are_channels(labels, *monais(model, one.parent))
    sidecar = json.loads(Path(record.output.replace(".nii.gz", ".json")).read_text())
    assert sidecar["labels"] == {"0": "background", "1": "lesion"}


def test_a_single_channel_without_a_threshold_is_refused(images, tmp_path):
    model = bundle(tmp_path / "model", 4, ["lesion"], [LOAD, NORMALISE], [])
    with pytest.raises(RequestError, match="no threshold") as caught:
        segmented(model, images, tmp_path / "out")
    assert caught.value.code == "classes_invalid"


def test_what_needs_channels_that_exclude_each_other_is_refused(images, tmp_path):
    """The packaged UNet++, said to give regions: depths are one thing, means of softmax another."""
    model = tmp_path / "model"
    shutil.copytree(PACKAGED / "phantom", model)
    path = model / "configs/inference.json"
    config = json.loads(path.read_text())
    config["postprocessing"]["transforms"] = [INVERT, SIGMOID, THRESHOLD]
    path.write_text(json.dumps(config))
    one = images / "case_0000.nii.gz"

    def opened(depth):
        cluster = ClusterSettings(kind="serial")
        output = str(tmp_path / "out")
        return open_segment(SegmentSettings(images=str(one), model=str(model), output=output,
                                        depth=depth, cluster=cluster))  # fmt: skip

    assert opened("2").model.bundle.decision == Combined()
    for depth in ("mean", "adaptive"):
        with pytest.raises(RequestError, match="exclude each other") as caught:
            opened(depth)
        assert caught.value.code == "depth_invalid"
    with pytest.raises(RequestError, match="may overlap") as caught:
        calibrate_on(opened(None).model.bundle, Store(), [], 0.01)
    assert caught.value.code == "calibration_impossible"
