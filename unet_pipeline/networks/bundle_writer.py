"""Write a trained network as a MONAI bundle, which MONAI alone can run, too.

From the bundle's folder::

    python -m monai.bundle run --bundle_root . --config_file configs/inference.json
        --dataset_dir /images --output_dir /label_maps

The expressions (``$``) of ``configs/inference.json`` are for MONAI's own runner. This package
reads only the plain parts: ``network_def``, ``preprocessing``, ``inferer``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import monai
import numpy as np
import safetensors.torch
import torch
from torch import nn

from unet_pipeline.evaluation.prediction import CALIBRATION, DiceCalibration, LabelCurve
from unet_pipeline.networks.bundle import INFERENCE, WEIGHTS, digest_of
from unet_pipeline.networks.bundle_tools import EXAMPLE, example_of
from unet_pipeline.networks.depth import ADAPTIVE
from unet_pipeline.records import json_text
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.store import Store

SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
BUNDLE_FILES = (
    "models/model.safetensors",
    EXAMPLE,
    "docs/README.md",
    "docs/license.txt",
    "configs/metadata.json",
    INFERENCE,
    ADAPTIVE,
    CALIBRATION,
)
_RAS = [["L", "R"], ["P", "A"], ["I", "S"]]


def write_bundle(
    url: str,
    store: Store,
    *,
    network: nn.Module,
    network_def: Mapping[str, Any],
    preprocessing: Sequence[Mapping[str, Any]],
    roi_size: tuple[int, int, int],
    overlap: float,
    labels: Mapping[int, str],
    channel_names: Sequence[str],
    model_card: str,
    licence: str,
    metadata: Mapping[str, Any],
    blend: str = "gaussian",
    threshold: float | None = None,
    slice_axis: int | None = None,
    dice_curves: Mapping[str, LabelCurve] | None = None,
    dice_cases: Sequence[str] = (),
) -> None:
    """Write a bundle, ``configs/inference.json`` last, without which there is no bundle.

    A bundle of ours that was there is replaced; what was calibrated with other weights is
    removed. Files of another hand stay, and are refused (``output_foreign``) before any is written.

    Parameters
    ----------
    url
        Folder of the bundle.
    network, network_def
        The trained network, and the definition that it was built from.
    preprocessing
        MONAI transforms of the key ``image``, from the file to the network's input.
    roi_size
        Window in voxels of the model grid.
    overlap
        Share of a window that overlaps the next one.
    labels
        Name of each output channel, background included.
    channel_names
        Name of each input channel.
    model_card, licence
        Texts of ``docs/README.md`` and ``docs/license.txt``.
    metadata
        Entries of ``configs/metadata.json`` beside those made here, such as ``task``,
        ``description`` and ``data_source``.
    blend
        Weight of a window's voxels where windows overlap, ``gaussian`` or ``constant``.
    threshold
        Probability (sigmoid) that a voxel of a channel's region must be above; None where channels
        exclude each other (softmax), and the first is background.
    slice_axis
        Axis of the model grid along which a 2-D network takes slices; ``roi_size`` is 1 there.
    dice_curves, dice_cases
        What Dice to expect of each label by the network's confidence, and the names of the cases
        that say so.
    """
    tensors = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    data_format = {
        "inputs": {"image": _tensor("magnitude", dict(enumerate(channel_names)), roi_size)},
        "outputs": {"pred": _tensor("labels", labels, roi_size)},
    }
    about = {**_versions(), **metadata, "network_data_format": data_format}
    files = {
        WEIGHTS[0]: safetensors.torch.save(tensors),
        EXAMPLE: safetensors.torch.save(example_of(network, network_def)),
        "docs/README.md": _text(model_card),
        "docs/license.txt": _text(licence),
        "configs/metadata.json": _json(about),
        "configs/inference.json": _json(
            inference_config(
                network_def, preprocessing, roi_size, overlap, blend, threshold, slice_axis
            )
        ),
    }
    if dice_curves:
        settings = {"roi_size": list(roi_size), "overlap": overlap, "blend": blend}
        weights = digest_of(files[WEIGHTS[0]])
        known = DiceCalibration.of(weights, settings, dice_curves, dice_cases)
        files = {CALIBRATION: known.as_bytes(), **files}
    mine = OwnFiles(store, url)
    mine.check(BUNDLE_FILES)
    mine.remove((INFERENCE, ADAPTIVE, CALIBRATION))  # of a bundle that is now replaced
    mine.write(files)


def standard_preprocessing(spacing_mm: tuple[float, float, float]) -> list[dict[str, Any]]:
    """Return preprocessing for images of any unit: RAS axes, zero mean and unit deviation, spacing.

    The mean and the deviation are those of the file's voxels, before resampling.
    """
    return [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": _RAS},
        {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True},
        {
            "_target_": "Spacingd",
            "keys": "image",
            "pixdim": list(spacing_mm),
            "mode": "bilinear",
        },
        {"_target_": "EnsureTyped", "keys": "image"},
    ]


def inference_config(
    network_def: Mapping[str, Any],
    preprocessing: Sequence[Mapping[str, Any]],
    roi_size: tuple[int, int, int],
    overlap: float,
    blend: str = "gaussian",
    threshold: float | None = None,
    slice_axis: int | None = None,
) -> dict[str, Any]:
    """Return ``configs/inference.json``: every image of ``dataset_dir`` becomes a label map."""
    return {
        "imports": [
            "$import glob",
            "$import numpy",
            "$import torch",
            "$from safetensors.torch import load_file",
        ],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "weights": "$@bundle_root + '/models/model.safetensors'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "datalist": "$[{'image': path} for path in "
        "sorted(glob.glob(@dataset_dir + '/**/*.nii*', recursive=True))]",
        "network_def": dict(network_def),
        "network": "$@network_def.to(@device).eval()",
        "preprocessing": {"_target_": "Compose", "transforms": list(preprocessing)},
        "inferer": {
            **_windows(roi_size, slice_axis),
            "sw_batch_size": 1,
            "overlap": overlap,
            "mode": blend,
        },
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(threshold)},
        "final_scores": "$lambda output: output if torch.is_tensor(output) else output[-1]",
        "predict": "$torch.no_grad()(lambda windows: @final_scores(@network(windows)))",
        "infer": "$lambda case: {**case, "
        "'pred': @inferer(case['image'][None].to(@device), @predict)[0]}",
        "segment": "$lambda case: @postprocessing(@infer(@preprocessing(case)))",
        "initialize": ["$@network.load_state_dict(load_file(@weights))"],
        "run": ["$[@segment(case)['pred'].meta['saved_to'] for case in @datalist]"],
    }


def _windows(roi_size: tuple[int, int, int], slice_axis: int | None) -> dict[str, Any]:
    if slice_axis is None:
        return {"_target_": "SlidingWindowInferer", "roi_size": list(roi_size)}
    plane = [n for axis, n in enumerate(roi_size) if axis != slice_axis]
    return {"_target_": "SliceInferer", "roi_size": plane, "spatial_dim": slice_axis}


def _postprocessing(threshold: float | None) -> list[dict[str, Any]]:
    decision: list[dict[str, Any]] = [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}]
    if threshold is not None:
        decision = [
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": threshold},
        ]
    return [
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
            "to_tensor": True,
        },
        *decision,
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "dseg",
            "output_dtype": "$numpy.uint8",
            "data_root_dir": "@dataset_dir",
            "separate_folder": False,
            "resample": False,
            "savepath_in_metadict": True,
        },
    ]


def _versions() -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": "first version"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"nibabel": "5.3", "safetensors": "0.5", "fire": "0.5"},
        "task": "Segmentation of volumes",
        "description": "A network trained with unet-pipeline train.",
        "authors": "The authors of unet-pipeline",
        "copyright": "See docs/license.txt",
    }


def _tensor(kind: str, names: Mapping[int, str], roi_size: tuple[int, int, int]) -> dict[str, Any]:
    return {
        "type": "image",
        "format": kind,
        "modality": "n/a",
        "num_channels": len(names),
        "spatial_shape": list(roi_size),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": {str(index): name for index, name in names.items()},
    }


def _json(content: Mapping[str, Any]) -> bytes:
    return _text(json_text(content, indent=2, ensure_ascii=False))


def _text(text: str) -> bytes:
    return (text.rstrip() + "\n").encode()
