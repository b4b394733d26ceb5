"""`depths` from phantoms to the pruned bundle, by the path of a nightly run."""

import csv
import json
import shutil
from pathlib import Path
from uuid import uuid4

import nibabel as nib
import numpy as np
import pytest
from bundles import random_bundle
from cohorts import tiny_cohort, write_tiny

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, DepthsSettings, SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.evaluation.scores import score_labels
from unet_pipeline.jobs.depths import open_depths, run_depths
from unet_pipeline.jobs.segment import run_segment
from unet_pipeline.networks.bundle import PACKAGED
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.networks.pruning import depths_of
from unet_pipeline.runs import open_segment
from unet_pipeline.selection import timing
from unet_pipeline.storage.ledger import digest_json
from unet_pipeline.storage.store import Store

SERIAL = ClusterSettings(kind="serial", threads=1)
DEPTHS = ["L1", "L2", "L3", "L4", "mean", "adaptive"]
OF_UNTRAINED = ["L1", "L2", "mean", "adaptive"]


def settings_for(folder: Path, **changes) -> DepthsSettings:
    given = {
        "images": str(folder / "images"), "masks": str(folder / "masks"), "cluster": SERIAL,
        "model": str(folder / "model"), "output": str(folder / "out"),
    }  # fmt: skip
    return DepthsSettings(**{**given, **changes})


@pytest.fixture(scope="module", autouse=True)
def one_window_is_timed():
    """Once, for times are not judged here: half of a run was spent on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "ROUNDS", 1)
        patch.setattr(timing, "WINDOWS", 1)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Phantoms with a trained bundle without a rule; two cases are sound."""
    folder = tmp_path_factory.mktemp("depths")
    small = tiny_cohort(Store(), str(folder))
    shutil.copytree(PACKAGED / "phantom", folder / "model")
    (folder / "model/configs/adaptive.json").unlink(missing_ok=True)
    return folder, small


@pytest.fixture(scope="module")
def finished(place):
    folder, _ = place
    seen = []
    evaluation = run_depths(
        open_depths(settings_for(folder)),
        SerialExecutor(),
        lambda name, record: seen.append((name, record)),
    )
    return evaluation, seen


@pytest.mark.slow
def test_every_depth_is_scored_on_the_sound_cases(place, finished):
    _, small = place
    evaluation, seen = finished
    assert [result.name for result in evaluation.results] == DEPTHS
    assert evaluation.cases == len(small.sound) == 2
    assert {one.case: one.code for one in evaluation.left_out} == {
        small.misaligned: "origin_mismatch",
        small.cut_short: "file_truncated",
    }
    tried = [record.case for name, record in seen if name == "L2"]
    assert sorted(tried) == sorted(small.sound)  # what L1 could not be run on is not tried again
    by_name = {result.name: result for result in evaluation.results}
    for result in evaluation.results:
        assert result.metrics["dice"].value > 0.9
        assert result.metrics["iou"].value < result.metrics["dice"].value
        assert set(result.labels) == {"1", "2"}
        assert result.cost.ms_per_window > 0
    adds = [by_name[name].cost.multiply_adds for name in DEPTHS]
    assert adds[:5] == sorted(adds[:5])
    assert adds[0] < adds[5] <= adds[4]
    assert by_name["L1"].cost.parameters < by_name["L4"].cost.parameters
    assert by_name[evaluation.against].difference is None


@pytest.mark.slow
def test_scores_are_those_of_the_label_maps_on_disk(place, finished):
    """Read by nibabel, whole, and held against the masks; Dice is that of the run's own record."""
    folder, small = place
    evaluation, seen = finished
    with Path(evaluation.folder, "cases.csv").open(newline="") as file:
        rows = {(r["case"], r["entrant"], r["label"]): r for r in csv.DictReader(file)}
    assert len(rows) == 2 * len(DEPTHS) * 2
    records = {(record.case, name): record for name, record in seen}
    for name in ("L1", "adaptive"):
        for case in small.sound:
            mask = nib.load(folder / "masks" / f"{case}.nii.gz")
            found = nib.load(folder / "out/labels" / name / f"{case}_dseg.nii.gz")
            scores = score_labels(
                np.asarray(found.dataobj), np.asarray(mask.dataobj), [1, 2],
                mask.header.get_zooms(), evaluation.surface_mm,
            )  # fmt: skip
            for label, score in scores.items():
                row = rows[case, name, str(label)]
                assert float(row["dice"]) == pytest.approx(score.dice, abs=1e-5)
                assert float(row["nsd"]) == pytest.approx(score.nsd, abs=1e-5)
                assert float(row["hd95_mm"]) == pytest.approx(score.hd95_mm, abs=1e-4)
                assert records[case, name].dice[str(label)] == pytest.approx(score.dice)


