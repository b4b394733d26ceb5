"""Make a bundle of trained weights and a few words about the network: ``bundle make``.

What the weights say is read from them (``networks/from_weights.py``); the rest is asked for, all at
once. Before anything is written one window goes through the network, and what was written is
opened as a run opens it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle import INFERENCE
from unet_pipeline.networks.bundle_tools import parameters_of
from unet_pipeline.networks.bundle_writer import BUNDLE_FILES, write_bundle
from unet_pipeline.networks.from_weights import arguments_of
from unet_pipeline.networks.network_text import parse_network
from unet_pipeline.networks.registry import (
    NetworkContract,
    build_network,
    check_window,
    final_scores,
    missing_arguments,
    network_contract,
)
from unet_pipeline.networks.weights import fitted, parse_weights, read_weights
from unet_pipeline.opening import open_bundle
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.store import Store, basename, join
from unet_pipeline.tiling.box import index3
from unet_pipeline.tiling.decision import BACKGROUND
from unet_pipeline.volume.preprocessing import parse_preprocessing

_MOST_BYTES = 2**20  # of a JSON file
_RAS = [["L", "R"], ["P", "A"], ["I", "S"]]


@dataclass(frozen=True)
class BundleRequest:
    """What a user says of his network.

    Attributes
    ----------
    weights, output
        URLs of the weights file and of the bundle's folder.
    network
        A name, a call or JSON (``network_text.py``), or the URL of a JSON file.
    spacing
        ``X,Y,Z`` in mm, or ``file``.
    intensity
        ``range:A,B``, ``zscore``, ``percentiles:A,B``, ``minmax`` or ``none``.
    window
        Voxels along each axis of the model grid; of a 2-D network, in the plane of its slices.
    slices_along
        Axis of the model grid, x, y or z, along which a 2-D network takes slices.
    threshold
        Probability above which a voxel lies in a channel's region; None for softmax.
    """

    weights: str
    network: str
    output: str
    spacing: str | None = None
    intensity: str | None = None
    axcodes: str = "RAS"
    crop_foreground: bool = False
    preprocessing: str | None = None
    window: tuple[int, ...] | None = None
    slices_along: str = "z"
    overlap: float = 0.25
    blend: str = "gaussian"
    labels: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    threshold: float | None = None


def make_bundle(request: BundleRequest, store: Store) -> dict[str, Any]:
    """Make a bundle, and return what it is, as plain JSON types.

    Raises
    ------
    RequestError
        ``setting_invalid`` for what lacks or cannot be read, all that lacks at once;
        ``bundle_exists``; ``network_incomplete`` for arguments that weights do not tell;
        what ``parse_weights``, ``fitted``, ``check_window`` and ``open_bundle`` raise.
    """
    transforms = _preprocessing(request, store)
    if store.exists(join(request.output, INFERENCE)):
        raise RequestError(
            "bundle_exists",
            subject=request.output,
            found="a bundle",
            wanted="a folder without one",
            remedy="Give another folder, or remove that bundle",
        )
    OwnFiles(store, request.output).check(BUNDLE_FILES)
    data = read_weights(request.weights, store)
    weights = parse_weights(request.weights, data)
    made, read = _network_def(_network_text(request.network, store), weights)
    contract = network_contract(made)
    slice_axis = _slice_axis(request, contract)
    window = _window(request, contract)
    check_window(made, window)
    labels, channels = _labels(request, contract), _channels(request, contract)
    network = build_network(made, file_bytes=len(data))
    network.load_state_dict(fitted(request.weights, weights, network.state_dict()))
    seconds = _one_window(network.eval(), contract, window)
    write_bundle(
        request.output,
        store,
        network=network,
        network_def=made,
        preprocessing=transforms,
        roi_size=_in_volume(window, slice_axis),
        overlap=request.overlap,
        labels=labels,
        channel_names=channels,
        model_card=f"# {basename(request.output)}\n\nMade of {basename(request.weights)}.",
        licence="As the weights that the bundle was made of.",
        metadata={
            "description": f"Made of {basename(request.weights)} by unet-pipeline bundle make."
        },
        blend=request.blend,
        threshold=_threshold(request, contract),
        slice_axis=slice_axis,
    )
    bundle, _ = open_bundle(request.output, store)
    return {
        "network": made["_target_"],
        "read from the weights": read,
        "parameters": parameters_of(network),
        "labels": {str(number): name for number, name in bundle.labels.items()},
        "decision": str(bundle.decision),
        "preprocessing": [one["_target_"] for one in transforms],
        "window": list(bundle.roi_size),
        "one window": f"{seconds:.2f} s on this machine's CPU",
    }


def _network_text(text: str, store: Store) -> str:
    if text.strip().lower().endswith(".json"):
        return store.read_at_most(text.strip(), _MOST_BYTES).decode(errors="replace")
    return text


def _network_def(text: str, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the definition, and what of it was read from the weights."""
    given = parse_network(text)
    told = arguments_of(given["_target_"], weights)
    read = {key: value for key, value in told.items() if key not in given}
    made = {"_target_": given["_target_"], **read, **given}
    lacks = missing_arguments(made)
    if lacks:
        raise RequestError(
            "network_incomplete",
            found=f"{given['_target_']} without {', '.join(lacks)}",
            wanted="what the weights do not tell",
            remedy=f"Say --network '{given['_target_']}({lacks[0]}=...)'",
        )
    return made, read


