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
from unet_pipeline.networks.bundle_config import MOST_BYTES, ConfigFile, invalid
from unet_pipeline.networks.postprocessing import read_decision
from unet_pipeline.networks.programs import PROGRAMS, check_trust, program_def
from unet_pipeline.networks.registry import network_contract
from unet_pipeline.networks.trusted import TrustedConfig
from unet_pipeline.networks.weights import read_weights
from unet_pipeline.storage.store import Store, join
from unet_pipeline.tiling.decision import BACKGROUND, Decision, Highest


def read_monai_bundle(url: str, store: Store, *, trust: bool = False) -> Bundle:
    """Read the configuration of a bundle and take the digest of its weights.

    Raises
    ------
    RequestError
        As ``load_bundle``.
    """
    trusted = TrustedConfig(url, store) if trust else None
    config = _read_inference(url, store, trusted)
    metadata = _read_metadata(url, store)
    weights_file = _weights_file(url, store, trust)
    weights_digest = digest_of(read_weights(join(url, weights_file), store))
    adaptive = _adaptive(url, store)
    slice_axis = _slice_axis(config)
    is_program = weights_file in PROGRAMS
    own_network = trusted is not None and not is_program and not _is_known(config)
    if trusted is not None and own_network:
        trusted.fetch()
    unread = is_program or own_network
    network_def = _program(metadata, slice_axis) if unread else config.value("network_def")
    if not isinstance(network_def, dict):
        raise invalid(config.url, "a network_def that is no JSON object", "a MONAI component")
    preprocessing = _preprocessing(config)
    contract = network_contract(network_def)
    if contract.spatial_dims != (3 if slice_axis is None else 2):
        wanted = "a 3-D one, or a 2-D one with SliceInferer"
        raise invalid(config.url, f"a network for {contract.spatial_dims}-D images", wanted)
    decision = read_decision(config, contract.out_channels)
    roi_size, overlap, blend = _roi_size(config, slice_axis), _overlap(config), _blend(config)
    code_digest = None if trusted is None else trusted.digest  # when all that may run it has
    return Bundle(
        name=url.rstrip("/").rsplit("/", 1)[-1],
        url=url,
        network_def=network_def,
        preprocessing=preprocessing,
        roi_size=roi_size,
        slice_axis=slice_axis,
        overlap=overlap,
        blend=blend,
        decision=decision,
        labels=decision.label_names(_channel_names(metadata, contract.out_channels, decision)),
        in_channels=contract.in_channels,
        out_channels=contract.out_channels,
        weights_digest=weights_digest,
        config_digest=_digest_of_all(network_def, preprocessing, code_digest),
        weights_file=weights_file,
        adaptive=adaptive,
        code_digest=code_digest,
        own_network=own_network,
    )


def _digest_of_all(
    network_def: dict[str, Any], preprocessing: tuple[dict[str, Any], ...], code: str | None
) -> str:
    decisive = [network_def, preprocessing, *([] if code is None else [code])]
    return digest_of(json.dumps(decisive, sort_keys=True, separators=(",", ":")).encode())


def _read_inference(url: str, store: Store, trusted: TrustedConfig | None) -> ConfigFile:
    where = join(url, INFERENCE)
    if store.exists(where):
        evaluate = None if trusted is None else trusted.value
        return ConfigFile.read(where, store, evaluate)
    if any(store.exists(join(url, f"configs/inference.{kind}")) for kind in ("yaml", "yml")):
        raise invalid(url, "configs/inference as YAML", f"{INFERENCE}: only JSON is read")
    raise RequestError(
        "bundle_missing",
        found=f"no {INFERENCE} there",
        wanted=f"a MONAI bundle, or one of the package: {', '.join(packaged_bundles())}",
        remedy="Check the name or URL of the bundle",
        subject=url,
    )


def _read_metadata(url: str, store: Store) -> ConfigFile:
    where = join(url, METADATA)
    if not store.exists(where):
        raise invalid(url, f"no {METADATA}", f"a bundle with {METADATA}")
    return ConfigFile.read(where, store)


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


def _is_known(config: ConfigFile) -> bool:
    """Say whether the registry can build the network; else only the bundle's own code can."""
    try:
        network_contract(config.value("network_def"))
    except (RequestError, AttributeError):
        return False
    return True


def _adaptive(url: str, store: Store) -> AdaptiveRule | None:
    where = join(url, ADAPTIVE)
    if not store.exists(where):
        return None
    try:
        return AdaptiveRule.parse(store.read_at_most(where, MOST_BYTES))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
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


def _channel_names(metadata: ConfigFile, channels: int, decision: Decision) -> list[str]:
    path = "network_data_format::outputs::pred::channel_def"
    named = metadata.value(path, {})
    wanted = f"a name for each of the {channels} output channels, 0 to {channels - 1}"
    if not isinstance(named, dict) or not set(named) <= set(map(str, range(channels))):
        raise invalid(metadata.url, f"{path} {named!r}", wanted)
    default = [f"label {index}" for index in range(channels)]
    if decision == Highest():
        default[0] = BACKGROUND
    return [str(named.get(str(index), default[index])) for index in range(channels)]
