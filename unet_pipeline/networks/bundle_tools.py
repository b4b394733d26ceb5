"""Look into a bundle, check it, convert it, prune it."""

import json
from collections.abc import Mapping
from math import prod
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle import INFERENCE, METADATA, WEIGHTS, Bundle
from unet_pipeline.networks.bundle_config import invalid
from unet_pipeline.networks.loading import load_network
from unet_pipeline.networks.nested import NestedUNet
from unet_pipeline.networks.pruning import Mode, check_depth, depths_of, prune
from unet_pipeline.networks.registry import final_scores, network_contract
from unet_pipeline.networks.weights import parse_weights, read_weights
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.options import brief

EXAMPLE = "models/example.safetensors"  # an input and the scores it gave when it was stored
TOLERANCE = 1e-3  # between machines; on one machine the scores are equal to the bit
_DOCS = ("docs/README.md", "docs/license.txt", "docs/data_license.txt")


def describe(bundle: Bundle, network: nn.Module) -> dict[str, Any]:
    """Return what a bundle says of itself, as plain JSON types."""
    contract = network_contract(bundle.network_def)
    return {
        "url": bundle.url,
        "network": str(bundle.network_def["_target_"]).rpartition(".")[2],
        "parameters": parameters_of(network),
        "depths": depths_of(network),
        "input channels": bundle.in_channels,
        "first stage": _first_stage(bundle),
        "decision": str(bundle.decision),
        "postprocessing": list(map(str, bundle.label_steps)) or None,
        "postprocessing not done": list(bundle.not_done) or None,
        "labels": {str(number): name for number, name in bundle.labels.items()},
        "roi_size": "the whole volume" if bundle.whole else list(bundle.roi_size),
        "stride": list(contract.stride),
        "overlap": bundle.overlap,
        "blend": bundle.blend,
        "preprocessing": [str(t["_target_"]).rpartition(".")[2] for t in bundle.preprocessing],
        "adaptive depth": None
        if bundle.adaptive is None
        else f"limit {bundle.adaptive.limit:g}, promised loss {bundle.adaptive.promised_loss:g}",
        "predicted Dice": _predicts(bundle),
        "weights": bundle.weights_file,
        "weights digest": bundle.weights_digest,
    }


def _first_stage(bundle: Bundle) -> str | None:
    first = bundle.first_stage
    if first is None:
        return None
    labels = ", ".join(map(str, bundle.label_channels))
    return f"{first.name} ({first.weights_digest}), whose labels {labels} are channels, too"


def _predicts(bundle: Bundle) -> str | None:
    known = bundle.dice_calibration
    if known is None:
        return None
    if known.weights != bundle.weights_digest:
        return "calibrated for other weights, not used"
    named = (bundle.labels.get(int(one), one) for one in known.labels if one.isdecimal())
    return f"calibrated on {known.cohort['cases']} cases: {', '.join(map(str, named))}"