def _window(request: BundleRequest, contract: NetworkContract) -> tuple[int, ...]:
    """Return the sizes that the network sees: of a 2-D one, those in the plane of its slices."""
    sizes, dims = request.window or (), contract.spatial_dims
    if len(sizes) != dims or min(sizes) < 1:
        said = ",".join(map(str, sizes))
        raise _wrong(
            f"--window {said} for a {dims}-D network",
            f"{dims} sizes in voxels, {'X,Y,Z'[: 2 * dims - 1]}",
        )
    return sizes


def _slice_axis(request: BundleRequest, contract: NetworkContract) -> int | None:
    if request.slices_along not in ("x", "y", "z"):
        raise _wrong(f"--slices-along {request.slices_along}", "x, y or z")
    return None if contract.spatial_dims == 3 else "xyz".index(request.slices_along)


def _in_volume(window: Sequence[int], slice_axis: int | None) -> tuple[int, int, int]:
    """Return the window with its size along the axis of slices, 1."""
    if slice_axis is None:
        return index3(window)
    return index3([*window[:slice_axis], 1, *window[slice_axis:]])


def _labels(request: BundleRequest, contract: NetworkContract) -> dict[int, str]:
    """Return the name of each output channel; with softmax the first is background."""
    count = contract.out_channels
    names = list(request.labels)
    if _threshold(request, contract) is None:
        names = names or [f"label {index}" for index in range(1, count)]
        if len(names) == count - 1:
            names = [BACKGROUND, *names]
    elif len(names) == count + 1 and names[0].lower() == BACKGROUND:
        names = names[1:]
    elif not names:
        names = ["foreground"] if count == 1 else [f"region {c + 1}" for c in range(count)]
    if len(names) != count:
        raise _wrong(
            f"--labels with {len(request.labels)} names ({', '.join(request.labels)})",
            f"one for each of the network's {count} output channels, background included or not",
        )
    return dict(enumerate(names))


def _channels(request: BundleRequest, contract: NetworkContract) -> list[str]:
    names = list(request.channels) or [f"channel {index}" for index in range(contract.in_channels)]
    if len(names) != contract.in_channels:
        wanted = f"one for each of the network's {contract.in_channels} input channels"
        raise _wrong(f"--channels with {len(names)} names", wanted)
    return names


def _threshold(request: BundleRequest, contract: NetworkContract) -> float | None:
    return 0.5 if request.threshold is None and contract.out_channels == 1 else request.threshold


def _one_window(network: nn.Module, contract: NetworkContract, window: Sequence[int]) -> float:
    """Run one window and return its seconds; its scores must be of the right shape, and finite."""
    shape = (1, contract.in_channels, *window)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    begin = perf_counter()
    with torch.inference_mode():
        scores = final_scores(network(values))
    seconds = perf_counter() - begin
    wanted = (1, contract.out_channels, *window)
    if tuple(scores.shape) != wanted or not bool(torch.isfinite(scores).all()):
        raise RequestError(
            "network_invalid",
            found=f"scores of shape {tuple(scores.shape)}, or some that are not finite",
            wanted=f"finite scores of shape {wanted}",
            remedy="Check the network's arguments, and whether the weights are damaged",
        )
    return seconds


