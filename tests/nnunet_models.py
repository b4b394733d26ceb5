"""Folders of nnU-Net models with random weights, written with nnU-Net's own code."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

SPLINES = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
LINEAR = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
CT = {"mean": 60.0, "std": 90.0, "percentile_00_5": -150.0, "percentile_99_5": 350.0,
      "min": -1000.0, "max": 2000.0, "median": 50.0}  # fmt: skip
UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
RESIDUAL = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"


def arch_kwargs(dims: int, strides: Sequence[Sequence[int]], network: str) -> dict[str, Any]:
    """Return the arguments of a small network."""
    stages = len(strides)
    convs = "n_conv_per_stage" if network == UNET else "n_blocks_per_stage"
    return {
        "n_stages": stages,
        "features_per_stage": [8 * 2**i for i in range(stages)],
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": [[3] * dims] * stages,
        "strides": [list(s) for s in strides],
        convs: [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def write_model(
    folder: Path,
    *,
    patch: Sequence[int] = (16, 32, 32),
    spacing: Sequence[float] = (1.5, 1.5, 1.5),
    strides: Sequence[Sequence[int]] = ((1, 1, 1), (2, 2, 2), (2, 2, 2)),
    schemes: Sequence[str] = ("ZScoreNormalization",),
    masked: Sequence[bool] = (False,),
    labels: Mapping[str, Any] | None = None,
    regions: Sequence[int] | None = None,
    folds: Sequence[int | str] = (0,),
    reader: str = "SimpleITKIO",
    transpose: Sequence[int] = (0, 1, 2),
    network: str = UNET,
    old: bool = False,
    changes: Mapping[str, Any] | None = None,
    mirror: Sequence[int] | None = (0, 1, 2),
    name: str | None = None,
) -> Path:
    """Write ``plans.json``, ``dataset.json`` and a checkpoint for each fold; return the folder.

    Parameters
    ----------
    patch, spacing, strides
        Along nnU-Net's axes, which are those of the file in reverse order.
    old
        Whether the network is described as before nnU-Net 2.4.
    name
        Of the configuration.
    """
    dims = len(patch)
    kwargs = arch_kwargs(dims, strides, network)
    labels = labels or {"background": 0, "one": 1, "two": 2}
    name = name or ("2d" if dims == 2 else "3d_fullres")
    configuration = {
        "data_identifier": f"nnUNetPlans_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "spacing": list(spacing),
        "normalization_schemes": list(schemes),
        "use_mask_for_norm": list(masked),
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": SPLINES,
        "resampling_fn_seg_kwargs": {**LINEAR, "is_seg": True},
        "resampling_fn_probabilities_kwargs": LINEAR,
        **(_old(network, kwargs) if old else {"architecture": _architecture(network, kwargs)}),
        **(changes or {}),
    }
    plans = {
        "dataset_name": "Dataset001_Test",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": reader,
        "transpose_forward": list(transpose),
        "transpose_backward": [int(i) for i in np.argsort(transpose)],
        "configurations": {"base": configuration, name: {"inherits_from": "base"}},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(i): CT for i in range(len(schemes))},
    }
    dataset = {
        "channel_names": {str(i): f"channel {i}" for i in range(len(schemes))},
        "labels": dict(labels),
        "numTraining": 1,
        "file_ending": ".nii.gz",
        **({} if regions is None else {"regions_class_order": list(regions)}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    heads = len(regions or labels)
    known = {int(n) for values in labels.values() for n in np.atleast_1d(values)} - {0}
    channels = len(schemes) + (len(known) if configuration.get("previous_stage") else 0)
    for seed, fold in enumerate(folds):
        torch.manual_seed(seed)
        made = get_network_from_plans(
            network, kwargs, _architecture(network, kwargs)["_kw_requires_import"], channels,
            heads, allow_init=True, deep_supervision=False,
        )  # fmt: skip
        write_checkpoint(folder / f"fold_{fold}" / "checkpoint_final.pth", made, name, mirror)
    return folder


LOWRES, CASCADE = "3d_lowres", "3d_cascade_fullres"


def write_cascade(
    folder: Path,
    *,
    first: Mapping[str, Any] | None = None,
    second: Mapping[str, Any] | None = None,
    **both: Any,
) -> Path:
    """Write the two stages of a cascade beside each other; return the folder of the second.

    Parameters
    ----------
    first, second, both
        What ``write_model`` is given for one stage, and for both.
    """
    of_first = {"spacing": (2.0, 2.0, 2.0), **both, **(first or {})}
    of_second = {"spacing": (1.0, 1.2, 1.2), **both, **(second or {})}
    changes = {**of_second.pop("changes", {}), "previous_stage": LOWRES}
    beside = "nnUNetTrainer__nnUNetPlans__"
    write_model(folder / f"{beside}{LOWRES}", name=LOWRES, **of_first)
    return write_model(folder / f"{beside}{CASCADE}", name=CASCADE, changes=changes, **of_second)


def write_checkpoint(
    path: Path, network: torch.nn.Module, configuration: str, mirror: Sequence[int] | None
) -> None:
    """Write what nnU-Net's trainer writes: weights, optimiser, a log of numpy's numbers."""
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.99)
    losses = [np.float32(0.5), np.float64(0.25), 0.125]
    path.parent.mkdir(parents=True)
    torch.save(
        {
            "network_weights": network.state_dict(),
            "optimizer_state": optimiser.state_dict(),
            "grad_scaler_state": None,
            "logging": {"train_losses": losses, "dice_per_class_or_region": [losses]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 1000,
            "init_args": {
                "plans": {}, "configuration": configuration, "fold": 0, "dataset_json": {},
                "device": torch.device("cpu"),
            },
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": None if mirror is None else tuple(mirror),
        },
        path,
    )  # fmt: skip


def _architecture(network: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "network_class_name": network,
        "arch_kwargs": dict(kwargs),
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _old(network: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    convs = "n_conv_per_stage" if network == UNET else "n_blocks_per_stage"
    return {
        "UNet_class_name": network.rpartition(".")[2],
        "UNet_base_num_features": kwargs["features_per_stage"][0],
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": kwargs[convs],
        "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [len(kwargs["strides"]) - 1] * len(kwargs["strides"][0]),
        "pool_op_kernel_sizes": kwargs["strides"],
        "conv_kernel_sizes": kwargs["kernel_sizes"],
    }


def read_model(folder: Path) -> dict[str, Any]:
    """Return the plans of a model."""
    return dict(json.loads((folder / "plans.json").read_text()))


def teach(
    folder: Path, image: Path, mask: Path, steps: int = 70, previous: Path | None = None
) -> None:
    """Let each fold learn one case, so that its scores are not all near ties.

    nnU-Net adds scores in float16; with random weights that alone decides some labels.

    Parameters
    ----------
    previous
        Label map of the first stage, for the second stage of a cascade.
    """
    predictor = nnUNetPredictor(0.5, True, False, False, torch.device("cpu"), False, False, False)
    for checkpoint in sorted(folder.glob("fold_*/checkpoint_final.pth")):
        fold = checkpoint.parent.name.removeprefix("fold_")
        predictor.initialize_from_trained_model_folder(str(folder), [fold])
        values, labels = _preprocessed(predictor, image, mask)
        if previous is not None:
            _, before = _preprocessed(predictor, image, previous)
            channels = predictor.label_manager.foreground_labels
            values = np.vstack([values, *(before == label for label in channels)])
        network = predictor.network
        optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
        rng = np.random.default_rng(0)
        for _ in range(steps):
            x, y = _crop(values, labels, predictor.configuration_manager.patch_size, rng)
            optimiser.zero_grad()
            _loss(predictor, network(x), y).backward()
            optimiser.step()
        found = torch.load(checkpoint, weights_only=False)
        torch.save({**found, "network_weights": network.state_dict()}, checkpoint)


def _preprocessed(predictor: nnUNetPredictor, image: Path, mask: Path) -> tuple[Any, Any]:
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    reader = plans.image_reader_writer_class()
    values, properties = reader.read_images([str(image)])
    labels, _ = reader.read_seg(str(mask))
    values, labels, _ = configuration.preprocessor_class(verbose=False).run_case_npy(
        values, labels, properties, plans, configuration, predictor.dataset_json
    )
    return values, labels


def _crop(values: Any, labels: Any, patch: Sequence[int], rng: Any) -> tuple[Any, Any]:
    """Draw one window, shape BCXYZ, and its labels, shape BXYZ; both BC.. without X if 2-D."""
    sizes = [1, *patch][-3:]
    pad = [(0, max(0, size - n)) for size, n in zip(sizes, values.shape[1:], strict=True)]
    values, labels = (np.pad(array, [(0, 0), *pad]) for array in (values, labels))
    starts = [rng.integers(n - size + 1) for n, size in zip(values.shape[1:], sizes, strict=True)]
    part = tuple(slice(a, a + size) for a, size in zip(starts, sizes, strict=True))
    x, y = torch.from_numpy(values[(slice(None), *part)]), torch.from_numpy(labels[0][part])
    y = y.clamp(min=0).long()
    return (x[None, :, 0], y[:1]) if len(patch) == 2 else (x[None], y[None])


def _loss(predictor: nnUNetPredictor, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    manager = predictor.label_manager
    if not manager.has_regions:
        return torch.nn.functional.cross_entropy(scores, labels)
    regions = [np.atleast_1d(region).tolist() for region in manager.foreground_regions]
    wanted = torch.stack([sum(labels == v for v in region) > 0 for region in regions], dim=1)
    return torch.nn.functional.binary_cross_entropy_with_logits(scores, wanted.float())
