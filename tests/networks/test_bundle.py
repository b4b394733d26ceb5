import json
import pickle
from dataclasses import replace

import pytest
import torch
from bundles import random_bundle
from safetensors.torch import load_file, save_file

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle import packaged_bundles
from unet_pipeline.networks.family import network_def
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.networks.registry import build_network, final_scores
from unet_pipeline.storage.store import Store

STORE = Store()


@pytest.fixture
def folder(tmp_path):
    random_bundle(tmp_path / "model", classes=3, features=(4, 8), roi_size=(16, 32, 16))
    return tmp_path / "model"


def edit(folder, name, **changes):
    path = folder / "configs" / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def code_of(call, *arguments):
    with pytest.raises(RequestError) as error:
        call(*arguments)
    assert "None" not in str(error.value)
    return error.value.code


def test_a_bundle_says_what_it_holds(folder):
    bundle = load_bundle(str(folder), STORE)
    assert bundle.name == "model"
    assert bundle.roi_size == (16, 32, 16)
    assert (bundle.overlap, bundle.blend) == (0.5, "gaussian")
    assert bundle.labels == {0: "label 0", 1: "label 1", 2: "label 2"}
    assert (bundle.in_channels, bundle.out_channels, bundle.foreground) == (1, 3, (1, 2))
    assert [step["_target_"] for step in bundle.preprocessing][:2] == [
        "LoadImaged",
        "EnsureChannelFirstd",
    ]
    assert bundle.weights_file == "models/model.safetensors"
    assert pickle.loads(pickle.dumps(bundle)) == bundle


