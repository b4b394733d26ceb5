"""`compare` on phantoms: bundles of other spacings, seeds that are averaged, tests and gaps."""

import json
from pathlib import Path

import nibabel as nib
import pytest
from bundles import CT, random_bundle, transform
from cohorts import tiny_cohort

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, CompareSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.compare import open_compare, run_compare
from unet_pipeline.storage.store import Store

COARSE = (*CT[:3], transform("Spacingd", pixdim=[4.0, 4.0, 4.0], mode="bilinear"), *CT[3:])


@pytest.fixture(scope="module")
def cohort_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    small = tiny_cohort(Store(), str(folder))
    random_bundle(folder / "fine", features=(4, 8))
    random_bundle(folder / "coarse", features=(4, 8), preprocessing=COARSE, seed=1)
    random_bundle(folder / "labels", features=(4, 8), classes=4)
    return folder, small


def settings_for(folder: Path, *models: str, **changes) -> CompareSettings:
    return CompareSettings(
        images=str(folder / "images"), masks=str(folder / "masks"), models=models,
        output=str(folder / "out"), cluster=ClusterSettings(kind="serial", threads=1), **changes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def compared(cohort_folder):
    folder, _ = cohort_folder
    models = (f"{folder}/fine", f"mixed={folder}/fine", f"mixed={folder}/coarse",
              f"coarse={folder}/coarse")  # fmt: skip
    return run_compare(
        open_compare(settings_for(folder, *models, all_pairs=True)), SerialExecutor()
    )


def test_bundles_of_other_spacings_meet_on_the_grid_of_the_files(cohort_folder, compared):
    folder, small = cohort_folder
    for case in small.sound:
        image = nib.load(folder / "images" / f"{case}.nii.gz")
        for place in ("fine", "mixed/1", "mixed/2", "coarse"):
            label_map = nib.load(folder / "out/labels" / place / f"{case}_dseg.nii.gz")
            assert label_map.shape == image.shape
            assert (label_map.affine == image.affine).all()
    assert compared.cases == 2
    assert {one.case for one in compared.left_out} == {small.misaligned, small.cut_short}


def test_seeds_of_one_name_are_averaged(compared):
    fine, mixed, coarse = compared.results
    assert [s.name for s in compared.results] == ["fine", "mixed", "coarse"]
    dice = [s.metrics["dice"].value for s in (fine, coarse)]
    assert mixed.metrics["dice"].value == pytest.approx(sum(dice) / 2)
    assert list(mixed.runs.values()) == pytest.approx(dice)
    assert fine.runs == {}
    assert fine.difference is None
    assert coarse.difference.value == pytest.approx(dice[1] - dice[0])
    assert coarse.cost.windows < fine.cost.windows


def test_pairs_are_tested_and_gaps_are_named(cohort_folder, compared):
    _, small = cohort_folder
    pairs = [(one.candidate, one.against) for one in compared.comparisons]
    assert pairs == [("mixed", "fine"), ("coarse", "fine"), ("coarse", "mixed")]
    assert all(one.p <= one.p_holm <= 1 for one in compared.comparisons)
    gaps = compared.disagreements
    assert {gap.case for gap in gaps} <= set(small.sound)
    assert [abs(g.difference) for g in gaps] == sorted(abs(g.difference) for g in gaps)[::-1]
    assert {"one_seed", "few_cases"} <= {remark.code for remark in compared.remarks}


def test_the_files_of_a_comparison(compared):
    result = json.loads(Path(compared.folder, "result.json").read_text())
    assert result["kind"] == "compare"
    assert len(result["comparisons"]) == 3
    assert {one["entrant"] for one in result["comparisons"]} <= {"fine", "mixed", "coarse"}
    assert [one["name"] for one in result["standings"]] == ["fine", "mixed", "coarse"]
    page = Path(compared.report).read_text()
    assert "coarse less fine" in page
    assert "is the mean of 2 bundles" in page


def test_other_labels_are_refused_before_work(cohort_folder):
    folder, _ = cohort_folder
    settings = settings_for(folder, f"{folder}/fine", f"{folder}/labels")
    with pytest.raises(RequestError) as caught:
        open_compare(settings)
    assert caught.value.code == "labels_differ"
    assert not list((folder / "out/labels").glob("labels/*.nii.gz"))


@pytest.mark.parametrize(
    ("splits", "split", "scored"),
    [
        ("train val val test test", None, "d e"),
        ("train val val test test", "validation", "b c"),
        ("train val val - -", None, "b c"),
        ("train - - unused", None, "b c"),
    ],
)
def test_test_cases_are_compared_on_unless_others_are_asked_for(
    cohort_folder, tmp_path, splits, split, scored
):
    folder, small = cohort_folder
    lines = ["case,image,mask,split"]
    for name, word in zip("abcde", splits.split(), strict=False):
        files = (f"{folder}/{kind}/{small.sound[0]}.nii.gz" for kind in ("images", "masks"))
        lines.append(",".join([name, *files, word.strip("-")]))
    manifest = folder / f"{tmp_path.name}.csv"
    manifest.write_text("\n".join(lines))
    settings = settings_for(folder, f"{folder}/fine", f"{folder}/coarse", split=split)
    update = {"images": str(manifest), "masks": None}
    run = open_compare(settings.model_copy(update=update))
    assert " ".join(case.name for case in run.cases) == scored


def test_a_part_that_no_manifest_names_is_refused(cohort_folder):
    folder, _ = cohort_folder
    settings = settings_for(folder, f"{folder}/fine", f"{folder}/coarse", split="test")
    with pytest.raises(RequestError, match=r"0 of 4 cases .* that are for the test") as caught:
        open_compare(settings)
    assert caught.value.code == "masks_missing"
