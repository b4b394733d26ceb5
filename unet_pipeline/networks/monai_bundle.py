"""MONAI's bundle folders, read as data."""

import json
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.adaptive import ADAPTIVE, AdaptiveRule
from unet_pipeline.networks.bundle import (
    INFERENCE,
    METADATA,
    WEIGHTS,
    Bundle,
    digest_of,
    packaged_bundles,
)
from unet_pipeline.networks.bundle_config import ConfigFile, invalid
from unet_pipeline.networks.programs import PROGRAMS, check_trust, program_def
from unet_pipeline.networks.registry import network_contract
from unet_pipeline.storage.store import Store, join


def read_monai_bundle(url: str, store: Store, *, trust: bool = False) -> Bundle:
    """Read the configuration of a bundle and take the digest of its weights.

    Raises
    ------
    RequestError
        As ``load_bundle``.
    """
    config = _read_inference(url, store)
    metadata = ConfigFile.parse(join(url, METADATA), _read(url, METADATA, store))
    weights_file = _weights_file(url, store, trust)
    weights_digest = digest_of(store.read(join(url, weights_file)))
    adaptive = _adaptive(url, store)
    slice_axis = _slice_axis(config)
    is_program = weights_file in PROGRAMS
    network_def = _program(metadata, slice_axis) if is_program else config.value("network_def")
    if not isinstance(network_def, dict):
        raise invalid(config.url, "a network_def that is no JSON object", "a MONAI component")
    preprocessing = _preprocessing(config)
    contract = network_contract(network_def)
    if contract.spatial_dims != (3 if slice_axis is None else 2):
        wanted = "a 3-D one, or a 2-D one with SliceInferer"
        raise invalid(config.url, f"a network for {contract.spatial_dims}-D images", wanted)
    _check_decision(config)
    return Bundle(
        name=url.rstrip("/").rsplit("/", 1)[-1],
        url=url,
        network_def=network_def,
        preprocessing=preprocessing,
        roi_size=_roi_size(config, slice_axis),
        slice_axis=slice_axis,
        overlap=_overlap(config),
        blend=_blend(config),
        labels=_labels(metadata, contract.out_channels),
        in_channels=contract.in_channels,
        out_channels=contract.out_channels,
        weights_digest=weights_digest,
        config_digest=digest_of(
            json.dumps([network_def, preprocessing], sort_keys=True, separators=(",", ":")).encode()
        ),
        weights_file=weights_file,
        adaptive=adaptive,
    )


def _read_inference(url: str, store: Store) -> ConfigFile:
    where = join(url, INFERENCE)
    if store.exists(where):
        return ConfigFile.parse(where, store.read(where))
    if any(store.exists(join(url, f"configs/inference.{kind}")) for kind in ("yaml", "yml")):
        raise invalid(url, "configs/inference as YAML", f"{INFERENCE}: only JSON is read")
    raise RequestError(
        "bundle_missing",
        found=f"no {INFERENCE} there",
        wanted=f"a MONAI bundle, or one of the package: {', '.join(packaged_bundles())}",
        remedy="Check the name or URL of the bundle",
        subject=url,
    )


def _read(url: str, path: str, store: Store) -> bytes:
    if not store.exists(join(url, path)):
        raise invalid(url, f"no {path}", f"a bundle with {path}")
    return store.read(join(url, path))


def _weights_file(url: str, store: Store, trust: bool) -> str:
    """Return the weights; a program only where there are none."""
    for path in (*WEIGHTS, *PROGRAMS):
        if store.exists(join(url, path)):
            if path in PROGRAMS:
                check_trust(url, path, trust)
            return path
    raise invalid(url, "no weights", f"one of {' and '.join(WEIGHTS)}")


def _program(metadata: ConfigFile, slice_axis: int | None) -> dict[str, Any]:
    try:
        return program_def(metadata.content, 3 if slice_axis is None else 2)
    except (KeyError, TypeError, ValueError) as error:
        wanted = "num_channels of inputs::image and outputs::pred"
        raise invalid(metadata.url, "no network_data_format", wanted) from error