def test_a_written_network_gives_the_same_scores_when_loaded(folder):
    written = build_network(network_def("unet", 1, 3, (4, 8)), seed=0).eval()
    loaded = load_network(load_bundle(str(folder), STORE), STORE)
    images = torch.randn(1, 1, 16, 32, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(final_scores(written(images)), final_scores(loaded(images)))
    assert not loaded.training


def test_a_bundle_at_a_url_is_the_same(folder):
    url = f"memory://{folder.parent.name}/m"
    for path in folder.rglob("*.*"):
        STORE.write(f"{url}/{path.relative_to(folder)}", path.read_bytes())
    remote, local = load_bundle(url, STORE), load_bundle(str(folder), STORE)
    assert remote == replace(local, name="m", url=url)
    assert load_network(remote, STORE).state_dict().keys()


def test_state_dicts_of_torch_are_read_plain_and_wrapped(folder):
    safetensors = folder / "models/model.safetensors"
    weights = load_file(safetensors)
    safetensors.unlink()
    for content in (weights, {"state_dict": weights}, {"model": weights, "epoch": 3}):
        torch.save(content, folder / "models/model.pt")
        bundle = load_bundle(str(folder), STORE)
        loaded = load_network(bundle, STORE).state_dict()
        assert bundle.weights_file == "models/model.pt"
        assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


class Malicious:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of the file was run')",)


def test_weights_that_would_run_code_are_refused(folder):
    (folder / "models/model.safetensors").unlink()
    torch.save({"weight": Malicious()}, folder / "models/model.pt")
    assert code_of(load_network, load_bundle(str(folder), STORE), STORE) == "weights_unsafe"


def test_weights_of_another_network_are_refused_by_name(folder):
    path = folder / "models/model.safetensors"
    weights = load_file(path)
    first, second = sorted(weights)[:2]
    weights["stranger"] = weights.pop(first)
    weights[second] = torch.zeros(1, 2, 3)
    save_file(weights, path)
    with pytest.raises(RequestError) as error:
        load_network(load_bundle(str(folder), STORE), STORE)
    assert error.value.code == "weights_mismatch"
    message = str(error.value)
    assert f"1 tensors missing ({first})" in message
    assert "1 tensors unexpected (stranger)" in message
    assert f"1 tensors of another shape ({second} (1, 2, 3) instead of" in message


def test_of_many_mismatches_the_first_are_named(folder):
    edit(folder, "inference", network_def=network_def("unet", 1, 3, (4, 8, 8, 8, 8)))
    with pytest.raises(RequestError, match=r"tensors missing \(.*, \.\.\.\)") as error:
        load_network(load_bundle(str(folder), STORE), STORE)
    assert len(str(error.value)) < 700


def test_weights_that_change_after_the_start_are_refused(folder):
    bundle = load_bundle(str(folder), STORE)
    path = folder / "models/model.safetensors"
    save_file({name: t + 1 for name, t in load_file(path).items()}, path)
    assert code_of(load_network, bundle, STORE) == "weights_changed"
    assert load_bundle(str(folder), STORE).weights_digest != bundle.weights_digest


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_weights_that_are_cut_short_are_refused(folder, name):
    whole = (folder / "models/model.safetensors").read_bytes()
    (folder / "models/model.safetensors").unlink()
    (folder / "models" / name).write_bytes(whole[: len(whole) // 2])
    code = code_of(load_network, load_bundle(str(folder), STORE), STORE)
    assert code in ("bundle_invalid", "weights_unsafe")


def test_the_digest_of_the_configuration_changes_with_what_decides_the_scores(folder):
    before = load_bundle(str(folder), STORE)
    edit(folder, "metadata", description="another text")
    assert load_bundle(str(folder), STORE).config_digest == before.config_digest
    edit(folder, "inference", preprocessing=[])
    assert load_bundle(str(folder), STORE).config_digest != before.config_digest


def test_an_unknown_bundle_is_refused_with_the_names_that_are_known(tmp_path):
    with pytest.raises(RequestError) as error:
        load_bundle(str(tmp_path / "nothing"), STORE)
    assert error.value.code == "bundle_missing"
    assert all(name in str(error.value) for name in packaged_bundles())


@pytest.mark.parametrize(
    "path", ["configs/metadata.json", "models/model.safetensors", "configs/inference.json"]
)
def test_a_missing_file_is_refused(folder, path):
    (folder / path).unlink()
    assert code_of(load_bundle, str(folder), STORE) in ("bundle_invalid", "bundle_missing")


def test_yaml_is_refused_by_name(folder):
    (folder / "configs/inference.json").rename(folder / "configs/inference.yaml")
    with pytest.raises(RequestError, match="YAML") as error:
        load_bundle(str(folder), STORE)
    assert error.value.code == "bundle_invalid"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"network_def": "$monai.networks.nets.UNet(3, 1, 2)"}, "bundle_expression"),
        ({"network_def": [1]}, "bundle_invalid"),
        ({"network_def": {"_target_": "ViT"}}, "network_unknown"),
        ({"network_def": {"_target_": "BasicUNet", "spatial_dims": 2}}, "bundle_invalid"),
        ({"preprocessing": "$list(@steps)"}, "bundle_expression"),
        ({"preprocessing": {"_target_": "Compose"}}, "bundle_invalid"),
        ({"preprocessing": ["LoadImaged"]}, "bundle_invalid"),
        ({"inferer": {}}, "bundle_invalid"),
        ({"inferer": {"roi_size": [32, 32]}}, "bundle_invalid"),
        ({"inferer": {"roi_size": [32, 32, -1]}}, "bundle_invalid"),
        ({"inferer": {"roi_size": 32, "overlap": 1.0}}, "bundle_invalid"),
        ({"inferer": {"roi_size": 32, "overlap": [0.5, 0.5, 0.25]}}, "bundle_invalid"),
        ({"inferer": {"roi_size": 32, "mode": "cubic"}}, "bundle_invalid"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(folder, changes, code):
    edit(folder, "inference", **changes)
    assert code_of(load_bundle, str(folder), STORE) == code


def test_what_an_inferer_leaves_out_is_as_in_monai(folder):
    edit(folder, "inference", inferer={"roi_size": 32})
    bundle = load_bundle(str(folder), STORE)
    assert (bundle.roi_size, bundle.overlap, bundle.blend) == ((32, 32, 32), 0.25, "constant")


def test_labels_are_named_by_the_metadata_and_numbered_where_they_are_not(folder):
    def named(channel_def):
        data_format = {"outputs": {"pred": {"channel_def": channel_def}}}
        edit(folder, "metadata", network_data_format=data_format)
        return load_bundle(str(folder), STORE).labels

    assert named({"0": "nothing", "2": "spleen"}) == {0: "nothing", 1: "label 1", 2: "spleen"}
    with pytest.raises(RequestError) as error:
        named({"3": "one too many"})
    assert error.value.code == "bundle_invalid"


def test_every_packaged_bundle_loads_by_its_name():
    assert {"hippocampus", "phantom"} <= set(packaged_bundles())
    for name in packaged_bundles():
        bundle = load_bundle(name, STORE)
        assert bundle.name == name
        assert sum(p.numel() for p in load_network(bundle, STORE).parameters()) > 1000


def test_the_calibration_that_comes_with_the_package_is_of_its_weights():
    bundle = load_bundle("hippocampus", Store())
    assert bundle.dice_calibration.weights == bundle.weights_digest
    assert set(bundle.dice_calibration.labels) == {"1", "2"}