def parameters_of(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def verify_bundle(bundle: Bundle, network: nn.Module, store: Store) -> dict[str, Any]:
    """Run a bundle's stored example again with its network.

    Returns
    -------
    dict
        ``parameters``, ``weights digest``, and ``largest difference`` of the scores, or None if
        there is no stored example.

    Raises
    ------
    RequestError
        ``example_differs`` if the scores are not those stored; ``bundle_invalid`` for an example
        that the network cannot take.
    """
    found: dict[str, Any] = {
        "parameters": parameters_of(network),
        "weights digest": bundle.weights_digest,
        "largest difference": None,
    }
    url = join(bundle.url, EXAMPLE)
    if not store.exists(url):
        return found
    values, wanted = _stored_example(url, bundle, parse_weights(url, read_weights(url, store)))
    try:
        with torch.inference_mode():
            scores = final_scores(network(values))
    except Exception as error:  # torch raises many kinds for an odd shape
        said = f"an example of shape {tuple(values.shape)} ({type(error).__name__})"
        raise invalid(url, said, "one that the network takes") from error
    if scores.shape != wanted.shape:
        said = f"scores of shape {tuple(wanted.shape)} for an input of {tuple(values.shape)}"
        raise invalid(url, said, f"shape {tuple(scores.shape)}")
    largest = float((scores - wanted).abs().max())
    allowed = TOLERANCE * max(1.0, float(wanted.abs().max()))
    if not largest <= allowed:
        raise RequestError(
            "example_differs",
            found=f"scores that differ by up to {largest:.3g} from those stored",
            wanted=f"at most {allowed:.3g}",
            remedy="Take the bundle from its source again: weights or network_def were changed",
            subject=bundle.url,
        )
    return {**found, "largest difference": largest}


def _stored_example(
    url: str, bundle: Bundle, stored: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return input and scores of an example, if the input is no larger than two windows."""
    if not {"input", "scores"} <= stored.keys():
        raise invalid(url, f"the tensors {brief(sorted(stored))}", "input and scores")
    values, scores = stored["input"].float(), stored["scores"].float()
    most = 2 * prod(bundle.roi_size) * bundle.in_channels
    if not 0 < values.numel() <= most or not scores.numel():
        found = f"an example of shape {tuple(values.shape)}"
        raise invalid(url, found, f"from 1 to {most:,} numbers, which are two windows")
    return values, scores


def example_of(network: nn.Module, network_def: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a small input and the scores that the network gives for it, to be stored."""
    contract = network_contract(network_def)
    first, *others = contract.stride
    shape = (1, contract.in_channels, 2 * first, *others)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    was_training = network.training
    with torch.inference_mode():
        scores = final_scores(network.eval()(values))
    network.train(was_training)
    return {"input": values, "scores": scores.contiguous()}


def convert_bundle(bundle: Bundle, store: Store, output: str) -> None:
    """Write a bundle anew with its weights as safetensors; nothing of a ``.pt`` file is run.

    Raises
    ------
    RequestError
        ``bundle_invalid`` for a model of nnU-Net, whose plan has no translation to MONAI, and for a
        program.
    """
    if bundle.weights_file not in WEIGHTS:
        raise RequestError(
            "bundle_invalid",
            found=f"weights in {bundle.weights_file}",
            wanted=f"a MONAI bundle with {' or '.join(WEIGHTS)}",
            remedy="Use the model as it is: nothing of it is run unless you say --trust",
            subject=bundle.url,
        )
    config = json.loads(store.read(join(bundle.url, INFERENCE)))
    _write(bundle, store, output, config, load_network(bundle, store), bundle.network_def)


def prune_bundle(
    bundle: Bundle, store: Store, output: str, depth: int, mode: Mode
) -> tuple[int, int]:
    """Write a bundle of the part that one depth needs; return parameters before and after.

    Raises
    ------
    RequestError
        ``depth_invalid`` for a depth that the network does not have.
    """
    network = load_network(bundle, store)
    check_depth(network, depth)
    assert isinstance(network, NestedUNet)  # noqa: S101  it has depths
    pruned = prune(network, depth, mode)
    config = json.loads(store.read(join(bundle.url, INFERENCE)))
    config["network_def"] = {
        "_target_": "unet_pipeline.networks.nested.NestedUNet",
        **pruned.arguments,
    }
    _write(bundle, store, output, config, pruned, config["network_def"])
    return parameters_of(network), parameters_of(pruned)


def _write(
    bundle: Bundle,
    store: Store,
    output: str,
    config: Mapping[str, Any],
    network: nn.Module,
    network_def: Mapping[str, Any],
) -> None:
    """Write weights, example and documents, then the configuration."""
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    files = {
        WEIGHTS[0]: safetensors.torch.save(tensors),
        EXAMPLE: safetensors.torch.save(example_of(network, network_def)),
    }
    for path in (*_DOCS, METADATA):
        if store.exists(join(bundle.url, path)):
            files[path] = store.read(join(bundle.url, path))
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    OwnFiles(store, output).write({**files, INFERENCE: text.encode()})