@pytest.mark.slow
def test_label_maps_are_those_of_a_nightly_run(place, finished, tmp_path):
    folder, small = place
    settings = SegmentSettings(
        images=str(folder / "images"), model=str(folder / "model"), output=str(tmp_path),
        cluster=SERIAL, depth="2",
    )  # fmt: skip
    done = [r for r in run_segment(open_segment(settings), SerialExecutor()) if r.output]
    for record in done:
        if record.case in small.sound:
            again = folder / "out/labels/L2" / f"{record.case}_dseg.nii.gz"
            assert again.read_bytes() == Path(record.output).read_bytes()


@pytest.mark.slow
def test_the_bundles_that_are_written(place, finished):
    folder, _ = place
    evaluation, _ = finished
    store, depth = Store(), evaluation.choice.depth
    assert list(evaluation.bundles) == [f"model-L{depth}", "model-adaptive"]
    pruned, adaptive = (load_bundle(url, store) for url in evaluation.bundles.values())
    chosen = next(s for s in evaluation.results if s.name == f"L{depth}")
    network = load_network(pruned, store)
    assert depths_of(network) == 1
    assert sum(p.numel() for p in network.parameters()) == chosen.cost.parameters
    assert f"Pruned to L{depth} of 4 depths" in Path(pruned.url, "docs/README.md").read_text()
    assert adaptive.adaptive.promised_loss == 0.002
    assert adaptive.adaptive.cohort["cases"] == 2
    assert load_bundle(str(folder / "model"), store).adaptive is None  # as it was


@pytest.mark.slow
def test_the_report_and_what_it_warns_of(finished):
    evaluation, _ = finished
    codes = [remark.code for remark in evaluation.remarks]
    assert {"few_cases", "adaptive_not_independent"} <= set(codes)
    result = json.loads(Path(evaluation.folder, "result.json").read_text())
    assert result["choice"]["depth"] == evaluation.choice.depth
    assert result["bundles"] == dict(evaluation.bundles)
    page = Path(evaluation.report).read_text()
    assert page.count("data:image/png") >= 1
    assert "origin_mismatch" in page
    assert Path(evaluation.folder, "speed.png").read_bytes().startswith(b"\x89PNG")
    with Path(evaluation.table).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["entrant"] for row in rows] == DEPTHS
    assert [row["chosen"] for row in rows].count("yes") == 1


