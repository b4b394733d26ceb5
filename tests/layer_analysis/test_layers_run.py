"""Whole inspections: cohorts with faults, third-party networks, and real cases."""

import json

import pytest
from bundles import CT, random_bundle
from cohorts import small_cohort
from small_networks import hooks_on

from unet_pipeline.config import LayersSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.layers import run_layers
from unet_pipeline.layer_analysis.request import bundle_layers, open_layers
from unet_pipeline.networks.bundle_writer import write_bundle
from unet_pipeline.networks.registry import build_network
from unet_pipeline.storage.store import Store

QUICK = {"fit_cases": 1, "score_cases": 1, "windows": 1, "groups": 2, "voxels": 300, "threads": 1}


def bundle_of(folder, network_def, roi_size=(16, 16, 16)) -> str:
    """Write a bundle of random weights."""
    classes = network_def["out_channels"]
    write_bundle(
        str(folder), Store(), network=build_network(network_def, seed=0), network_def=network_def,
        preprocessing=CT, roi_size=roi_size, overlap=0.5,
        labels={index: f"label {index}" for index in range(classes)}, channel_names=["image"],
        model_card="Random weights, for tests.", licence="Apache-2.0", metadata={},
    )  # fmt: skip
    return str(folder)


@pytest.fixture
def cohort(tmp_path):
    return small_cohort(Store(), str(tmp_path / "scans"), n_cases=3)


def settings_for(cohort, model, tmp_path, **changes) -> LayersSettings:
    given = {"images": cohort.images, "masks": cohort.masks, "model": model,
             "output": str(tmp_path / "out"), **QUICK, **changes}  # fmt: skip
    return LayersSettings(**given)


def test_a_cohort_with_faults(tmp_path, cohort):
    model = random_bundle(tmp_path / "model", features=(4, 8), classes=3)
    done = []
    inspection = open_layers(settings_for(cohort, model, tmp_path, score_cases=3))
    layers, summary = run_layers(inspection, lambda *step: done.append(step))
    assert hooks_on(inspection.inspected.network) == 0
    assert {f["case"]: f["code"] for f in summary.faults} == {
        cohort.misaligned: "origin_mismatch",
        cohort.cut_short: "file_truncated",
    }
    assert sorted(summary.fitted + summary.scored) == sorted(cohort.sound)
    assert done[-1][1:] == (2, 2)
    names = ["model.0", "model.1.submodule", "model.2"]
    assert [one.layer for one in layers] == names
    assert all(set(one.probe_dice) == {"1", "2"} and one.lost is not None for one in layers)
    folder = tmp_path / "out" / "runs" / summary.run_id
    stored = json.loads((folder / "layers.json").read_text())
    assert [one["layer"] for one in stored["layers"]] == names
    assert (folder / "layers.csv").read_text().count("\n") == 4
    assert "<svg" in (folder / "network.svg").read_text()
    assert len(list((folder / "features").glob("*.png"))) == 3
    page = (folder / "layers.html").read_text()
    assert cohort.misaligned in page
    assert page.count("data:image/png") == 3


def test_cases_that_a_manifest_gives_to_training_are_not_looked_at(tmp_path, cohort):
    model = random_bundle(tmp_path / "model", features=(4, 8), classes=3)
    lines = ["case,image,mask,split"]
    for name, split in (("a", "train"), ("b", "val"), ("c", "")):
        file = f"{cohort.sound[0]}.nii.gz"
        lines.append(f"{name},{cohort.images}/{file},{cohort.masks}/{file},{split}")
    (tmp_path / "cohort.csv").write_text("\n".join(lines))
    images = str(tmp_path / "cohort.csv")
    inspection = open_layers(settings_for(cohort, model, tmp_path, images=images, masks=None))
    assert [case.name for case in inspection.cases] == ["b", "c"]


def test_the_same_request_gives_the_same_numbers(tmp_path, cohort):
    model = random_bundle(tmp_path / "model", features=(4, 8), classes=3)
    settings = settings_for(cohort, model, tmp_path)
    first, second = (run_layers(open_layers(settings)) for _ in range(2))
    for one, other in zip(first[0], second[0], strict=True):
        assert (one.probe_dice, one.lost_cases, one.lost_groups) == (
            other.probe_dice, other.lost_cases, other.lost_groups,
        )  # fmt: skip
    assert first[1].sides == second[1].sides


SIZES = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3}


