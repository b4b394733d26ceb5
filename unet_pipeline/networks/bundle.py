"""Bundles: a network, its weights and its preprocessing, in MONAI's folder layout.

::

    <bundle>/configs/metadata.json        what the channels mean
    <bundle>/configs/inference.json       network_def, preprocessing, inferer
    <bundle>/models/model.safetensors     weights; or models/model.pt, loaded without running code
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.networks.adaptive import ADAPTIVE, AdaptiveRule
from unet_pipeline.networks.bundle_config import ConfigFile, invalid
from unet_pipeline.networks.programs import PROGRAMS, check_trust, load_program, program_def
from unet_pipeline.networks.registry import build_network, network_contract
from unet_pipeline.networks.weights import check_fit, parse_weights
from unet_pipeline.storage.store import Store, join

PACKAGED = Path(__file__).parent.parent / "bundles"
INFERENCE, METADATA = "configs/inference.json", "configs/metadata.json"
WEIGHTS = ("models/model.safetensors", "models/model.pt")  # the first that exists is used


@dataclass(frozen=True)
class Bundle:
    """What a bundle says of itself; small enough to send to every worker.

    Attributes
    ----------
    name, url
        Last part of the URL, and the folder.
    network_def
        MONAI component of the network.
    preprocessing
        MONAI transforms, in order, as plain definitions.
    roi_size
        Window in voxels of the model grid.
    overlap, blend
        Defaults for windows: share of overlap (0 <= overlap < 1), ``gaussian`` or ``constant``.
    labels
        Name of each output channel, background included.
    weights_digest, config_digest
        ``sha256:<hex>`` of the weights file, and of ``network_def`` with ``preprocessing``.
    weights_file
        Path of the weights within the bundle.
    adaptive
        When adaptive depth stops, if the bundle was calibrated for it.
    slice_axis
        Axis of the model grid along which a 2-D network takes slices; None for a 3-D network.
    """

    name: str
    url: str
    network_def: dict[str, Any]
    preprocessing: tuple[dict[str, Any], ...]
    roi_size: tuple[int, int, int]
    overlap: float
    blend: str
    labels: dict[int, str]
    in_channels: int
    out_channels: int
    weights_digest: str
    config_digest: str
    weights_file: str
    adaptive: AdaptiveRule | None = None
    slice_axis: int | None = None

    @property
    def in_plane_roi(self) -> tuple[int, ...]:
        """The sizes of a window that the network sees: without the axis of slices."""
        return tuple(n for axis, n in enumerate(self.roi_size) if axis != self.slice_axis)

    @property
    def foreground(self) -> tuple[int, ...]:
        """The labels other than background."""
        return tuple(range(1, self.out_channels))


def packaged_bundles() -> tuple[str, ...]:
    """Return the names of the bundles that come with the package."""
    return tuple(sorted(path.parent.parent.name for path in PACKAGED.glob(f"*/{INFERENCE}")))


def load_bundle(url_or_name: str, store: Store, *, trust: bool = False) -> Bundle:
    """Read a bundle's configuration and take the digest of its weights.

    Parameters
    ----------
    url_or_name
        Folder or URL of a bundle, or the name of one that comes with the package.
    trust
        Whether a network that is a program may be run.

    Raises
    ------
    RequestError
        ``bundle_missing``, ``bundle_invalid``, ``bundle_expression``, ``network_unknown``,
        ``network_invalid`` or ``program_untrusted``.
    """
    url = _url_of(url_or_name)
    with _for_all_cases():
        config = _read_inference(url, store)
        metadata = ConfigFile.parse(join(url, METADATA), _read(url, METADATA, store))
        weights_file = _weights_file(url, store, trust)
        weights_digest = _digest(store.read(join(url, weights_file)))
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
        config_digest=_digest(
            json.dumps([network_def, preprocessing], sort_keys=True, separators=(",", ":")).encode()
        ),
        weights_file=weights_file,
        adaptive=adaptive,
    )


def load_network(bundle: Bundle, store: Store) -> nn.Module:
    """Build the network of a bundle with its weights, in evaluation mode, on the CPU.

    Raises
    ------
    RequestError
        ``weights_changed`` if the file is no longer the one that ``load_bundle`` saw,
        ``weights_unsafe`` if loading it would run code, ``bundle_invalid`` if it cannot be read,
        ``weights_mismatch`` if its tensors are not those of ``network_def``.
    """
    url = join(bundle.url, bundle.weights_file)
    data = store.read(url)
    if _digest(data) != bundle.weights_digest:
        raise RequestError(
            "weights_changed",
            found=f"weights with digest {_digest(data)}",
            wanted=f"{bundle.weights_digest}, as at the start of the run",
            remedy="Run again; write a new bundle to a new folder instead of changing one in use",
            subject=url,
        )
    if bundle.weights_file in PROGRAMS:
        return load_program(url, data)
    weights = parse_weights(url, data)
    network = build_network(bundle.network_def)
    check_fit(url, weights, network.state_dict())
    network.load_state_dict(weights)
    return network.eval()


@contextmanager
def _for_all_cases() -> Iterator[None]:
    """Without its bundle no case can run: raise a store's fault in one file as a wrong request."""
    try:
        yield
    except CaseError as error:
        raise RequestError(
            error.code,
            found=error.found,
            wanted=error.wanted,
            remedy=error.remedy,
            subject=error.subject,
        ) from error


def _url_of(url_or_name: str) -> str:
    packaged = PACKAGED / url_or_name
    is_name = "/" not in url_or_name and (packaged / INFERENCE).is_file()
    return str(packaged) if is_name else url_or_name


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


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
