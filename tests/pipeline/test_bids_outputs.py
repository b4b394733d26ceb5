"""Label maps of a BIDS tree are derivatives that the standard's own validator has no fault with."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import random_bundle
from pydantic import ValidationError

import unet_pipeline as up
from unet_pipeline.config import SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.layouts import SIMPLE
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.report.palette import label_colour
from unet_pipeline.runs import open_segment
from unet_pipeline.storage.bids_names import label_map_name
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.formats.nifti_voxels import encode_labels
from unet_pipeline.volume.header import header_of

IMAGES = {
    "sub-01/anat/sub-01_T1w": "sub-01/anat/sub-01_space-orig_seg-mine2_desc-T1w_dseg",
    "sub-01/anat/sub-01_T2w": "sub-01/anat/sub-01_space-orig_seg-mine2_desc-T2w_dseg",
    "sub-02/ses-a/anat/sub-02_ses-a_acq-x_ce-gd_run-1_T1w":
        "sub-02/ses-a/anat/sub-02_ses-a_acq-x_ce-gd_run-1_space-orig_seg-mine2_desc-T1w_dseg",
    "sub-02/ses-a/anat/sub-02_ses-a_inv-1_MP2RAGE":
        "sub-02/ses-a/anat/sub-02_ses-a_space-orig_seg-mine2_desc-inv1MP2RAGE_dseg",
    "sub-02/ses-b/dwi/sub-02_ses-b_dir-AP_run-1_sbref":
        "sub-02/ses-b/dwi/sub-02_ses-b_dir-AP_run-1_space-orig_seg-mine2_desc-sbref_dseg",
    "sub-02/ses-b/pet/sub-02_ses-b_trc-FDG_pet":
        "sub-02/ses-b/pet/sub-02_ses-b_trc-FDG_space-orig_seg-mine2_desc-pet_dseg",
}  # fmt: skip
DESCRIPTION = {"Name": "Phantoms", "BIDSVersion": "1.11.0", "DatasetDOI": "doi:10.18112/x.1"}


def write_tree(root: Path, names=IMAGES) -> str:
    phantom = make_phantom(0, (30, 26, 22), (2.5, 2.5, 3.0), "LPS")
    header = header_of(phantom.image_XYZ.shape, phantom.affine, phantom.image_XYZ.dtype)
    for name in names:
        Store().write(str(root / f"{name}.nii.gz"), encode_labels(phantom.image_XYZ, header))
    (root / "dataset_description.json").write_text(json.dumps(DESCRIPTION))
    (root / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\n")
    return str(root)


def segment(images, bundle, output, **settings):
    return up.segment(
        str(images), model=str(bundle), output=str(output), memory_gb=1.0, threads=1, **settings
    )


def issues(folder: Path) -> list[tuple[str, str]]:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    done = subprocess.run(
        [validator, folder, "--format", "json"], capture_output=True, text=True, check=False
    )
    said = json.loads(done.stdout)
    assert said["summary"]["schemaVersion"]
    return [
        (one["severity"], f"{one['code']} {one['location']}") for one in said["issues"]["issues"]
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("bids")
    tree = root / "tree"
    write_tree(tree)
    bundle = random_bundle(root / "mine-2", features=(4, 8))
    output = tree / "derivatives" / "labels"
    return tree, bundle, output, segment(tree, bundle, output)


def opened(images, bundle, output, **settings):
    return open_segment(
        SegmentSettings(images=str(images), model=str(bundle), output=str(output), **settings)
    )


def refusal(*request, **settings) -> str:
    with pytest.raises(RequestError) as raised:
        opened(*request, **settings)
    return raised.value.code


def test_the_validator_finds_no_error_and_each_image_has_its_name(made):
    _, _, output, result = made
    assert {record.case: record.output for record in result} == {
        case: f"{output}/{name}.nii.gz" for case, name in IMAGES.items()
    }
    assert [one for severity, one in issues(output) if severity == "error"] == []
    stranger = output / "sub-01" / "anat" / "sub-01_space-orig_labels.nii.gz"
    stranger.write_bytes(b"of no standard")
    assert [one for severity, one in issues(output) if severity == "error"]
    stranger.unlink()


def test_the_record_of_a_case_is_its_sidecar_and_the_next_run_skips_it(made):
    tree, bundle, output, _ = made
    said = json.loads((output / f"{IMAGES['sub-01/anat/sub-01_T2w']}.json").read_text())
    assert (said["state"], said["Manual"]) == ("done", False)
    assert said["Sources"] == ["bids:raw:sub-01/anat/sub-01_T2w.nii.gz"]
    assert said["SpatialReference"] == said["Sources"][0]
    description = json.loads((output / "dataset_description.json").read_text())
    source = (
        output / description["DatasetLinks"]["raw"] / said["Sources"][0].removeprefix("bids:raw:")
    )
    assert source.resolve() == (tree / "sub-01/anat/sub-01_T2w.nii.gz").resolve()
    assert description["SourceDatasets"] == [
        {"URL": tree.as_uri(), "DOI": DESCRIPTION["DatasetDOI"]}
    ]
    (package, model) = description["GeneratedBy"]
    assert (package["Version"], model["Version"]) == (up.__version__, said["weights"])
    before = {path: path.stat().st_mtime_ns for path in output.glob("*") if path.is_file()}
    assert {record.status for record in segment(tree, bundle, output)} == {"skipped"}
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_labels_have_their_names_and_the_colours_of_the_report(made):
    _, _, output, _ = made
    lines = (output / "seg-mine2_dseg.tsv").read_text().splitlines()
    assert [line.split("\t") for line in lines] == [
        ["index", "name", "color"],
        ["0", "label 0", "n/a"],
        ["1", "label 1", label_colour(1)],
        ["2", "label 2", label_colour(2)],
    ]


def test_another_model_is_named_beside_the_first_and_what_somebody_edited_stays(made, tmp_path):
    tree, bundle, _, _ = made
    other = random_bundle(tmp_path / "other", features=(4, 8), seed=1)
    opened(tree, bundle, tmp_path / "out")
    run = opened(tree, other, tmp_path / "out")
    assert "_seg-other_" in run.output_of(run.cases[0])
    description = tmp_path / "out" / "dataset_description.json"
    made_by = [one["Name"] for one in json.loads(description.read_text())["GeneratedBy"]]
    assert made_by == ["unet-pipeline", "mine-2", "other"]
    edited = description.read_text().replace("Label maps by unet-pipeline", "Ours, with care")
    description.write_text(edited)
    opened(tree, bundle, tmp_path / "out")
    assert description.read_text() == edited


def test_each_label_map_is_the_mask_of_the_image_that_its_name_says(made):
    tree, _, output, _ = made
    cohort = discover(Store(), str(tree), str(output))
    assert {case.name: case.mask for case in cohort.cases} == {
        case: f"{output}/{name}.nii.gz" for case, name in IMAGES.items()
    }


def test_two_models_of_one_output_are_held_against_each_other(made, tmp_path):
    tree, _, output, _ = made
    other = random_bundle(tmp_path / "other", features=(4, 8), seed=1)
    shutil.copytree(output, tmp_path / "out")
    run = opened(tree, other, tmp_path / "out", compare_with=str(tmp_path / "out"))
    assert {case: one.url for case, one in run.old.items()} == {
        case: f"{tmp_path}/out/{name}.nii.gz" for case, name in IMAGES.items()
    }


def test_an_output_with_simple_names_keeps_them(made, tmp_path):
    tree, bundle, _, _ = made
    record = tmp_path / "sub-02" / "ses-b" / "pet" / "sub-02_ses-b_trc-FDG_pet_dseg.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    run = opened(tree, bundle, tmp_path)
    assert run.output_of(run.cases[0]) == f"{tmp_path}/sub-01/anat/sub-01_T1w_dseg"
    assert not (tmp_path / "dataset_description.json").exists()
    assert opened(tree, bundle, tmp_path, output_layout="bids").layout.source == str(tree)


def test_what_is_no_bids_tree_has_simple_names(made, tmp_path):
    tree, bundle, _, _ = made
    assert opened(tree / "sub-01", bundle, tmp_path / "out").layout == SIMPLE
    assert opened(tree, bundle, tmp_path / "out", output_layout="simple").layout == SIMPLE
    assert not (tmp_path / "out" / "dataset_description.json").exists()
    assert refusal(tree / "sub-01", bundle, tmp_path, output_layout="bids") == "bids_tree_missing"


def test_a_glob_below_the_root_and_a_manifest_there_are_of_the_tree(made, tmp_path):
    _, bundle, _, _ = made
    tree = tmp_path / "tree"
    names = write_tree(tree, list(IMAGES)[:2])
    run = opened(f"{names}/sub-*/**/*_T1w.nii.gz", bundle, tmp_path / "out")
    assert [run.layout.name_of(case) for case in run.cases] == list(IMAGES.values())[:1]
    (tree / "cohort.csv").write_text(
        "case,image\nonly,sub-01/anat/sub-01_T1w.nii.gz;sub-01/anat/sub-01_T2w.nii.gz\n"
    )
    run = opened(tree / "cohort.csv", bundle, tmp_path / "out")
    (case,) = run.cases
    assert run.layout.name_of(case) == "sub-01/anat/sub-01_space-orig_seg-mine2_desc-T1wT2w_dseg"


def test_a_name_that_bids_does_not_have_is_a_fault_of_its_case(made, tmp_path):
    _, bundle, _, _ = made
    sound = "sub-01/anat/sub-01_T1w"
    write_tree(tmp_path / "tree", [sound, "sub-01/anat/scan", "sub-01/anat/sub-01_inv-1+2_T1w",
                                   "sub-01/anat/sub-01_inv-12_T1w"])  # fmt: skip
    assert opened(tmp_path / "tree", bundle, tmp_path / "auto").layout == SIMPLE
    run = opened(tmp_path / "tree", bundle, tmp_path / "out", output_layout="bids")
    assert [case.name for case in run.cases] == [sound]
    assert sorted(error.code for _, error in run.faults) == [
        "bids_name_clash", "bids_name_clash", "bids_name_invalid",
    ]  # fmt: skip


def test_bids_has_no_label_maps_in_chunks_and_none_beside_raw_images(made, tmp_path):
    tree, bundle, output, _ = made
    with pytest.raises(ValidationError, match="output_layout simple"):
        opened(tree, bundle, tmp_path, output_layout="bids", output_format="ome-zarr")
    assert refusal(tree, bundle, output, output_format="ome-zarr") == "bids_format"
    assert opened(tree, bundle, tmp_path, output_format="ome-zarr").layout == SIMPLE
    assert refusal(tree, bundle, tree) == "bids_output_raw"


def test_a_tree_in_a_bucket(made, s3_env):
    tree, bundle, _, _ = made
    s3, bucket = s3_env, s3_env.bucket("bids")
    s3.store.write(join(bucket, "tree/dataset_description.json"), json.dumps(DESCRIPTION).encode())
    name = "sub-01/anat/sub-01_T1w"
    s3.store.write(join(bucket, f"tree/{name}.nii.gz"), (tree / f"{name}.nii.gz").read_bytes())
    run = opened(join(bucket, "tree"), bundle, join(bucket, "out"),
                 storage={"endpoint_url": s3.endpoint_url})  # fmt: skip
    assert run.output_of(run.cases[0]) == join(bucket, "out", IMAGES[name])
    description = json.loads(s3.store.read(join(bucket, "out/dataset_description.json")))
    assert description["DatasetLinks"] == {"raw": join(bucket, "tree")}


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["sub-1/anat/sub-1_space-MNI_desc-preproc_T1w.nii"],
         "sub-1/anat/sub-1_space-MNI_seg-m_desc-preprocT1w_dseg"),
        (["sub-1/func/sub-1_task-rest_dir-AP_run-2_echo-1_chunk-2_bold.nii.gz"],
         "sub-1/func/sub-1_task-rest_dir-AP_run-2_echo-1_space-orig_chunk-2_seg-m_desc-bold_dseg"),
        (["sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_ce-gd_T1w.nii.gz"],
         "sub-1/anat/sub-1_space-orig_seg-m_desc-T1wcegdT1w_dseg"),
        (["sub-1/ses-a/anat/sub-1_ses-a_T1w.nii.gz", "sub-1/ses-b/anat/sub-1_ses-b_T1w.nii.gz"],
         "sub-1/anat/sub-1_space-orig_seg-m_desc-sesaT1wsesbT1w_dseg"),
    ],
)  # fmt: skip
def test_what_of_a_name_is_kept(paths, name):
    assert label_map_name(paths, "m") == name
