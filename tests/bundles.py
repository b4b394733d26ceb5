"""Bundles of random weights, written by the product's own writer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unet_pipeline.choices import NetworkName
from unet_pipeline.networks.bundle_writer import write_bundle
from unet_pipeline.networks.family import network_def, unetpp_def
from unet_pipeline.networks.registry import build_network
from unet_pipeline.storage.store import Store

RAS = [["L", "R"], ["P", "A"], ["I", "S"]]


def transform(name: str, **options: Any) -> dict[str, Any]:
    if name == "Orientationd":
        options = {"labels": RAS, **options}
    return {"_target_": name, "keys": "image", **options}


CT = (
    transform("LoadImaged"),
    transform("EnsureChannelFirstd"),
    transform("Orientationd", axcodes="RAS"),
    transform("ScaleIntensityRanged", a_min=-200, a_max=300, b_min=0.0, b_max=1.0, clip=True),
    transform("EnsureTyped"),
)


def random_bundle(
    folder: Path,
    *,
    network: NetworkName = "unet",
    classes: int = 3,
    channels: int = 1,
    features: Sequence[int] = (8, 16, 32),
    roi_size: tuple[int, int, int] = (32, 32, 32),
    preprocessing: Sequence[dict[str, Any]] = CT,
    overlap: float = 0.5,
    seed: int = 0,
    **more: Any,
) -> str:
    """Write a bundle and return its folder; ``unetpp`` is MONAI's, of five levels.

    ``more`` is for the product's writer.
    """
    made = (
        unetpp_def(channels, classes, features)
        if network == "unetpp"
        else network_def(network, channels, classes, features)
    )
    write_bundle(
        str(folder),
        Store(),
        network=build_network(made, seed=seed),
        network_def=made,
        preprocessing=preprocessing,
        roi_size=roi_size,
        overlap=overlap,
        labels={index: f"label {index}" for index in range(classes)},
        channel_names=[f"channel {index}" for index in range(channels)],
        model_card="Random weights, for tests.",
        licence="Apache-2.0",
        metadata={"task": "test", "description": "random weights"},
        **more,
    )
    return str(folder)
