"""Every fault of a bundle is one error that says so; nothing of it is left out in silence."""

import json
import pickle
import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from bundles import random_bundle
from cohorts import write_tiny
from command_line import cli
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_values import places, planted

from unet_pipeline.config import SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle import WEIGHTS as WEIGHTS_FILES
from unet_pipeline.networks.depth import ADAPTIVE
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.networks.weights import check_fit, parse_weights
from unet_pipeline.opening import open_model
from unet_pipeline.storage.store import Store

STORE = Store()
WEIGHTS = WEIGHTS_FILES[0]
LARGEST = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1]}
REGIONS = {**LARGEST, "keys": "@key"}
NOT_DONE = (
    REGIONS,
    {**LARGEST, "connectivity": 4},
    {**LARGEST, "num_components": 0},
    {**LARGEST, "applied_labels": [1, True]},
    {**LARGEST, "applied_labels": "$mine.own()"},
    {**LARGEST, "connectivity": "@nowhere"},
    {**LARGEST, "is_onehot": True},
    {**LARGEST, "independent": 1},
    {**LARGEST, "something": 1},
    {"_target_": "FillHolesd", "keys": "pred", "connectivity": True},
    {"_target_": "RemoveSmallObjectsd", "keys": ["pred"], "min_size": 9},  # of three labels
    {"_target_": "LabelFilterd", "keys": "pred"},
    {"_target_": "scripts.mine.Own", "keys": "@key"},
    {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x"},
    {"_target_": "AsDiscreted", "keys": "pred", "threshold_values": True},
    "$mine.Own()",
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return Path(random_bundle(tmp_path_factory.mktemp("b") / "sound", features=(4, 8),
                              roi_size=(16, 16, 16)))  # fmt: skip


def with_post(sound: Path, folder: Path, *steps) -> str:
    shutil.copytree(sound, folder)
    config = json.loads((folder / "configs/inference.json").read_text())
    config["postprocessing"] = {"_target_": "Compose", "transforms": list(steps)}
    (folder / "configs/inference.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize("step", NOT_DONE, ids=lambda step: str(step)[:40])
def test_postprocessing_that_is_not_done_is_refused_by_name(sound, tmp_path, step):
    argmax = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
    url = with_post(sound, tmp_path / "m", argmax, step)
    asked = SegmentSettings(images="-", model=url, output="-")
    with pytest.raises(RequestError) as caught:
        open_model(asked, STORE)
    assert caught.value.code == "postprocessing_unsupported"
    named = step if isinstance(step, str) else str(step["_target_"]).rpartition(".")[2]
    assert named in caught.value.found
    allowed = asked.model_copy(update={"ignore_postprocessing": True})
    assert open_model(allowed, STORE).bundle.not_done


@pytest.mark.parametrize(
    "step",
    [
        {"_target_": "Invertd", "keys": "pred"}, {"_target_": "SaveImaged", "keys": "$[@x]"},
        {**LARGEST, "_disabled_": True}, {**LARGEST, "keys": "label"},
        {"_target_": "ToTensord", "keys": "pred"},
    ],
)  # fmt: skip
def test_steps_that_change_no_label_are_passed_over(sound, tmp_path, step):
    assert load_bundle(with_post(sound, tmp_path / "m", step), STORE).not_done == ()


def test_who_ignores_postprocessing_is_told_so_in_sidecar_report_and_inspect(sound, tmp_path):
    write_tiny(STORE, str(tmp_path / "in"), 1)
    url = with_post(sound, tmp_path / "m", LARGEST)
    words = ("segment", str(tmp_path / "in/images"), "--model", url, "--output",
             str(tmp_path / "out"), "--cluster", "serial")  # fmt: skip
    assert cli(*words).returncode == 2
    assert cli(*words, "--ignore-postprocessing").returncode == 0
    (sidecar,) = (tmp_path / "out").rglob("*_dseg.json")
    name = "KeepLargestConnectedComponentd (before the labels are decided)"
    assert json.loads(sidecar.read_text())["postprocessing_ignored"] == [name]
    (page,) = (tmp_path / "out").rglob("report.html")
    assert name in page.read_text()
    said = cli("bundle", "inspect", url).stdout.replace("│", "")  # lines of a cell, side by side
    assert "".join(name.split()) in "".join(said.split())


STRANGE = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=8)
    | st.sampled_from(["@network_def", "$1 + 1", "$" + "-" * 900 + "1", "$'\ud800'", "%x", "@",
                       10**4000, "$[" * 300, "\ud800", [[[[[[]]]]]]]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=examples(150), suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_value_at_any_place_is_one_error_at_most(sound, tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "strange"
    if not folder.exists():
        shutil.copytree(sound, folder)
    name = data.draw(st.sampled_from(["inference", "inference", "metadata"]))
    content = json.loads((sound / f"configs/{name}.json").read_text())
    if name == "inference":
        content["postprocessing"] = {"_target_": "Compose", "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            {"_target_": "AsDiscreted", "keys": ["pred"], "threshold": 0.5}, LARGEST]}  # fmt: skip
    at = data.draw(st.sampled_from(list(places(content))))
    changed = planted(content, at, data.draw(STRANGE))
    shutil.copytree(sound / "configs", folder / "configs", dirs_exist_ok=True)
    try:
        text = json.dumps(changed)
    except ValueError:  # more digits than Python writes
        return
    (folder / f"configs/{name}.json").write_text(text)
    asked = SegmentSettings(images="-", model=str(folder), output="-", ignore_postprocessing=True)
    with suppress(RequestError):
        open_model(asked, STORE)


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.soak)])
def test_mutated_weights_are_an_error_and_no_traceback(sound, tmp_path, count):
    torch.save({"a.weight": torch.ones(8, 8), "b": torch.zeros(3)}, tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    state = random.Random(0)
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(state.randrange(1, 6)):
            data[state.randrange(len(data))] = state.randrange(256)
        with suppress(RequestError):
            weights = parse_weights("w.pt", bytes(data[: state.choice([len(data), 200, 900])]))
            check_fit("w.pt", weights, {"a.weight": torch.ones(8, 8)})


@pytest.mark.parametrize(
    "content",
    [{"model": 5}, 5, [1], {}, {5: torch.ones(1)}, {"a": torch.ones(3).to_sparse()},
     {"a": torch.ones(2, dtype=torch.complex64)}],
    ids=lambda content: str(content)[:30],
)  # fmt: skip
def test_weights_that_are_no_dense_tensors_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(RequestError) as caught:
        parse_weights("w.pt", (tmp_path / "w.pt").read_bytes())
    assert caught.value.code in {"bundle_invalid", "weights_unsafe"}


@pytest.mark.parametrize("functions", [[], [json.dumps]])
def test_postprocessing_of_nnunet_is_named_and_not_loaded(tmp_path, functions):
    from nnunet_models import write_model

    folder = write_model(tmp_path / "nnunet")
    (folder / "crossval_results_folds_0").mkdir()
    file = folder / "crossval_results_folds_0/postprocessing.pkl"
    file.write_bytes(pickle.dumps((functions, [])))
    wanted = ("postprocessing.pkl: dumps",) if functions else ()
    assert load_bundle(str(folder), STORE).not_done == wanted


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"postprocessing_fns": ["remove_all_but_largest"]}, "remove_all_but_largest"),
        ({"for_which_classes": [1, [1, 2]]}, "largest component of [1, [1, 2]]"),  # nnU-Net 1
        ({"postprocessing_fns": [], "for_which_classes": []}, None),
        ([], "unreadable"),
    ],
)
def test_postprocessing_of_nnunet_that_is_json_is_named(tmp_path, content, wanted):
    from nnunet_models import write_model

    folder = write_model(tmp_path / "nnunet")
    (folder / "postprocessing.json").write_text(json.dumps(content))
    named = (f"postprocessing.json: {wanted}",) if wanted else ()
    assert load_bundle(str(folder), STORE).not_done == named


