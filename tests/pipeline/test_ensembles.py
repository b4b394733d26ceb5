"""Bundles whose scores are averaged in each window, held against MONAI and nnU-Net's folds."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundles import CT, random_bundle, transform
from monai.inferers import sliding_window_inference
from nnunet_models import write_model

import unet_pipeline as up
from unet_pipeline.config import SegmentSettings
from unet_pipeline.config.model_sets import with_models
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.plan import close_plan, open_plan, run_plan
from unet_pipeline.jobs.segment import open_segment
from unet_pipeline.networks.ensemble import ensemble_bundle
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.networks.pruning import at_depth
from unet_pipeline.networks.registry import final_scores
from unet_pipeline.request import list_cohort
from unet_pipeline.storage.store import Store

STORE, ROI = Store(), (16, 24, 16)
MARGIN = 1e-4
MEMBERS = {"first": "unet", "second": "plain", "third": "unet"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("members")
    for seed, (name, network) in enumerate(MEMBERS.items()):
        random_bundle(folder / name, network=network, features=(4, 8), roi_size=ROI, seed=seed)
    values = np.random.default_rng(0).integers(-300, 400, (40, 33, 21)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), folder / "image.nii.gz")
    return folder


def asked(place: Path, output: Path | str, *names: str, **more) -> dict:
    model, *ensemble = (str(place / name) for name in names)
    return {
        "images": str(place / "image.nii.gz"), "model": model, "ensemble": ensemble,
        "output": str(output), "threads": 1, **more,
    }  # fmt: skip


def label_map(place: Path, output: Path, *names: str, **more) -> bytes:
    (record,) = up.segment(**asked(place, output, *names, **more))
    assert record.status == "done", record.message
    return Path(record.output).read_bytes()


def mean_scores(place: Path, names) -> np.ndarray:
    """What MONAI makes of the mean of the networks, shape CXYZ."""
    networks = [load_network(load_bundle(str(place / name), STORE), STORE) for name in names]
    values = np.asarray(nib.load(place / "image.nii.gz").dataobj, np.float32)
    seen = torch.from_numpy(np.clip((values + 200) / 500, 0, 1))[None, None]
    with torch.inference_mode():
        return sliding_window_inference(
            seen, ROI, 1, lambda x: sum(final_scores(n(x)) for n in networks) / len(networks),
            overlap=0.5, mode="gaussian",
        )[0].numpy()  # fmt: skip


def test_its_labels_are_those_of_the_mean_of_the_networks(place, tmp_path):
    label_map(place, tmp_path / "out", *MEMBERS)
    labels = np.asarray(nib.load(tmp_path / "out" / "image_dseg.nii.gz").dataobj)
    scores = mean_scores(place, MEMBERS)
    top = np.sort(scores, axis=0)
    margins = (top[-1] - top[-2])[labels != scores.argmax(axis=0)]
    assert margins.size < labels.size / 1000
    assert (margins < MARGIN).all()
    alone = mean_scores(place, ["first"]).argmax(axis=0)
    assert (alone != labels).mean() > 0.01  # or the others would not be seen


def test_in_which_order_members_are_given_changes_nothing(place, tmp_path):
    """Neither label bytes nor the record: the same case counts as done."""
    found = label_map(place, tmp_path, "first", "second", "third")
    record = json.loads((tmp_path / "image_dseg.json").read_text())
    assert record["model"] == "first+second+third"
    assert sorted(one["model"] for one in record["members"]) == [*MEMBERS]
    digests = [load_bundle(str(place / name), STORE).weights_digest for name in MEMBERS]
    assert [one["weights"] for one in record["members"]] == sorted(digests)
    assert 0 < record["statistics"]["1"]["confidence"] < 1
    (again,) = up.segment(**asked(place, tmp_path, "third", "first", "second"))
    assert again.status == "skipped"
    assert label_map(place, tmp_path / "turned", "third", "first", "second") == found
    methods = next((tmp_path / "runs").glob("*/methods.txt")).read_text()
    assert "3 networks whose scores were averaged, each a U-Net" in methods


def test_folds_of_nnunet_one_by_one_are_the_model_with_its_folds(place, tmp_path):
    model = write_model(tmp_path / "Dataset001_Test" / "t__p__3d_fullres", folds=(0, 1))
    image = {"images": str(place / "image.nii.gz")}
    wanted = label_map(model, tmp_path / "model", "", **image)
    for names in (("fold_0", "fold_1"), ("fold_1", "fold_0")):
        assert label_map(model, tmp_path / names[0], *names, **image) == wanted
    said = json.loads((tmp_path / "fold_1" / "image_dseg.json").read_text())
    assert said["model"] == "Dataset001_Test"


def test_members_are_taken_at_the_depth_that_is_asked_for(tmp_path):
    """Of the mean of heads, probabilities are averaged over members, too."""
    folders = [
        random_bundle(tmp_path / name, network="unetplus", features=(4, 8, 8), seed=seed)
        for seed, name in enumerate("ab")
    ]
    bundles = [load_bundle(folder, STORE) for folder in folders]
    both = load_network(ensemble_bundle(bundles), STORE)
    one, other = (load_network(bundle, STORE) for bundle in bundles)
    windows = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    for depth in (1, "mean"):
        with torch.inference_mode():
            wanted = (at_depth(one, depth)(windows) + at_depth(other, depth)(windows)) / 2
            torch.testing.assert_close(at_depth(both, depth)(windows), wanted)
            assert (at_depth(both, 2)(windows) - wanted).abs().max() > 1e-3


OTHERS = {
    "window": ({"roi_size": (16, 16, 16)}, r"windows of \(16, 16, 16\)"),
    "overlap": ({"overlap": 0.25}, r"overlap of windows 0.25; wanted 0.5, as first has"),
    "labels": ({"classes": 4}, "output channels: 4"),
    "channels": ({"channels": 2}, "images: volumes of 2 channels"),
    "preprocessing": (
        {"preprocessing": (*CT[:3], transform("NormalizeIntensityd"))},
        "preprocessing: Standardise",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_member_that_does_not_fit_is_refused_with_what_differs(place, tmp_path, name):
    changes, said = OTHERS[name]
    random_bundle(tmp_path / "other", features=(4, 8), **{"roi_size": ROI, **changes})
    request = asked(place, tmp_path / "out", "first", str(tmp_path / "other"))
    with pytest.raises(RequestError, match=said) as caught:
        up.segment(**request)
    assert caught.value.code == "models_differ"
    assert not (tmp_path / "out").exists()


def test_an_overlap_that_is_asked_for_holds_for_all(place, tmp_path):
    random_bundle(tmp_path / "other", features=(4, 8), roi_size=ROI, overlap=0.25, seed=7)
    assert label_map(place, tmp_path / "out", "first", str(tmp_path / "other"), overlap=0.5)


@pytest.mark.parametrize(
    ("names", "more", "code"),
    [
        (("first", "first"), {}, "models_alike"),
        (("first", "second"), {"depth": "adaptive"}, "depth_invalid"),
        (("first", "second"), {"depth": "1"}, "depth_invalid"),
    ],
)
def test_what_is_no_ensemble_is_refused(place, tmp_path, names, more, code):
    with pytest.raises(RequestError) as caught:
        up.segment(**asked(place, tmp_path / "out", *names, **more))
    assert caught.value.code == code


def test_a_file_of_models_and_a_plan_take_it(place):
    STORE.write(f"{place}/three.yaml", b"ensemble: [first, second]\nmodels: [third]\ncombine: true")
    fine = {"images": str(place / "image.nii.gz"), "output": "memory://night"}
    found = with_models(SegmentSettings(**fine, model=f"{place}/three.yaml"), STORE)
    first, second, third = (str(place / name) for name in MEMBERS)
    assert found == SegmentSettings(
        **fine, model=first, ensemble=(second,), also=(third,), combine=True
    )
    (case,) = list_cohort(SegmentSettings(**fine, model=f"{place}/three.yaml")).cases
    assert case.name == "image"
    runs = open_segment(found).each
    assert [(run.model_name, len(run.facts.members)) for run in runs] == [
        ("first+second", 2), ("third", 0), ("combined", 0),
    ]  # fmt: skip
    run = open_plan(SegmentSettings(**fine, model=first, ensemble=(second,)))
    assert close_plan(run, list(run_plan(run)), 0, None).windows > 1
