"""Bundles laid out as those of MONAI's model zoo run as they stand, with random weights.

Their configurations hold expressions, references and devices; weights are a pickled state dict.
The oracle is MONAI's own transforms and sliding window on the same bundle.
"""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.inferers.inferer import SliceInferer
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    ScaleIntensityd,
    ScaleIntensityRanged,
)

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store

LOAD = [
    {"_target_": "LoadImaged", "keys": "@image_key", "image_only": False},
    {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
]
SCALE = {"a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1, "clip": True}
UNET = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8, 16],
        "strides": [2, 2], "num_res_units": 2, "norm": "batch"}  # fmt: skip
SEGRES = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "init_filters": 8,
          "blocks_down": [1, 2, 2, 4], "blocks_up": [1, 1, 1], "dropout_prob": 0.2}  # fmt: skip
DYN = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3,
       "kernel_size": [[3, 3, 1], [3, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [2, 2, 1], 2],
       "upsample_kernel_size": [[2, 2, 1], 2], "norm_name": "instance",
       "deep_supervision": False}  # fmt: skip
FLAT = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [4, 8, 16],
        "strides": [2, 2], "num_res_units": 2}  # fmt: skip


def bundle(folder: Path, target: str, network: torch.nn.Module, arguments: dict[str, Any],
           transforms: list[dict[str, Any]], inferer: dict[str, Any], post=()) -> str:  # fmt: skip
    """Write a bundle as others do: expressions all over, the weights pickled."""
    config = {
        "displayable_configs": {"highres": True, "sw_overlap": 0.25},
        "imports": ["$import glob", "$import os"],
        "image_key": "image",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "modelname": "$'model.pt' if @displayable_configs#highres else 'model_lowres.pt'",
        "network_def": {"_target_": target, **arguments},
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [*LOAD, *transforms]},
        "inferer": {**inferer, "device": "@device"},
        "postprocessing": {"_target_": "Compose", "transforms": list(post)},
        "evaluator": {"_target_": "SupervisedEvaluator", "device": "@device"},
    }
    classes = {str(i): f"class {i}" for i in range(arguments["out_channels"])}
    channel = {"num_channels": 1, "channel_def": {"0": "image"}}
    metadata = {
        "network_data_format": {
            "inputs": {"image": channel},
            "outputs": {"pred": {"num_channels": len(classes), "channel_def": classes}},
        }
    }
    for name, content in (("inference", config), ("metadata", metadata)):
        path = folder / "configs" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    (folder / "models").mkdir()
    torch.save(network.state_dict(), folder / "models/model.pt")
    return str(folder)


SLIDE = {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32], "sw_batch_size": 4,
         "overlap": "@displayable_configs#sw_overlap"}  # fmt: skip
ZOO = {
    "spleen": ("UNet", UNet, UNET,
               [{"_target_": "ScaleIntensityRanged", "keys": "@image_key", **SCALE},
                {"_target_": "EnsureTyped", "keys": "@image_key", "device": "@device"}],
               [ScaleIntensityRanged("image", **SCALE)]),
    "whole body": ("SegResNet", SegResNet, SEGRES,
                   [{"_target_": "NormalizeIntensityd", "keys": "@image_key", "nonzero": True},
                    {"_target_": "ScaleIntensityd", "keys": "@image_key", "minv": -1.0,
                     "maxv": "$1.0 if @displayable_configs#highres else 2.0"}],
                   [NormalizeIntensityd("image", nonzero=True),
                    ScaleIntensityd("image", minv=-1.0, maxv=1.0)]),
    "dynunet": ("monai.networks.nets.DynUNet", DynUNet, DYN,
                [{"_target_": "ScaleIntensityd", "keys": "image"}], [ScaleIntensityd("image")]),
    "swin": ("SwinUNETR", SwinUNETR, {"in_channels": 1, "out_channels": 3, "feature_size": 12},
             [{"_target_": "ScaleIntensityRanged", "keys": "@image_key", **SCALE}],
             [ScaleIntensityRanged("image", **SCALE)]),
}  # fmt: skip


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("third")
    (name,) = write_cohort(Store(), str(folder), 1)
    return folder / "images" / f"{name}.nii.gz"


def segmented(model: str, image: Path, output: Path) -> np.ndarray:
    settings = SegmentSettings(
        images=str(image), model=model, output=str(output),
        cluster=ClusterSettings(kind="serial", threads=1),
    )  # fmt: skip
    (record,) = run_segment(open_segment(settings), SerialExecutor())
    assert record.status == "done", record.message
    return np.asanyarray(nib.load(record.output).dataobj)


def monais(network, image: Path, transforms, inferer) -> tuple[np.ndarray, np.ndarray]:
    """MONAI's labels, and by how much the best score leads."""
    loaded = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), *transforms])(
        {"image": str(image)}
    )["image"]
    with torch.inference_mode():
        scores = inferer(loaded.as_tensor()[None].float(), network)[0]
    top = scores.topk(2, dim=0).values
    return scores.argmax(0).numpy(), (top[0] - top[1]).numpy()


def assert_same(found, wanted, margin):
    """P2: equal but where the best two scores are nearly one."""
    assert np.unique(wanted).size > 1
    assert margin[found != wanted].max(initial=0) < 1e-4


@pytest.mark.parametrize("name", ZOO)
def test_a_bundle_of_the_zoo_runs_as_it_stands(name, image, tmp_path):
    target, kind, arguments, plain, transforms = ZOO[name]
    torch.manual_seed(0)
    network = kind(**arguments).eval()
    named = {**arguments, "img_size": 96} if name == "swin" else arguments
    softmax = [{"_target_": "Activationsd", "keys": "pred", "softmax": True}]
    size = [64, 64, 32] if name == "swin" else [32, 32, 32]
    slide = {**SLIDE, "roi_size": size}
    model = bundle(tmp_path / "model", target, network, named, plain, slide, softmax)
    found = segmented(model, image, tmp_path / "out")
    inferer = SlidingWindowInferer(size, 1, 0.25)
    assert_same(found, *monais(network, image, transforms, inferer))


def test_a_2d_bundle_runs_slice_by_slice(image, tmp_path):
    torch.manual_seed(0)
    network = UNet(**FLAT).eval()
    slices = {"_target_": "SliceInferer", "roi_size": [32, 32], "spatial_dim": 2}
    plain = [{"_target_": "ScaleIntensityd", "keys": "image"}]
    model = bundle(tmp_path / "model", "UNet", network, FLAT, plain, slices)
    found = segmented(model, image, tmp_path / "out")
    inferer = SliceInferer(roi_size=(32, 32), spatial_dim=2, sw_batch_size=1, overlap=0.25)
    assert_same(found, *monais(network, image, [ScaleIntensityd("image")], inferer))


def test_a_window_as_small_as_the_stride_is_refused_before_work_starts(image, tmp_path):
    _, kind, arguments, plain, _ = ZOO["swin"]
    model = bundle(tmp_path / "model", "SwinUNETR", kind(**arguments), arguments, plain, SLIDE)
    with pytest.raises(RequestError, match="Take 64 x 64 x 64") as caught:
        segmented(model, image, tmp_path / "out")
    assert caught.value.code == "roi_size_invalid"