def in_many_ways(state, data):
    """The bytes with some turned over, a run of them doubled or lost, or the end cut."""
    data, way = bytearray(data), state.randrange(4)
    at = state.randrange(len(data))
    if way == 0:
        del data[at:]
    elif way == 1:
        data[at:at] = data[at : at + state.randrange(1, 64)]
    elif way == 2:
        del data[at : at + state.randrange(1, 64)]
    else:
        for _ in range(state.randrange(1, 9)):
            data[state.randrange(len(data))] = state.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("count", [3, pytest.param(150, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("monai", "models/model.pt"),
        ("monai", "models/model.safetensors"),
        ("monai", "models/example.safetensors"),
        ("monai", ADAPTIVE),
        ("nnunet", "fold_0/checkpoint_final.pth"),
        ("nnunet", "plans.json"),
        ("nnunet", "dataset.json"),
        ("nnunet", "crossval_results_folds_0/postprocessing.pkl"),
    ],
)
def test_a_bundle_whose_files_are_damaged_ends_in_one_line_in_every_command(
    sound, tmp_path, kind, file, count
):
    from nnunet_models import write_model

    folder = tmp_path / "m"
    if kind == "monai":
        shutil.copytree(sound, folder)
    else:
        write_model(folder)
        (folder / "crossval_results_folds_0").mkdir()
        (folder / file).touch()
        if file.endswith(".pkl"):
            (folder / file).write_bytes(pickle.dumps(([json.dumps], [])))
    whole_file = folder / file
    if file.endswith("model.pt"):
        weights = parse_weights("x.safetensors", (folder / WEIGHTS).read_bytes())
        torch.save(weights, whole_file)
        (folder / WEIGHTS).unlink()
    if file == ADAPTIVE:
        whole_file.write_text(json.dumps({"limit": 0.5, "promised_loss": 0.01, "curve": []}))
    whole, state = whole_file.read_bytes(), random.Random(7)
    for number in range(count):
        whole_file.write_bytes(in_many_ways(state, whole))
        for command in ("verify", "inspect"):
            done = cli("bundle", command, folder)  # raises what is not said in a line
            assert done.returncode in (0, 2), (number, done.stderr)
