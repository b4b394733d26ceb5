"""``differences``: two outputs of real runs, what is said of them, and what cannot be compared."""

import json
from io import BytesIO

import nibabel as nib
import numpy as np
import pytest
from bundles import random_bundle
from cohorts import write_tiny
from command_line import cli
from PIL import Image

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, DifferencesSettings, SegmentSettings
from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.evaluation.differences import sentence_of
from unet_pipeline.evaluation.metrics import dice_per_label
from unet_pipeline.jobs.differences import (
    close_differences,
    open_differences,
    run_differences,
)
from unet_pipeline.jobs.segment import close_segment, open_segment, run_segment
from unet_pipeline.report.change_pictures import change_png
from unet_pipeline.storage.store import Store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three cases, segmented as they are and with the largest parts only, that in OME-Zarr."""
    root = tmp_path_factory.mktemp("both")
    names = write_tiny(Store(), str(root), 3)
    bundle = random_bundle(root / "bundle", features=(4, 8))
    for output, changes in (
        ("old", {}),
        ("new", {"postprocess": ("largest",), "output_format": "ome-zarr"}),
    ):
        run = open_segment(
            SegmentSettings(
                images=f"{root}/images", model=bundle, output=f"{root}/{output}",
                cluster=ClusterSettings(kind="serial", threads=1), **changes,
            )
        )  # fmt: skip
        close_segment(run, list(run_segment(run, SerialExecutor())), seconds=1.0, workers=1)
    return root, names


def differences(old, new, output=None):
    run = open_differences(DifferencesSettings(old=str(old), new=str(new), output=output))
    found = list(run_differences(run))
    return found, close_differences(run, found)


def labels(root, name):
    return np.asanyarray(nib.load(root / f"old/{name}_dseg.nii.gz").dataobj)


def test_what_the_largest_part_changed(made, tmp_path):
    root, names = made
    found, summary = differences(root / "old", root / "new", str(tmp_path / "out"))
    assert summary.left_out == ()
    assert sorted(one.case for one in found) == sorted(names)
    assert summary.cases == 3
    assert [one.label for one in summary.agreements] == ["1", "2"]
    assert all(one.percent < 0 and one.mean_dice > 0.9 for one in summary.agreements)
    for one in found:
        record = json.loads((root / f"new/{one.case}_dseg.json").read_text())
        for label, change in one.labels.items():
            gone = [c["ml"] for c in record["label_changes"] if c["label"] == int(label)]
            assert change.new_ml - change.old_ml == pytest.approx(sum(gone), abs=1e-5)
    table = (tmp_path / "out").rglob("differences.csv")
    assert next(table).read_text().startswith("case,label,name,old_ml,new_ml,change_percent,dice")
    (page,) = (tmp_path / "out").rglob("differences.html")
    sentence = sentence_of(summary.agreements[0], "label 1")
    assert sentence in page.read_text()
    assert "limits of agreement -" in sentence
    assert page.read_text().count('alt="Change of the volume of ') == 2
    assert page.read_text().count('alt="Both label maps of ') == 3
    (said,) = (tmp_path / "out").rglob("differences.json")
    assert json.loads(said.read_text())["cases"] == 3


def test_a_picture_shows_both_label_maps_where_they_differ(made):
    root, names = made
    old, image = str(root / f"old/{names[0]}_dseg.nii.gz"), str(root / f"images/{names[0]}.nii.gz")
    new = str(root / f"new/{names[0]}_dseg.ome.zarr")
    pictures = [change_png(Store(), old, new, one, {}) for one in (image, None, old + "x")]
    shown = [np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int) for png in pictures]
    assert pictures[1] == pictures[2] != pictures[0]  # without the image there are two contours
    for picture in shown:
        white = (picture.min(axis=2) == 255)[:300].sum()  # the old one, dashed
        assert white > 20
    assert change_png(Store(), old, old, image, {}) is None


def test_an_output_is_like_itself(made):
    root, names = made
    found, summary = differences(root / "old", root / "old")
    assert {one.least_dice for one in found} == {1.0}
    assert all(one.percent == one.low_percent == 0 for one in summary.agreements)
    counts = dice_per_label(labels(root, names[0]), labels(root, names[0]), (1, 2))
    assert counts == {1: 1.0, 2: 1.0}
    assert summary.report == ""


def test_cases_that_one_output_lacks_and_that_cannot_be_compared(made, tmp_path):
    root, names = made
    for name in names[:2]:
        for ending in (".nii.gz", ".json"):
            data = (root / f"old/{name}_dseg{ending}").read_bytes()
            (tmp_path / f"{name}_dseg{ending}").write_bytes(data)
    image = nib.load(tmp_path / f"{names[0]}_dseg.nii.gz")
    moved = image.affine.copy()
    moved[0, 3] += 1
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), moved),
             tmp_path / f"{names[0]}_dseg.nii.gz")  # fmt: skip
    found, summary = differences(root / "old", tmp_path)
    (error,) = [one for one in found if isinstance(one, CaseError)]
    assert (error.code, error.subject) == ("grids_differ", names[0])
    assert (summary.cases, summary.only_old, summary.only_new) == (1, (names[2],), ())
    assert names[0] in summary.left_out[0]


def test_outputs_without_a_case_in_common(made, tmp_path):
    root, _ = made
    with pytest.raises(RequestError) as raised:
        differences(root / "old", tmp_path)
    assert raised.value.code == "differences_empty"


def test_the_command(made):
    root, names = made
    done = cli("differences", root / "old", root / "new", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["changed_most"][0]["case"] in names
    assert "limits of agreement" in cli("differences", root / "old", root / "new").stdout
