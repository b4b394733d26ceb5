"""One network of random weights in two folders: a MONAI bundle and a model of nnU-Net."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unet_pipeline.networks.bundle_writer import inference_config
from unet_pipeline.networks.registry import build_network

Spacing = tuple[float, float, float]

OVERLAP = 0.5  # of windows; nnU-Net's tile_step_size
HU_LOW, HU_HIGH, HU_MEAN, HU_DEVIATION = -150.0, 350.0, 60.0, 90.0
_TARGET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
_FEATURES = (16, 32, 64, 128)
_NEEDS_IMPORT = ["conv_op", "norm_op", "dropout_op", "nonlin"]
_SPLINES = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
_LINEAR = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}


@dataclass(frozen=True)
class ModelPair:
    """Folders of the same weights.

    Attributes
    ----------
    monai
        Orientation RAS, intensities, linear resampling.
    nnunet
        CT normalisation and splines of third order, as nnU-Net plans them.
    """

    monai: Path
    nnunet: Path


def write_models(folder: Path, classes: int, spacing_mm: Spacing, window: int) -> ModelPair:
    """Write both folders; the same arguments give the same weights.

    Parameters
    ----------
    spacing_mm
        Of the model grid, along the world's axes.
    window
        Voxels of a window along each axis.
    """
    arguments = _arguments()
    network_def = {"_target_": _TARGET, "spatial_dims": 3, "in_channels": 1}
    network_def |= {"out_channels": classes, **arguments}
    weights = build_network(network_def, seed=0).state_dict()
    pair = ModelPair(folder / "monai", folder / "nnunet")
    _write_monai(pair.monai, network_def, weights, spacing_mm, window)
    _write_nnunet(pair.nnunet, arguments, classes, weights, spacing_mm, window)
    return pair


def monai_transforms(spacing_mm: Spacing) -> list[dict[str, Any]]:
    """Return MONAI's transforms from the file to the network's input."""
    ras = [["L", "R"], ["P", "A"], ["I", "S"]]
    intensities = {"a_min": HU_LOW, "a_max": HU_HIGH, "b_min": -1.0, "b_max": 1.0, "clip": True}
    steps: list[tuple[str, dict[str, Any]]] = [
        ("LoadImaged", {}),
        ("EnsureChannelFirstd", {}),
        ("Orientationd", {"axcodes": "RAS", "labels": ras}),
        ("ScaleIntensityRanged", intensities),
        ("Spacingd", {"pixdim": list(spacing_mm), "mode": "bilinear"}),
        ("EnsureTyped", {}),
    ]
    return [{"_target_": name, "keys": "image", **options} for name, options in steps]


def _arguments() -> dict[str, Any]:
    levels = len(_FEATURES)
    return {
        "n_stages": levels,
        "features_per_stage": list(_FEATURES),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * levels,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (levels - 1),
        "n_conv_per_stage": [2] * levels,
        "n_conv_per_stage_decoder": [2] * (levels - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _write_monai(
    folder: Path, network_def: Any, weights: Any, spacing_mm: Spacing, window: int
) -> None:
    classes = network_def["out_channels"]
    roi_size = (window, window, window)
    config = inference_config(network_def, monai_transforms(spacing_mm), roi_size, OVERLAP)
    names = {str(index): f"label {index}" for index in range(classes)}
    about = {
        "network_data_format": {
            "inputs": {"image": {"num_channels": 1, "channel_def": {"0": "CT"}}},
            "outputs": {"pred": {"num_channels": classes, "channel_def": names}},
        }
    }
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    torch.save(weights, folder / "models" / "model.pt")
    (folder / "configs" / "metadata.json").write_text(json.dumps(about))
    (folder / "configs" / "inference.json").write_text(json.dumps(config))


def _write_nnunet(
    folder: Path, arguments: Any, classes: int, weights: Any, spacing_mm: Spacing, window: int
) -> None:
    name = "3d_fullres"
    configuration = {
        "data_identifier": f"nnUNetPlans_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [window] * 3,
        "spacing": list(spacing_mm)[::-1],  # nnU-Net's axes are those of the file in reverse order
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": _SPLINES,
        "resampling_fn_seg_kwargs": {**_LINEAR, "is_seg": True},
        "resampling_fn_probabilities_kwargs": _LINEAR,
        "architecture": {
            "network_class_name": _TARGET,
            "arch_kwargs": arguments,
            "_kw_requires_import": _NEEDS_IMPORT,
        },
    }
    hu = {"mean": HU_MEAN, "std": HU_DEVIATION, "median": HU_MEAN, "min": -1024.0, "max": 3071.0}
    plans = {
        "dataset_name": "Dataset001_Speed",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {name: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {**hu, "percentile_00_5": HU_LOW, "percentile_99_5": HU_HIGH}
        },
    }
    labels = {"background": 0, **{f"label {index}": index for index in range(1, classes)}}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1}
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps({**dataset, "file_ending": ".nii.gz"}))
    checkpoint = {
        "network_weights": weights,
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": name},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
