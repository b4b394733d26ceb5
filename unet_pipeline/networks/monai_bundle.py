"""MONAI's bundle folders, read as data."""

from collections.abc import Iterator
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle import (
    INFERENCE,
    METADATA,
    MOST_OF_A_NAME,
    WEIGHTS,
    Bundle,
    digest_of,
    packaged_bundles,
    references_in,
)
from unet_pipeline.networks.bundle_config import MOST_BYTES, ConfigFile, invalid
from unet_pipeline.networks.depth import ADAPTIVE, AdaptiveRule
from unet_pipeline.networks.inferer import INFERERS, SIMPLE, read_inferer
from unet_pipeline.networks.label_steps import read_label_steps
from unet_pipeline.networks.postprocessing import read_decision, without_background
from unet_pipeline.networks.programs import PROGRAMS, check_trust, program_def
from unet_pipeline.networks.registry import check_network, network_contract
from unet_pipeline.networks.trusted import TrustedConfig
from unet_pipeline.networks.weights import read_weights
from unet_pipeline.records import json_text
from unet_pipeline.storage.store import Store, join
from unet_pipeline.texts import shown
from unet_pipeline.tiling.decision import BACKGROUND, Combined, Decision, Highest
from unet_pipeline.tiling.windows import in_volume, whole_window
from unet_pipeline.volume.options import brief
from unet_pipeline.volume.preprocessing import names_image


def read_monai_bundle(url: str, store: Store, *, trust: bool = False) -> Bundle:
    """Read the configuration of a bundle and take the digest of its weights.

    Raises
    ------
    RequestError
        As ``load_bundle``.
    """
    trusted = TrustedConfig(url, store) if trust else None
    _check_complete(url, store)
    config = _read_inference(url, store, trusted)
    metadata = _read_metadata(url, store)
    weights_file = _weights_file(url, store, trust)
    weights = read_weights(join(url, weights_file), store)
    adaptive = _adaptive(url, store)
    windows = read_inferer(config)
    is_whole = windows.roi_size is None
    is_program = weights_file in PROGRAMS
    own_network = trusted is not None and not is_program and not _is_known(config)
    if trusted is not None and own_network:
        trusted.fetch()
    unread = is_program or own_network
    dims = 3 if windows.slice_axis is None else 2
    network_def = _program(metadata, dims) if unread else config.value("network_def")
    if not isinstance(network_def, dict):
        raise invalid(config.url, "a network_def that is no JSON object", "a MONAI component")
    preprocessing = _preprocessing(config)
    contract = network_contract(network_def)
    if contract.spatial_dims != dims and not is_whole:
        wanted = "a 3-D one, or a 2-D one with SliceInferer"
        raise invalid(config.url, f"a network for {contract.spatial_dims}-D images", wanted)
    if not unread:
        check_network(network_def, len(weights))
    decision = read_decision(config, contract.out_channels)
    names = _channel_names(metadata, contract.out_channels, decision)
    decision = without_background(decision, names)
    label_steps, not_done = read_label_steps(config, decision, contract.out_channels)
    code_digest = None if trusted is None else trusted.digest  # when all that may run it has
    return Bundle(
        name=shown(url.rstrip("/").rsplit("/", 1)[-1]),
        url=url,
        network_def=network_def,
        preprocessing=preprocessing,
        roi_size=windows.roi_size or _smallest(contract.stride),
        slice_axis=2 if contract.spatial_dims == 2 and is_whole else windows.slice_axis,
        whole=is_whole,
        overlap=windows.overlap,
        blend=windows.blend,
        decision=decision,
        labels=decision.label_names(names),
        in_channels=contract.in_channels,
        out_channels=contract.out_channels,
        weights_digest=digest_of(weights),
        config_digest=_digest_of_all(network_def, preprocessing, code_digest),
        weights_file=weights_file,
        adaptive=adaptive,
        code_digest=code_digest,
        own_network=own_network,
        label_steps=label_steps,
        not_done=not_done,
        channel_names=_input_names(metadata, contract.in_channels),
        references=references_in(metadata.content),
    )


def _digest_of_all(
    network_def: dict[str, Any], preprocessing: tuple[dict[str, Any], ...], code: str | None
) -> str:
    decisive = [network_def, preprocessing, *([] if code is None else [code])]
    return digest_of(json_text(decisive, sort_keys=True, separators=(",", ":")).encode())


def _check_complete(url: str, store: Store) -> None:
    """Say at once all that a bundle lacks: files, and entries of its configuration.

    Raises
    ------
    RequestError
        ``bundle_invalid``, or ``bundle_missing`` where nothing at all is there.
    """
    inference = join(url, INFERENCE)
    there = [path for path in (INFERENCE, METADATA) if store.exists(join(url, path))]
    weights = [path for path in (*WEIGHTS, *PROGRAMS) if store.exists(join(url, path))]
    if not there and not weights:
        raise _no_bundle(url)
    lacks = [path for path in (INFERENCE, METADATA) if path not in there]
    if any(store.exists(join(url, f"configs/inference.{kind}")) for kind in ("yaml", "yml")):
        lacks = [f"{one} (it is YAML)" if one == INFERENCE else one for one in lacks]
    if not weights:
        lacks.append(f"weights ({' or '.join(WEIGHTS)})")
    if INFERENCE in there:
        config = ConfigFile.read(inference, store)
        is_program = bool(weights) and weights[0] in PROGRAMS
        wanted = [*([] if is_program else ["network_def"]), "preprocessing"]
        wanted.append("inferer" if _inferer_name(config) == SIMPLE else "inferer::roi_size")
        lacks += [f"{path} in {INFERENCE}" for path in wanted if not config.has(path)]
    if lacks:
        raise RequestError(
            "bundle_invalid",
            subject=url,
            found=f"a bundle without {', without '.join(lacks)}",
            wanted="all of them",
            remedy="Add what is missing, or make a bundle of weights alone: unet-pipeline bundle "
            "make (docs/your-model.md)",
        )


