"""`bundle inspect` and `verify` say what `segment` would refuse, and at once all that lacks."""

import json
from pathlib import Path

import pytest
from bundles import CT, random_bundle, transform
from command_line import cli

from unet_pipeline.networks.registry import NAMES
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.preprocessing import SUPPORTED

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def bundle(tmp_path):
    """Return a function that writes a small bundle and changes its configuration."""

    def write(change=lambda config: None, *, classes=2, names=None, **options):
        folder = Path(
            random_bundle(tmp_path / "bundle", features=(4, 8), classes=classes, **options)
        )
        config = json.loads((folder / "configs/inference.json").read_text())
        change(config)
        (folder / "configs/inference.json").write_text(json.dumps(config))
        metadata = json.loads((folder / "configs/metadata.json").read_text())
        metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = names or {}
        (folder / "configs/metadata.json").write_text(json.dumps(metadata))
        return folder

    return write


def resized(config):
    config["preprocessing"]["transforms"].append(transform("Resized", spatial_size=[32, 32, 32]))


def odd_window(config):
    config["inferer"]["roi_size"] = [33, 32, 32]


def other_inferer(config):
    config["inferer"] = {"_target_": "PatchInferer"}


def cropped_whole(config):
    config["inferer"] = {"_target_": "SimpleInferer"}
    crop = transform("CropForegroundd", source_key="image")
    config["preprocessing"]["transforms"].append(crop)


def one_channel(config):
    config["postprocessing"] = {"transforms": [{"_target_": "Invertd"}]}


@pytest.mark.parametrize(
    ("change", "classes", "code", "words"),
    [
        (resized, 2, "transform_unsupported", "Resized"),
        (odd_window, 2, "roi_size_invalid", "33 x 32 x 32"),
        (other_inferer, 2, "inferer_unsupported", "PatchInferer"),
        (cropped_whole, 2, "inferer_unsupported", "SimpleInferer"),
        (one_channel, 1, "classes_invalid", "single output channel"),
    ],
)
def test_inspect_and_verify_say_what_segment_would_refuse(
    bundle, tmp_path, change, classes, code, words
):
    folder = bundle(change, classes=classes)
    write_cohort(Store(), str(tmp_path / "scans"), 1)
    output = ("--output", tmp_path / "out", "--cluster", "serial")
    for command in (
        ("bundle", "inspect", folder),
        ("bundle", "verify", folder),
        ("segment", tmp_path / "scans/images", "--model", folder, *output),
    ):
        refused = cli(*command)
        assert refused.returncode == 2, command
        assert code in refused.stderr
        assert words in refused.stderr


def test_all_that_a_bundle_lacks_is_said_at_once(bundle):
    def empty(config):
        for key in ("network_def", "preprocessing", "inferer"):
            del config[key]

    folder = bundle(empty)
    (folder / "configs/metadata.json").unlink()
    (folder / "models/model.safetensors").unlink()
    said = " ".join(cli("bundle", "inspect", folder).stderr.split())
    for lacking in ("metadata.json", "weights", "network_def", "preprocessing", "roi_size"):
        assert lacking in said
    assert "bundle make" in said


OF_NO_EFFECT = (
    transform("ToTensord"),
    transform("CastToTyped", dtype="$np.float32"),
    transform("SelectItemsd"),
    transform("EnsureTypeD", dtype="$torch.float32"),
    {"_target_": "Lambdad", "keys": "label", "func": "$lambda x: x > 0"},
    {"_target_": "AsDiscreted", "keys": ["label"], "to_onehot": 2},
)


def test_transforms_without_effect_are_passed_over(bundle):
    both = {
        **transform("Spacingd", pixdim=[2, 2, 2], mode=["bilinear", "nearest"]),
        "keys": ["image", "label"],
    }
    folder = bundle(preprocessing=(*CT, both, *OF_NO_EFFECT))
    assert cli("bundle", "inspect", folder).returncode == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (transform("Lambdad", func="$lambda x: x > 0"), "lambda"),
        (transform("CastToTyped", dtype="$np.int16"), "CastToTyped with dtype='$np.int16'"),
        (
            transform("EnsureTyped", dtype="$torch.float16"),
            "EnsureTyped with dtype='$torch.float16'",
        ),
        (transform("Rotated", angle=0.1), "Spacingd"),
        (transform("Resized", spatial_size=[8, 8, 8]), "trilinear or bilinear or linear"),
    ],
)
def test_transforms_with_an_effect_that_we_do_not_do_are_refused(bundle, given, words):
    refused = cli("bundle", "inspect", bundle(preprocessing=(*CT, given)))
    assert refused.returncode == 2
    assert words in refused.stderr


def sigmoid(config):
    config["postprocessing"] = {
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        ]
    }


@pytest.mark.parametrize(
    ("channels", "names", "labels"),
    [
        (1, {}, {"0": "background", "1": "foreground"}),
        (1, {"0": "tumour"}, {"0": "background", "1": "tumour"}),
        (1, {"0": "background", "1": "spleen"}, {"0": "background", "1": "spleen"}),
        (1, {"0": "background"}, {"0": "background", "1": "foreground"}),
        (2, {"0": "background", "1": "spleen"}, {"0": "background", "1": "spleen"}),
        (
            2,
            {},
            {"0": "background", "1": "region 1", "2": "region 2", "3": "region 1 + region 2"},
        ),
        (
            2,
            {"0": "core", "1": "whole"},
            {"0": "background", "1": "core", "2": "whole", "3": "core + whole"},
        ),
    ],
)
def test_labels_of_sigmoid_bundles_are_named(bundle, channels, names, labels):
    folder = bundle(sigmoid, classes=channels, names=names)
    found = json.loads(cli("bundle", "inspect", folder, "--json").stdout)
    assert found["labels"] == labels


def test_what_is_supported_is_listed_by_monais_names():
    page = (DOCS / "networks.md").read_text()
    assert not {"Permute", "Respace", "Normalise", "CropNonzero"} & set(SUPPORTED)
    for name in (*SUPPORTED, *NAMES):
        assert f"`{name}`" in page, name
