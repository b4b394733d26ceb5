"""Weights are read under any usual key, with any prefix that wrappers leave."""

import json
import shutil

import numpy as np
import pytest
import torch
from bundles import random_bundle
from command_line import cli

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.storage.store import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_bundle(tmp_path_factory.mktemp("checkpoints") / "bundle", features=(4, 8))


@pytest.fixture
def with_weights(folder, tmp_path):
    """Write a bundle whose weights are what ``change`` makes of a state dict."""
    state = load_network(load_bundle(folder, Store()), Store()).state_dict()

    def write(change):
        place = tmp_path / "bundle"
        shutil.copytree(folder, place)
        (place / "models/model.safetensors").unlink()
        torch.save(change(state), place / "models/model.pt")
        return str(place)

    return write, state


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


WRAPPED = {
    "bare": lambda s: s,
    **{
        key: lambda s, key=key: {"epoch": 3, key: s, "optimizer": {"state": {0: s}}}
        for key in ("model_state_dict", "state_dict", "weights", "model", "ema", "net", "network")
    },
    "a key of its own": lambda s: {"epoch": 3, "my_unet": s},
    "nested": lambda s: {"model": {"state_dict": s}},
    "a numpy score beside them": lambda s: {"state_dict": s, "best_acc": np.float64(0.9)},
    "module.": lambda s: prefixed(s, "module."),
    "network.": lambda s: prefixed(s, "network."),
    "_orig_mod.": lambda s: prefixed(s, "_orig_mod."),
    "model.": lambda s: {"state_dict": prefixed(s, "model.")},
    "module._orig_mod.model.": lambda s: prefixed(s, "module._orig_mod.model."),
    "_orig_mod. inside": lambda s: {n.replace(".", "._orig_mod.", 1): t for n, t in s.items()},
    "a loss beside the network": lambda s: {**prefixed(s, "net."), "loss.weight": torch.ones(2)},
}


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_weights_are_found_however_they_are_wrapped(with_weights, wrapped):
    write, state = with_weights
    bundle = load_bundle(write(WRAPPED[wrapped]), Store())
    found = load_network(bundle, Store()).state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda s: {"epoch": 3, "optimizer": "adam"}, "bundle_invalid", "'epoch' (int)"),
        (lambda s: {"one": s, "two": s}, "bundle_invalid", "'one' (OrderedDict), 'two'"),
        (lambda s: [s], "bundle_invalid", "a file of list"),
        (lambda s: {}, "bundle_invalid", "a file of nothing"),
        (lambda s: {**prefixed(s, "a."), **prefixed(s, "b.")}, "weights_ambiguous", "'a.', 'b.'"),
        (lambda s: {**s, "extra.weight": torch.ones(1)}, "weights_mismatch", "extra.weight"),
        (lambda s: prefixed(dict(list(s.items())[1:]), "net."), "weights_mismatch", "1 tensors mi"),
    ],
)
def test_what_is_no_network_names_what_is_there(with_weights, change, code, words):
    write, _ = with_weights
    bundle = load_bundle(write(change), Store())
    with pytest.raises(RequestError) as caught:
        load_network(bundle, Store())
    assert caught.value.code == code
    assert words in str(caught.value)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132735\n"


def test_a_pointer_of_git_lfs_is_called_one(folder, with_weights, tmp_path):
    write, _ = with_weights
    place = write(lambda s: s)
    (tmp_path / "bundle/models/model.pt").write_bytes(POINTER)
    refused = cli("bundle", "inspect", place)
    assert refused.returncode == 2
    assert "file_not_fetched" in refused.stderr
    assert "git lfs pull" in refused.stderr
    for name, start in (("a.nii.gz", POINTER), ("b.nii", POINTER), ("c.nii", b"/annex/objects/S")):
        (tmp_path / name).write_bytes(start)
        found = cli("check", tmp_path / name, "--json")
        (finding,) = json.loads(found.stdout)["findings"]
        assert finding["code"] == "file_not_fetched"