def _inferer_name(config: ConfigFile) -> str:
    """Return the name of the inferer, which must be one that is done; empty for none.

    Raises
    ------
    RequestError
        ``inferer_unsupported``.
    """
    if not config.has("inferer::_target_"):
        return ""
    name = str(config.value("inferer::_target_")).rpartition(".")[2]
    if name in INFERERS:
        return name
    raise RequestError(
        "inferer_unsupported",
        subject=config.url,
        found=f"the inferer {name}",
        wanted=f"one of {', '.join(INFERERS)}",
        remedy="Write SlidingWindowInferer with a roi_size as large as the volumes that the "
        "network was trained on",
    )


def _smallest(stride: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the smallest volume that goes through a network whole; one slice for a 2-D one."""
    return whole_window((1, 1, 1), in_volume(stride))


def _no_bundle(url: str) -> RequestError:
    return RequestError(
        "bundle_missing",
        found=f"no {INFERENCE} there",
        wanted=f"a MONAI bundle, or one of the package: {', '.join(packaged_bundles())}",
        remedy="Name one of the models that it lists: only segment and plan take a file of models"
        if url.lower().endswith((".yaml", ".yml"))
        else "Check the name or URL of the bundle; of weights alone, unet-pipeline bundle make "
        "makes one",
        subject=url,
    )


def _read_inference(url: str, store: Store, trusted: TrustedConfig | None) -> ConfigFile:
    where = join(url, INFERENCE)
    if store.exists(where):
        evaluate = None if trusted is None else trusted.value
        return ConfigFile.read(where, store, evaluate)
    raise _no_bundle(url)


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


def _program(metadata: ConfigFile, dims: int) -> dict[str, Any]:
    try:
        return program_def(metadata.content, dims)
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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        found = f"{ADAPTIVE} that is no rule ({error})"
        raise invalid(url, found, "a rule as bundle calibrate writes it") from error


def _preprocessing(config: ConfigFile) -> tuple[dict[str, Any], ...]:
    found = config.content.get("preprocessing")
    path = "preprocessing" if isinstance(found, list) else "preprocessing::transforms"
    listed = found.get("transforms") if isinstance(found, dict) else found
    if isinstance(listed, list):
        return _of_image(config, path, listed)
    found = config.value("preprocessing")
    transforms = found.get("transforms") if isinstance(found, dict) else found
    if not isinstance(transforms, list) or not all(isinstance(t, dict) for t in transforms):
        wanted = "a list of transforms, or a Compose of one"
        raise invalid(config.url, "a preprocessing entry of another form", wanted)
    return tuple(transforms)


def _of_image(config: ConfigFile, path: str, listed: list[Any]) -> tuple[dict[str, Any], ...]:
    """Return the transforms that have to do with the image; the others are not even read.

    Where none names it, the volumes have another key, and all are returned.
    """

    def keyed(place: str, one: Any) -> bool:
        if not isinstance(one, dict) or "keys" not in one:
            return True
        return names_image({**one, "keys": config.value(f"{place}::keys")})

    places = [f"{path}::{index}" for index in range(len(listed))]
    ours = [place for place, one in zip(places, listed, strict=True) if keyed(place, one)]
    has_keys = any("keys" in one for one in listed if isinstance(one, dict))
    transforms = [config.value(place) for place in (ours if has_keys and ours else places)]
    if not all(isinstance(one, dict) for one in transforms):
        raise invalid(config.url, "a preprocessing entry of another form", "a list of transforms")
    return tuple(transforms)


def _input_names(metadata: ConfigFile, channels: int) -> tuple[str, ...]:
    """Return the names of the channels that the network takes; empty unless each has one."""
    named = metadata.value("network_data_format::inputs::image::channel_def", {})
    numbers = [str(index) for index in range(channels)]
    if not isinstance(named, dict) or set(named) != set(numbers):
        return ()
    return tuple(shown(str(named[number]), MOST_OF_A_NAME) for number in numbers)


def _channel_names(metadata: ConfigFile, channels: int, decision: Decision) -> list[str]:
    path = "network_data_format::outputs::pred::channel_def"
    named = metadata.value(path, {})
    wanted = f"a name for each of the {channels} output channels, 0 to {channels - 1}"
    if channels == 1 and isinstance(named, dict) and set(named) == {"0", "1"}:
        named = {"0": named["1"]}  # background and what the one channel finds
    if not isinstance(named, dict) or not set(named) <= set(map(str, range(channels))):
        raise invalid(metadata.url, f"{path} {brief(named)}", wanted)
    if not all(isinstance(name, str | int) for name in named.values()):
        raise invalid(metadata.url, f"{path} {brief(named)}", "texts as names")
    names = [str(named.get(str(index), default)) for index, default in _unnamed(channels, decision)]
    names = ["foreground"] if [name.lower() for name in names] == [BACKGROUND] else names
    return [shown(name, MOST_OF_A_NAME) for name in names]


def _unnamed(channels: int, decision: Decision) -> Iterator[tuple[int, str]]:
    """Yield each channel with the name that it has where the bundle gives none."""
    if isinstance(decision, Combined):  # the label of a region alone is another number
        yield from enumerate(
            ["foreground"] if channels == 1 else [f"region {c + 1}" for c in range(channels)]
        )
        return
    for index in range(channels):
        yield index, BACKGROUND if index == 0 and decision == Highest() else f"label {index}"
