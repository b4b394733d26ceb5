"""Manifests that we write are valid from anywhere."""

import gzip
import json
import shlex

import nibabel as nib
import numpy as np
import pytest
from cohorts import write_tiny
from command_line import cli

from unet_pipeline.records import Case
from unet_pipeline.storage.manifest import manifest_bytes, outside, parse_manifest
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.formats.nifti_voxels import encode_labels
from unet_pipeline.volume.header import header_of


def reordered_cohort(store, root):
    """Two phantoms; the second's mask is stored in another order."""
    _, second = write_tiny(store, root, 2)
    place = join(root, "masks", f"{second}.nii.gz")
    mask = nib.Nifti1Image.from_bytes(gzip.decompress(store.read(place)))
    turned = mask.as_reoriented(np.array([[1, 1], [0, -1], [2, 1]]))
    values = np.asanyarray(turned.dataobj)
    store.write(place, encode_labels(values, header_of(values.shape, turned.affine, values.dtype)))


@pytest.mark.parametrize("kind", ["relative", "absolute", "inside", "s3"])
def test_the_manifest_of_fixed_cases_is_valid_from_anywhere(kind, tmp_path, monkeypatch, request):
    """Round trip: written from one folder, read from another, with the prefixes that it says."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    root, fixed = {
        "relative": ("scans", "fixed"),
        "absolute": (str(tmp_path / "scans"), str(tmp_path / "fixed")),
        "inside": ("scans", "."),
        "s3": ("", ""),
    }[kind]
    if kind == "s3":
        bucket = request.getfixturevalue("s3_env").bucket()
        root, fixed = join(bucket, "scans"), join(bucket, "fixed")
    reordered_cohort(Store(), root)
    said = cli("check", f"{root}/images", "--masks", f"{root}/masks", "--fix", fixed)
    assert said.returncode == 0, said.stdout
    words = said.stdout[said.stdout.index("Sound ") :].split("segment ")[1].split(" ...")[0]
    printed, *allow = shlex.split(words)
    manifest = printed if kind == "s3" else here / printed
    rows = [json.loads(line) for line in Store().read(str(manifest)).decode().splitlines()]
    assert (rows[0]["image"].startswith("./") is True) == (kind == "inside")
    assert rows[1]["mask"] == "./phantom-02_mask.nii.gz"  # written beside the manifest
    assert bool(allow) == (kind != "inside")

    monkeypatch.chdir(elsewhere)
    again = cli("check", manifest, *allow, "--json")
    assert again.returncode == 0, again.stderr
    found = [json.loads(line) for line in again.stdout.splitlines()]
    assert [(one["verdict"], one["codes"]) for one in found] == [("pass", [])] * 2
    if allow:
        refused = cli("check", manifest)
        assert refused.returncode == 2
        assert "manifest_outside" in refused.stderr


def test_a_fixed_manifest_keeps_what_each_case_is_for(tmp_path):
    write_tiny(Store(), str(tmp_path), 2)
    lines = ["case,image,mask,split,fold"]
    lines += [
        f"{name},images/{name}.nii.gz,masks/{name}.nii.gz,{split},2"
        for name, split in (("phantom-01", "train"), ("phantom-02", "test"))
    ]
    (tmp_path / "cohort.csv").write_text("\n".join(lines) + "\n")
    assert cli("check", tmp_path / "cohort.csv", "--fix", tmp_path / "fixed").returncode == 0
    data = (tmp_path / "fixed/manifest.jsonl").read_bytes()
    cases = parse_manifest(data, str(tmp_path / "fixed/manifest.jsonl"))
    assert [(case.split, case.fold) for case in cases] == [("train", "2"), ("test", "2")]


@pytest.mark.parametrize(
    "url", ["/data/list.jsonl", "s3://bucket/lists/list.jsonl", "memory://a/list.jsonl"]
)
def test_what_is_written_is_what_is_read(url):
    folder = url.rpartition("/")[0]
    cases = (
        Case("a", (f"{folder}/~x.nii", f"{folder}/sub/y.nii"), f"{folder}/m.nii"),
        Case("b", ("s3://other/b.nii",), None, split="train", fold="1"),
        Case("c", ("/elsewhere/é.nii",)),
    )
    assert parse_manifest(manifest_bytes(cases, url), url) == cases
    assert set(outside(cases, url)) == {"s3://other", "/elsewhere"}


def test_prefixes_to_allow_are_never_a_whole_file_system():
    cases = (Case("a", ("/one/x.nii",)), Case("b", ("/two/y.nii",), "/one/masks/y.nii"))
    assert outside(cases, "/fixed/manifest.jsonl") == ("/one", "/two")


def test_the_page_of_an_audit_says_that_the_manifest_names_the_masks(tmp_path):
    write_tiny(Store(), str(tmp_path), 1)
    row = "phantom-01,images/phantom-01.nii.gz"
    for name, mask, words in (
        ("with", "masks/phantom-01.nii.gz", "named by the manifest"),
        ("without", "", "none"),
    ):
        (tmp_path / f"{name}.csv").write_text(f"case,image,mask\n{row},{mask}\n")
        cli("check", tmp_path / f"{name}.csv", "--output", tmp_path / name)
        (page,) = (tmp_path / name).rglob("check.html")
        assert f"<dt>Masks</dt><dd><bdi>{words}</bdi></dd>" in page.read_text()


def test_plan_takes_the_remedies_that_segment_takes(tmp_path):
    reordered_cohort(Store(), str(tmp_path))
    lines = "".join(
        f"phantom-0{n},images/phantom-0{n}.nii.gz,masks/phantom-0{n}.nii.gz\n" for n in (1, 2)
    )
    (tmp_path / "cohort.csv").write_text("case,image,mask\n" + lines)
    words = ("plan", tmp_path / "cohort.csv", "--model", "phantom", "--no-measure", "--json")
    planned = cli(*words, "--remedies", "reorient", "--tolerance", "0.1")
    assert planned.returncode == 0, planned.stdout
    assert json.loads(planned.stdout.splitlines()[-1])["cases"] == 2