@pytest.mark.parametrize(
    ("network_def", "window"),
    [
        ({"_target_": "BasicUNet", "features": (4, 4, 4, 4, 4, 4), **SIZES}, 32),
        ({"_target_": "SegResNet", "init_filters": 8, "blocks_down": (1, 1), "blocks_up": (1,),
          **SIZES}, 16),
        ({"_target_": "BasicUNetPlusPlus", "features": (4, 4, 4, 4, 4, 4),
          "deep_supervision": True, **SIZES}, 32),
    ],
    ids=["BasicUNet", "SegResNet", "nested with deep supervision"],
)  # fmt: skip
def test_networks_of_others_are_inspected(tmp_path, cohort, network_def, window):
    model = bundle_of(tmp_path / "model", network_def, (window,) * 3)
    inspection = open_layers(settings_for(cohort, model, tmp_path, groups=0))
    layers, summary = run_layers(inspection)
    assert len(layers) == len(inspection.blocks) > 4
    assert all(one.lost is not None and one.figures for one in layers)
    shallow = [one for one in layers if one.layer in ("final_conv_0_1", "final_conv_0_2")]
    assert all(one.lost == 0.0 for one in shallow)  # heads that the scores do not depend on
    assert hooks_on(inspection.inspected.network) == 0
    assert {side.side for side in summary.sides if side.blocks} == {"encoder", "decoder"}


def test_a_2d_network_is_inspected_slice_by_slice(tmp_path, cohort):
    network_def = {"_target_": "BasicUNet", "features": (4, 4, 4, 4, 4, 4), "spatial_dims": 2,
                   "in_channels": 1, "out_channels": 3}  # fmt: skip
    folder = tmp_path / "model"
    bundle_of(folder, network_def, (32, 32, 1))
    config = json.loads((folder / "configs/inference.json").read_text())
    config["inferer"] = {"_target_": "SliceInferer", "roi_size": [32, 32], "spatial_dim": 2}
    (folder / "configs/inference.json").write_text(json.dumps(config))
    settings = settings_for(cohort, str(folder), tmp_path, windows=3, groups=0)
    layers, _ = run_layers(open_layers(settings))
    assert {one.shape for one in layers if one.layer == "down_1"} == {(4, 16, 16)}
    assert all(one.lost is not None and one.figures for one in layers)


def test_named_layers_and_slices(tmp_path, cohort):
    model = random_bundle(tmp_path / "model", features=(4, 8), classes=3)
    settings = settings_for(
        cohort,
        model,
        tmp_path,
        layers=("model.0.conv.*.adn",),
        slices=(10, 12, 9999),
        view="coronal",
        windows=512,
    )
    layers, summary = run_layers(open_layers(settings))
    assert {one.side for one in layers} == {"encoder"}
    assert all("conv.unit" in one.layer for one in layers)
    assert all(len(one.figures) == 2 for one in layers)  # there is no slice 9999
    assert "coronal-12" in layers[0].figures[1]
    assert "cannot be lost" in summary.advice  # random weights


def test_without_masks_nothing_can_be_scored(tmp_path, cohort):
    model = random_bundle(tmp_path / "model", features=(4, 8))
    settings = settings_for(cohort, model, tmp_path, masks=None)
    with pytest.raises(RequestError) as caught:
        run_layers(open_layers(settings))
    assert caught.value.code == "inspection_impossible"
    assert "mask_missing" in caught.value.found
    assert not list((tmp_path / "out").rglob("layers.*"))


def test_a_wrong_layer_is_said_before_any_work(tmp_path, cohort):
    model = random_bundle(tmp_path / "model", features=(4, 8))
    with pytest.raises(RequestError) as caught:
        open_layers(settings_for(cohort, model, tmp_path, layers=("encoder",)))
    assert caught.value.code == "layer_unknown"


def test_the_list_needs_no_cohort(tmp_path):
    model = random_bundle(tmp_path / "model", features=(4, 8))
    settings = LayersSettings(images="/nowhere", model=model, output="/nowhere", threads=1)
    blocks = [one.layer for one in bundle_layers(settings) if one.block]
    assert blocks == ["model.0", "model.1.submodule", "model.2"]


@pytest.mark.slow
@pytest.mark.shared_data
def test_real_cases_of_the_bundle_that_comes_with_the_package(tmp_path, shared_data):
    """Head 4 reads X^{0,4} linearly, so a probe there is about as good as the network itself."""
    folder = shared_data / "hippocampus"
    settings = LayersSettings(
        images=str(folder / "images"), masks=str(folder / "labels"), model="hippocampus",
        output=str(tmp_path), layers=("conv_0_0", "upcat_0_2", "upcat_0_4", "final_conv_0_1"),
        **{**QUICK, "groups": 0, "voxels": 12_000},
    )  # fmt: skip
    layers, summary = run_layers(open_layers(settings))
    by_name = {one.layer: one for one in layers}
    first, middle, last = (by_name[name] for name in ("conv_0_0", "upcat_0_2", "upcat_0_4"))
    assert summary.mean_dice > 0.75
    assert last.mean_probe_dice == pytest.approx(summary.mean_dice, abs=0.06)
    assert first.mean_probe_dice < 0.5 < middle.mean_probe_dice
    assert last.lost == pytest.approx(summary.mean_dice)
    assert by_name["final_conv_0_1"].lost == 0.0
