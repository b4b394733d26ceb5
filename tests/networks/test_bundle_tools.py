"""Inspect, verify, convert and prune bundles."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from bundles import random_bundle

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle import packaged_bundles
from unet_pipeline.networks.bundle_tools import (
    EXAMPLE,
    convert_bundle,
    describe,
    prune_bundle,
    verify_bundle,
)
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.networks.pruning import depths_of
from unet_pipeline.storage.store import Store

STORE = Store()


def verified(bundle):
    return verify_bundle(bundle, load_network(bundle, STORE), STORE)


@pytest.fixture
def nested(tmp_path):
    url = random_bundle(tmp_path / "nested", network="unetpp", features=(4, 4, 4, 8, 8))
    return load_bundle(url, STORE)


@pytest.mark.parametrize("name", packaged_bundles())
def test_the_packaged_bundles_hold_what_they_say(name):
    found = verified(load_bundle(name, STORE))
    assert found["largest difference"] is not None
    assert found["largest difference"] < 1e-3


def test_a_bundle_describes_itself(nested):
    found = describe(nested, load_network(nested, STORE))
    assert found["network"] == "BasicUNetPlusPlus"
    assert found["depths"] == 4
    assert found["stride"] == [16, 16, 16]
    assert found["labels"] == {"0": "label 0", "1": "label 1", "2": "label 2"}
    json.dumps(found)


def test_what_was_changed_is_found(nested):
    assert verified(nested)["largest difference"] == 0
    path = Path(nested.url) / EXAMPLE
    stored = safetensors.torch.load_file(path)
    stored["scores"] = stored["scores"] + 0.5
    safetensors.torch.save_file(stored, path)
    with pytest.raises(RequestError) as caught:
        verified(nested)
    assert caught.value.code == "example_differs"
    path.unlink()
    assert verified(nested)["largest difference"] is None


@pytest.mark.parametrize(
    "stored",
    [
        {"values": torch.zeros(1, 1, 16, 16, 16), "scores": torch.zeros(1, 3, 16, 16, 16)},
        {"input": torch.zeros(1, 1, 16, 16, 16), "scores": torch.zeros(1, 3, 8, 8, 8)},
        {"input": torch.zeros(1, 2, 16, 16, 16), "scores": torch.zeros(1, 3, 16, 16, 16)},
        {"input": torch.zeros(1, 1, 17, 3, 16), "scores": torch.zeros(1, 3, 17, 3, 16)},
        {"input": torch.zeros(3), "scores": torch.zeros(3)},
        {"input": torch.zeros(0), "scores": torch.zeros(0)},
        {"input": torch.zeros(1, 1, 256, 64, 64).byte(), "scores": torch.zeros(1)},
    ],
    ids=lambda stored: " ".join(f"{name} {tuple(one.shape)}" for name, one in stored.items()),
)
def test_an_example_that_the_network_cannot_take_is_named(nested, stored):
    safetensors.torch.save_file(stored, Path(nested.url) / EXAMPLE)
    with pytest.raises(RequestError) as caught:
        verified(nested)
    assert (caught.value.code, EXAMPLE in caught.value.subject) == ("bundle_invalid", True)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_pruned_bundle_is_smaller_and_has_the_scores_of_that_head(nested, tmp_path, depth):
    output = str(tmp_path / "pruned")
    before, after = prune_bundle(nested, STORE, output, depth, "fast")
    assert after < before
    pruned = load_bundle(output, STORE)
    assert verified(pruned)["largest difference"] == 0
    size, full = (
        sum(f.stat().st_size for f in Path(b.url).rglob("model.safetensors"))
        for b in (pruned, nested)
    )
    assert size < full
    x = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = load_network(nested, STORE)(x)[depth - 1]
        assert torch.equal(load_network(pruned, STORE)(x), wanted)


def test_an_accurate_bundle_keeps_its_heads(nested, tmp_path):
    prune_bundle(nested, STORE, str(tmp_path / "pruned"), 2, "accurate")
    pruned = load_network(load_bundle(str(tmp_path / "pruned"), STORE), STORE)
    assert depths_of(pruned) == 2


def test_a_network_of_one_depth_cannot_be_pruned(tmp_path):
    plain = load_bundle(random_bundle(tmp_path / "plain"), STORE)
    with pytest.raises(RequestError) as caught:
        prune_bundle(plain, STORE, str(tmp_path / "pruned"), 1, "fast")
    assert caught.value.code == "depth_invalid"
    assert not (tmp_path / "pruned").exists()


def test_pickled_weights_become_safetensors(nested, tmp_path):
    folder = Path(nested.url)
    weights = safetensors.torch.load_file(folder / "models/model.safetensors")
    torch.save(weights, folder / "models/model.pt")
    (folder / "models/model.safetensors").unlink()
    pickled = load_bundle(nested.url, STORE)
    assert pickled.weights_file == "models/model.pt"
    convert_bundle(pickled, STORE, str(tmp_path / "converted"))
    converted = load_bundle(str(tmp_path / "converted"), STORE)
    assert converted.weights_file == "models/model.safetensors"
    assert verified(converted)["largest difference"] == 0
    found = safetensors.torch.load_file(tmp_path / "converted/models/model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in weights.items())
