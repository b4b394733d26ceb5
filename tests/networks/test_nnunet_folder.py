"""Folders of nnU-Net's models: what is read of them, and what is refused, by name."""

import json
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy._core.multiarray import scalar

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from nnunet_models import RESIDUAL, UNET, read_model, write_model

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle_tools import convert_bundle
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.networks.nnunet.checkpoint import CHECKPOINT, read_checkpoint
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.preprocessing import parse_preprocessing

STORE = Store()
DROP = object()
REGIONS = {"schemes": ["CTNormalization"], "regions": [1, 2],
           "labels": {"background": 0, "all": [1, 2], "posterior": [2]}}  # fmt: skip


REFUSED = {
    "cascade alone": (
        {"changes": {"previous_stage": "3d_lowres"}},
        "first_stage_missing",
        "nnUNetTrainer__nnUNetPlans__3d_lowres",
    ),
    "layer": ({"network": "other.PrimusM"}, "network_unknown", "PrimusM"),
    "reader": ({"reader": "Tiff3DIO"}, "plan_unsupported", "Tiff3DIO"),
    "resampling": ({"changes": {"resampling_fn_data": "mine"}}, "plan_unsupported", "mine"),
    "scheme": ({"changes": {"normalization_schemes": ["Mine"]}}, "plan_unsupported", "Mine"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_translation_is_refused_by_name(name, tmp_path):
    options, code, named = REFUSED[name]
    wanted = options.pop("network", None)
    model = write_model(tmp_path / "model", **options)
    if wanted:
        plans = read_model(model)
        plans["configurations"]["base"]["architecture"]["network_class_name"] = wanted
        (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(RequestError, match=named) as caught:
        parse_preprocessing(load_bundle(str(model), STORE).preprocessing)
    assert caught.value.code == code


def test_a_fold_that_is_not_there(tmp_path):
    model = write_model(tmp_path / "model")
    with pytest.raises(RequestError, match="fold_3") as caught:
        load_bundle(str(model / "fold_3"), STORE)
    assert caught.value.code == "bundle_invalid"


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of ``content`` whose entry at ``path`` is ``value``, or is not there."""
    copy = deepcopy(content)
    here = copy
    for part in path[:-1]:
        here = here[part]
    if value is DROP:
        del here[path[-1]]
    else:
        here[path[-1]] = value
    return copy


def load(model: Path) -> None:
    parse_preprocessing(load_bundle(str(model), STORE).preprocessing)


BASE = "configurations.base"
MALFORMED = [
    ("plans", "configurations", 3),
    ("plans", f"{BASE}.patch_size", [16, 0, 32]),
    ("plans", f"{BASE}.spacing", [1.0, "x", 1.0]),
    ("plans", f"{BASE}.spacing", [1.0, -1.0, 1.0]),
    ("plans", f"{BASE}.spacing", [1.0, 1.0]),
    ("plans", f"{BASE}.preprocessor_name", "Mine"),
    ("plans", "label_manager", "Mine"),
    ("plans", "image_reader_writer", DROP),
    ("plans", "transpose_forward", [0, 0, 2]),
    ("plans", "foreground_intensity_properties_per_channel", [1]),
    ("plans", "foreground_intensity_properties_per_channel.0.mean", None),
    ("plans", f"{BASE}.resampling_fn_probabilities", "no_resampling_hack"),
    ("plans", f"{BASE}.resampling_fn_probabilities_kwargs", {}),  # cubic, if nothing is said
    ("plans", f"{BASE}.resampling_fn_data_kwargs.separate_z_anisotropy_threshold", 5),
    ("dataset", "labels", []),
    ("dataset", "labels.all", []),
    ("dataset", "regions_class_order", [1]),
    ("dataset", "regions_class_order", [1, 2**16]),
    ("dataset", "channel_names", DROP),
]


@pytest.mark.parametrize(("file", "entry", "value"), MALFORMED)
def test_an_entry_that_cannot_be_followed_is_refused(file, entry, value, tmp_path):
    path = write_model(tmp_path / "model", **REGIONS) / f"{file}.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(changed(content, tuple(entry.split(".")), value)))
    with pytest.raises(RequestError) as caught:
        load(path.parent)
    assert caught.value.code == "plan_unsupported"


def entries(content: Any) -> Iterator[tuple[Any, ...]]:
    """The paths of all entries, inner ones included."""
    if isinstance(content, dict | list):
        for part in content if isinstance(content, dict) else range(len(content)):
            yield (part,)
            yield from ((part, *inner) for inner in entries(content[part]))


@pytest.mark.parametrize(("file", "old"), [("plans", False), ("plans", True), ("dataset", False)])
def test_no_entry_of_another_type_ends_in_another_error(file, old, tmp_path):
    strides = ((1, 1, 1), (2, 2, 2))
    path = write_model(tmp_path / "model", old=old, strides=strides, **REGIONS) / f"{file}.json"
    content = json.loads(path.read_text())
    for entry in entries(content):
        for value in (DROP, None, [[1]]):
            path.write_text(json.dumps(changed(content, entry, value)))
            try:
                load(path.parent)
            except RequestError as error:
                assert str(error)  # noqa: PT017  any other error fails the test


def test_the_fold_of_all_cases_is_not_one_of_several(tmp_path):
    several = write_model(tmp_path / "several", folds=(0, 1, "all"))
    alone = write_model(tmp_path / "alone", folds=("all",))
    found = [load_bundle(str(url), STORE) for url in (several, several / "fold_all", alone)]
    assert [(bundle.weights_file, *bundle.further_weights) for bundle in found] == [
        (f"fold_0/{CHECKPOINT}", f"fold_1/{CHECKPOINT}"),
        (f"fold_all/{CHECKPOINT}",),
        (f"fold_all/{CHECKPOINT}",),
    ]


def with_changes(model: Path, **changes: Any) -> bytes:
    """The checkpoint of fold 0, rewritten with other entries."""
    path = model / "fold_0" / CHECKPOINT
    torch.save({**torch.load(path, weights_only=False), **changes}, path)
    return path.read_bytes()


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_names_of_compiled_and_distributed_training(prefix, tmp_path):
    model = write_model(tmp_path / "model")
    wanted = load_network(load_bundle(str(model), STORE), STORE).state_dict()
    with_changes(model, network_weights={f"{prefix}{k}": v for k, v in wanted.items()})
    found = load_network(load_bundle(str(model), STORE), STORE).state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("network", [UNET, RESIDUAL])
def test_an_old_plan_names_the_same_network(network, tmp_path):
    folders = {old: write_model(tmp_path / str(old), network=network, old=old) for old in (0, 1)}
    networks = [load_network(load_bundle(str(url), STORE), STORE) for url in folders.values()]
    values = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        today, before = (network(values) for network in networks)
    assert torch.equal(today, before)


@pytest.mark.parametrize("changes", [
    {"network_weights": {"a": 1}}, {"network_weights": None}, {"init_args": {}},
    {"inference_allowed_mirroring_axes": (0, 3)}, {"inference_allowed_mirroring_axes": "xy"},
])  # fmt: skip
def test_a_checkpoint_of_something_else(changes, tmp_path):
    data = with_changes(write_model(tmp_path / "model"), **changes)
    with pytest.raises(RequestError) as caught:
        read_checkpoint("url", data)
    assert caught.value.code == "checkpoint_invalid"


class Reduced:
    """Unpickles as the call that it is given."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def number(*kind: Any) -> Reduced:
    """0.5 as numpy writes it, of a type that says something else of itself."""
    return Reduced(scalar, (Reduced(np.dtype, *kind), np.float64(0.5).tobytes()))


def test_numbers_are_read_but_not_their_types(tmp_path):
    model = write_model(tmp_path / "model")
    for value in (np.float64(0.5), np.float32(0.5)):
        assert read_checkpoint("url", with_changes(model, trainer_name=value)).trainer == "0.5"
    swapped = number(("f8", False, True), (3, ">", None, None, None, -1, -1, 0))
    assert read_checkpoint("url", with_changes(model, trainer_name=swapped)).trainer == "0.5"


FORGED = {
    "objects": number(("O",)),
    "a float64 that is a pointer": number(
        ("f8", False, True),
        (4, "<", None, ("o",), {"o": (Reduced(np.dtype, ("O",)), 0)}, 8, 1, 1, None),
    ),
    "2 GB": Reduced(scalar, (Reduced(np.dtype, ("V2000000000",)),)),
}


@pytest.mark.parametrize("name", FORGED)
def test_types_of_numbers_cannot_be_forged(name, tmp_path):
    data = with_changes(write_model(tmp_path / "model"), logging=FORGED[name])
    with pytest.raises(RequestError) as caught:
        read_checkpoint("url", data)
    assert caught.value.code == "weights_unsafe"


class Harmful:
    """Unpickled without care, it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


def test_a_checkpoint_cannot_run_code(tmp_path):
    model = write_model(tmp_path / "model")
    path = model / "fold_0/checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    harm = str(tmp_path / "harm")
    torch.save({**checkpoint, "logging": Harmful(harm)}, path)
    with pytest.raises(RequestError) as caught:
        load_bundle(str(model), STORE)
    assert caught.value.code == "weights_unsafe"
    assert not Path(harm).exists()
    torch.load(path, weights_only=False)
    assert Path(harm).exists()  # it would have run


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = write_model(tmp_path / "model") / "fold_0/checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RequestError) as caught:
        load_bundle(str(tmp_path / "model"), STORE)
    assert caught.value.code in {"checkpoint_invalid", "weights_unsafe"}


def test_a_model_of_nnunet_is_not_converted(tmp_path):
    bundle = load_bundle(str(write_model(tmp_path / "model")), STORE)
    with pytest.raises(RequestError, match="Use the model as it is") as caught:
        convert_bundle(bundle, STORE, str(tmp_path / "converted"))
    assert caught.value.code == "bundle_invalid"
    assert not (tmp_path / "converted").exists()