@pytest.mark.slow
def test_a_second_run_makes_no_label_map_again(place, finished):
    folder, _ = place
    before, _ = finished
    seen = []
    again = open_depths(settings_for(folder, adaptive=False))
    evaluation = run_depths(again, SerialExecutor(), lambda _, record: seen.append(record))
    assert {record.status for record in seen} == {"skipped", "quarantined"}
    for now, then in zip(evaluation.results, before.results[:5], strict=True):
        assert (now.name, now.metrics, now.labels) == (then.name, then.metrics, then.labels)
        assert now.cost.windows == then.cost.windows
    assert evaluation.choice == before.choice
    assert evaluation.folder != before.folder


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A small nested network of two depths and random weights, and two phantoms."""
    folder = tmp_path_factory.mktemp("untrained")
    write_tiny(Store(), str(folder), 2)
    small_windows = {"roi_size": (32, 16, 16), "overlap": 0.0}
    random_bundle(folder / "model", network="unetplus", features=(2, 2, 4), **small_windows)
    random_bundle(folder / "plain", features=(4, 8))
    return folder


def code_of(settings: DepthsSettings) -> str:
    with pytest.raises(RequestError) as caught:
        run_depths(open_depths(settings), SerialExecutor())
    return caught.value.code


def test_a_network_of_one_depth_is_refused_before_work(untrained):
    assert code_of(settings_for(untrained, model=str(untrained / "plain"))) == "depth_invalid"
    assert not (untrained / "out").exists()


def test_a_cohort_without_masks_or_cases_is_refused_before_work(untrained, tmp_path):
    assert code_of(settings_for(untrained, masks=None)) == "masks_missing"
    assert code_of(settings_for(untrained, masks=str(tmp_path))) == "masks_empty"
    assert code_of(settings_for(untrained, images=str(tmp_path))) == "cohort_empty"
    lone = str(untrained / "images/phantom-01.nii.gz")
    assert code_of(settings_for(untrained, images=lone)) == "masks_missing"
    assert not list((untrained / "out").rglob("*.nii.gz"))


def manifest_of(folder: Path, splits: str, without_mask: str = "") -> str:
    """Write a manifest of a case for each word, named a, b, c, ...; - stands for no word."""
    lines = ["case,image,mask,split"]
    for name, split in zip("abcdefgh", splits.split(), strict=False):
        mask = "" if name in without_mask else folder / "masks/phantom-01.nii.gz"
        lines.append(f"{name},{folder}/images/phantom-01.nii.gz,{mask},{split.strip('-')}")
    manifest = folder / f"{uuid4()}.csv"
    manifest.write_text("\n".join(lines))
    return str(manifest)


@pytest.mark.parametrize(
    ("splits", "scored"),
    [
        ("train val test val test", "b d"),
        ("train validation - - holdout", "b e"),
        ("train - - test test test", "b c"),
        ("- - unused", "a b"),
        ("- - -", "a b c"),
    ],
)
def test_a_depth_is_chosen_on_validation_cases_and_never_on_a_test(untrained, splits, scored):
    manifest = manifest_of(untrained, splits)
    run = open_depths(settings_for(untrained, images=manifest, masks=None))
    assert " ".join(case.name for case in run.cases) == scored
    assert all(candidate.cases == run.cases for candidate in run.candidates)
    said = [remark.code for remark in run.candidates[0].remarks]
    assert said == (["split"] if splits.strip("- ") else [])


def test_what_is_said_of_a_split(untrained):
    manifest = manifest_of(untrained, "train val test val val -", without_mask="e")
    (candidate, *_) = open_depths(settings_for(untrained, images=manifest, masks=None)).candidates
    assert [(one.case, one.code) for one in candidate.left_out] == [("e", "mask_missing")]
    (remark,) = candidate.remarks
    assert remark.text == (
        "By the manifest's split, the cases for validation are scored, and not the others "
        "(1 left open, 1 for the test, 1 for training)."
    )


@pytest.mark.parametrize(
    ("splits", "code", "said"),
    [
        (
            "train val test test",
            "masks_missing",
            "1 of 4 cases with a mask that are for validation",
        ),
        ("train test test test", "masks_missing", "0 of 4 cases with a mask that are left open"),
        ("val val tset", "split_invalid", "c: found 'tset'"),
    ],
)
def test_a_split_without_cases_to_choose_by_is_refused(untrained, splits, code, said):
    manifest = manifest_of(untrained, splits)
    with pytest.raises(RequestError, match=said) as caught:
        open_depths(settings_for(untrained, images=manifest, masks=None))
    assert caught.value.code == code


@pytest.fixture(scope="module")
def with_code(untrained, tmp_path_factory):
    """A bundle whose window is computed by its own code, and a cohort of which two may decide."""
    folder = tmp_path_factory.mktemp("with-code")
    shutil.copytree(untrained / "model", folder / "model")
    path = folder / "model/configs/inference.json"
    config = json.loads(path.read_text())
    config["imports"] = ["$from scripts.sizes import WINDOW"]
    config["inferer"]["roi_size"] = "$list(WINDOW)"
    path.write_text(json.dumps(config))
    (folder / "model/scripts").mkdir()
    (folder / "model/scripts/__init__.py").touch()
    (folder / "model/scripts/sizes.py").write_text("WINDOW = (32, 16, 16)\n")
    manifest = manifest_of(untrained, "train val test val test test")
    return settings_for(folder, images=manifest, masks=None, trust=True)


@pytest.fixture(scope="module")
def chosen_by_two(with_code):
    return run_depths(open_depths(with_code), SerialExecutor())


@pytest.mark.slow
def test_adaptive_depth_is_calibrated_on_validation_cases_only(chosen_by_two):
    assert chosen_by_two.cases == 2
    rule = load_bundle(chosen_by_two.bundles["model-adaptive"], Store(), trust=True).adaptive
    assert rule.cohort == {"cases": 2, "names": digest_json(["b", "d"])}


@pytest.mark.slow
def test_a_trusted_bundle_is_pruned_with_its_code(chosen_by_two):
    assert [result.name for result in chosen_by_two.results] == OF_UNTRAINED
    for url in chosen_by_two.bundles.values():
        assert load_bundle(url, Store(), trust=True).roi_size == (32, 16, 16)


def test_code_of_a_bundle_is_not_run_without_trust(with_code):
    assert code_of(with_code.model_copy(update={"trust": False})) == "bundle_expression"


def test_too_few_sound_cases_leave_no_bundle(untrained, tmp_path):
    for kind in ("images", "masks"):
        shutil.copytree(untrained / kind, tmp_path / kind)
    image = tmp_path / "images/phantom-02.nii.gz"
    image.write_bytes(image.read_bytes()[:1000])
    settings = settings_for(tmp_path, model=str(untrained / "model"))
    assert code_of(settings) == "cases_too_few"
    assert not (tmp_path / "out/runs").exists()


@pytest.mark.slow
def test_without_adaptive_depth_on_dask_the_numbers_are_the_same(untrained, tmp_path):
    from unet_pipeline.cluster.spec import ClusterSpec
    from unet_pipeline.cluster.starting import open_executor

    found = []
    for kind in ("serial", "local"):
        settings = settings_for(untrained, output=str(tmp_path / kind), adaptive=False)
        run = open_depths(settings)
        with open_executor(ClusterSpec(kind)) as executor:
            found.append(run_depths(run, executor))
    serial, dask = found
    assert [s.name for s in serial.results] == OF_UNTRAINED[:3]
    assert [s.metrics for s in serial.results] == [s.metrics for s in dask.results]
    assert serial.choice == dask.choice
    assert len(serial.bundles) == 1