def _adaptive(url: str, store: Store) -> AdaptiveRule | None:
    where = join(url, ADAPTIVE)
    if not store.exists(where):
        return None
    try:
        return AdaptiveRule.parse(store.read(where))
    except (ValueError, KeyError, TypeError) as error:
        found = f"{ADAPTIVE} that is no rule ({error})"
        raise invalid(url, found, "a rule as bundle calibrate writes it") from error


def _preprocessing(config: ConfigFile) -> tuple[dict[str, Any], ...]:
    found = config.value("preprocessing")
    transforms = found.get("transforms") if isinstance(found, dict) else found
    if not isinstance(transforms, list) or not all(isinstance(t, dict) for t in transforms):
        wanted = "a list of transforms, or a Compose of one"
        raise invalid(config.url, "a preprocessing entry of another form", wanted)
    return tuple(transforms)


def _slice_axis(config: ConfigFile) -> int | None:
    """Return the axis of slices of MONAI's ``SliceInferer``."""
    if not str(config.value("inferer::_target_", "")).endswith("SliceInferer"):
        return None
    axis = config.value("inferer::spatial_dim", 0)
    if axis not in (0, 1, 2):
        raise invalid(config.url, f"inferer::spatial_dim {axis!r}", "0, 1 or 2")
    return int(axis)


def _check_decision(config: ConfigFile) -> None:
    """Refuse channels that may overlap: the highest score would then decide wrongly."""
    post = config.content.get("postprocessing", {})
    steps = post.get("transforms", ()) if isinstance(post, dict) else ()
    for step in steps:
        if isinstance(step, dict) and (step.get("sigmoid") is True or "threshold" in step):
            raise RequestError(
                "decision_unsupported",
                found="channels that are decided one by one (sigmoid, threshold), and may overlap",
                wanted="one label per voxel, that of the highest score (softmax, argmax)",
                remedy="Choose a bundle whose labels exclude each other",
                subject=config.url,
            )


def _roi_size(config: ConfigFile, slice_axis: int | None) -> tuple[int, int, int]:
    found = config.value("inferer::roi_size")
    if slice_axis is not None:
        plane = [found] * 2 if isinstance(found, int) else list(found)
        found = [*plane[:slice_axis], 1, *plane[slice_axis:]]
    match [found] * 3 if isinstance(found, int) else found:
        case [int(x), int(y), int(z)] if min(x, y, z) > 0:
            return x, y, z
    raise invalid(config.url, f"inferer::roi_size {found!r}", "three sizes in voxels")


def _overlap(config: ConfigFile) -> float:
    found = config.value("inferer::overlap", 0.25)
    if isinstance(found, list) and len(set(found)) == 1:
        found = found[0]
    if not isinstance(found, int | float) or not 0 <= found < 1:
        wanted = "one number between 0 and 1 (exclusive) for all axes"
        raise invalid(config.url, f"inferer::overlap {found!r}", wanted)
    return float(found)


def _blend(config: ConfigFile) -> str:
    found = str(config.value("inferer::mode", "constant"))
    if found not in ("gaussian", "constant"):
        raise invalid(config.url, f"inferer::mode {found!r}", "gaussian or constant")
    return found


def _labels(metadata: ConfigFile, out_channels: int) -> dict[int, str]:
    path = "network_data_format::outputs::pred::channel_def"
    named = metadata.value(path, {})
    wanted = f"a name for each of the {out_channels} output channels, 0 to {out_channels - 1}"
    if not isinstance(named, dict) or not set(named) <= set(map(str, range(out_channels))):
        raise invalid(metadata.url, f"{path} {named!r}", wanted)
    default = ("background", *(f"label {index}" for index in range(1, out_channels)))
    return {index: str(named.get(str(index), default[index])) for index in range(out_channels)}