def _preprocessing(request: BundleRequest, store: Store) -> list[dict[str, Any]]:
    """Return the transforms, in the order of MONAI's tutorials."""
    needed = {"--spacing": request.spacing, "--intensity": request.intensity}
    lacks = [] if request.preprocessing else [name for name, value in needed.items() if not value]
    lacks += [] if request.window else ["--window"]
    if lacks:
        raise _wrong(f"no {', no '.join(lacks)}", "all that no weights tell, as in training")
    if request.preprocessing:
        transforms = _listed(store.read_at_most(request.preprocessing, _MOST_BYTES))
    else:
        transforms = [
            _transform("LoadImaged"),
            _transform("EnsureChannelFirstd"),
            *_orientation(request.axcodes),
            *_spacing(str(request.spacing), request.slices_along),
            *_intensity(str(request.intensity)),
            *(
                [_transform("CropForegroundd", source_key="image")]
                if request.crop_foreground
                else []
            ),
            _transform("EnsureTyped"),
        ]
    parse_preprocessing(transforms)
    return transforms


def _listed(data: bytes) -> list[dict[str, Any]]:
    """Return the transforms of a JSON file: a list, or a Compose of one."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    listed = found.get("transforms") if isinstance(found, dict) else found
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise _wrong("--preprocessing, a file of another form", "a JSON list of transforms")
    return listed


def _transform(name: str, **options: Any) -> dict[str, Any]:
    return {"_target_": name, "keys": "image", **options}


def _orientation(axcodes: str) -> list[dict[str, Any]]:
    if axcodes == "file":
        return []
    return [_transform("Orientationd", axcodes=axcodes.upper(), labels=_RAS)]


def _spacing(text: str, slices_along: str) -> list[dict[str, Any]]:
    """Return the change of spacing; two numbers are those in the plane of slices."""
    if text == "file":
        return []
    numbers = _numbers(text, "--spacing", 2, 3)
    if len(numbers) == 2:
        numbers.insert("xyz".find(slices_along), -1.0)  # MONAI: as it is
    return [_transform("Spacingd", pixdim=numbers, mode="bilinear")]


def _intensity(text: str) -> list[dict[str, Any]]:
    kind, _, rest = text.partition(":")
    wanted = "range:A,B, zscore, zscore:nonzero, percentiles:LOW,HIGH, minmax or none"
    match kind, rest:
        case "none", "":
            return []
        case "minmax", "":
            return [_transform("ScaleIntensityd", minv=0.0, maxv=1.0)]
        case "zscore", ("" | "nonzero"):
            options = {"nonzero": bool(rest), "channel_wise": True}
            return [_transform("NormalizeIntensityd", **options)]
        case "range", _:
            low, high, *to = _numbers(rest, "--intensity range", 2, 4)
            b_min, b_max = to or (0.0, 1.0)
            scale = {"a_min": low, "a_max": high, "b_min": b_min, "b_max": b_max, "clip": True}
            return [_transform("ScaleIntensityRanged", **scale)]
        case "percentiles", _:
            low, high = _numbers(rest, "--intensity percentiles", 2)
            scale = {"lower": low, "upper": high, "b_min": 0.0, "b_max": 1.0, "clip": True}
            return [_transform("ScaleIntensityRangePercentilesd", **scale)]
    raise _wrong(f"--intensity {text}", wanted)


def _numbers(text: str, option: str, *counts: int) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) not in counts:
        raise _wrong(f"{option} {text}", f"{' or '.join(map(str, counts))} numbers with commas")
    return found


def _wrong(found: str, wanted: str) -> RequestError:
    remedy = "See unet-pipeline bundle make --help, and docs/your-model.md"
    return RequestError("setting_invalid", found=found, wanted=wanted, remedy=remedy)
