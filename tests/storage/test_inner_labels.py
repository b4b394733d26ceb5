"""Masks within the image's folder: found by its metadata, and paired by its name."""

import json
import uuid

import pytest
from test_discovery import Archive, codes, refused

from unet_pipeline.errors import RequestError
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.formats import format_of, is_inner_label, split_name
from unet_pipeline.storage.store import Store, join

IMAGE = {"multiscales": []}


@pytest.fixture(params=["memory", "local", "s3"])
def archive(request, tmp_path):
    if request.param == "s3":
        s3 = request.getfixturevalue("s3")
        return Archive(s3.store, s3.bucket())
    root = str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    return Archive(Store(), root)


def said(names, version=3):
    ome = {"ome": {"version": "0.5", "labels": names}}
    found = {"zarr_format": 3, "node_type": "group", "attributes": ome}
    return json.dumps(found if version == 3 else {"labels": names}).encode()


def add_image(archive, name, labels=(), version=3):
    root = {3: "zarr.json", 2: ".zattrs"}[version]
    archive.add(f"{name}/{root}", f"{name}/0/c/0/0/0", data=b"{}")
    if labels:
        archive.add(f"{name}/labels/{root}", data=said(list(labels), version))
    for label in labels:
        archive.add(f"{name}/labels/{label}/{root}", f"{name}/labels/{label}/0/c/0", data=b"{}")


@pytest.mark.parametrize(
    ("path", "name", "ending"),
    [
        ("in/x.ome.zarr/labels/liver", "in/x", ".ome.zarr/labels/liver"),
        ("x.zarr/labels/left kidney", "x", ".zarr/labels/left kidney"),
        ("x.OME.ZARR", "x", ".OME.ZARR"),
    ],
)
def test_a_label_image_has_the_name_of_its_image(path, name, ending):
    assert split_name(path) == (name, ending)
    assert format_of(path).name == "ome-zarr"


@pytest.mark.parametrize(
    "path",
    ["x.zarr/labels", "x.zarr/labels/zarr.json", "x.zarr/labels/.zattrs", "x.zarr/labels/a/0",
     "x.zarr/Labels/a", "x/labels/a", "labels/a", "x.zarr/0", "x.zarr/labels/"],
)  # fmt: skip
def test_what_else_is_in_a_folder_is_no_label_image(path):
    assert not is_inner_label(path)
    assert format_of(path) is None


def test_a_file_in_a_folder_that_is_called_as_labels_keeps_its_format():
    assert format_of("data.zarr/labels/x.nii.gz").name == "nifti"


@pytest.mark.parametrize("version", [3, 2])
def test_the_only_label_is_the_mask_where_masks_are_asked_for(archive, version):
    add_image(archive, "in/x.ome.zarr", ["liver"], version)
    add_image(archive, "in/p/y.zarr", ["seg"], version)
    cohort = archive.discover("in", "in")
    assert cohort.cases == (
        archive.case("p/y", "in/p/y.zarr", "in/p/y.zarr/labels/seg"),
        archive.case("x", "in/x.ome.zarr", "in/x.ome.zarr/labels/liver"),
    )
    assert cohort.faults == ()
    assert str(cohort.accounting) == "2 cases in 2 files; masks for 2 of 2; 2 mask files"
    masks = [one for one in cohort.classified() if one.kind == "mask"]
    assert [one.why for one in masks] == ["of p/y", "of x"]
    without = archive.discover("in")
    assert [case.mask for case in without.cases] == [None, None]


def test_several_labels_are_named_and_a_pattern_takes_one(archive):
    add_image(archive, "x.ome.zarr", ["liver", "spleen"])
    add_image(archive, "y.ome.zarr", ["spleen"])
    cohort = archive.discover("", "")
    assert cohort.cases == (archive.case("y", "y.ome.zarr", "y.ome.zarr/labels/spleen"),)
    assert codes(cohort) == {"x": "mask_ambiguous"}
    message = str(cohort.faults[0][1])
    assert "2 masks: liver, spleen" in message
    pattern = "{case}.ome.zarr/labels/NAME"
    assert f"--mask-pattern '{pattern}'" in message
    picked = discover(archive.store, archive.root, mask_pattern=pattern.replace("NAME", "liver"))
    assert picked.cases == (archive.case("x", "x.ome.zarr", "x.ome.zarr/labels/liver"),)
    assert codes(picked) == {"y": "mask_missing"}


def test_labels_are_named_one_by_one_or_by_a_glob(archive):
    add_image(archive, "in/x.ome.zarr", ["liver", "spleen"])
    add_image(archive, "in/y.ome.zarr", ["liver"])
    both = archive.discover("in", "in/*.ome.zarr/labels/liver")
    assert [case.mask for case in both.cases] == [
        archive.url(f"in/{name}.ome.zarr/labels/liver") for name in "xy"
    ]
    one = archive.discover("in/x.ome.zarr", "in/x.ome.zarr/labels/spleen")
    assert one.cases == (archive.case("x", "in/x.ome.zarr", "in/x.ome.zarr/labels/spleen"),)
    itself = archive.discover("in/y.ome.zarr", "in/y.ome.zarr")
    assert itself.cases == (archive.case("y", "in/y.ome.zarr", "in/y.ome.zarr/labels/liver"),)


def test_in_a_manifest(archive):
    add_image(archive, "in/x.ome.zarr", ["liver", "spleen"])
    archive.add("in/m.csv", data=b"case,image,mask\nx,x.ome.zarr,x.ome.zarr/labels/spleen\n")
    cohort = archive.discover("in/m.csv")
    assert cohort.cases == (archive.case("x", "in/x.ome.zarr", "in/x.ome.zarr/labels/spleen"),)


def test_images_without_labels(archive):
    add_image(archive, "x.ome.zarr", ["liver"])
    add_image(archive, "y.ome.zarr")
    cohort = archive.discover("", "")
    assert codes(cohort) == {"y": "mask_missing"}
    assert [case.name for case in cohort.cases] == ["x"]


def test_masks_beside_images_stay_what_they_were(archive):
    """Labels within images count only where the masks' selection holds these images."""
    add_image(archive, "images/x.ome.zarr", ["cells"])
    add_image(archive, "masks/x.ome.zarr", ["cells"])
    cohort = archive.discover("images", "masks")
    assert cohort.cases == (archive.case("x", "images/x.ome.zarr", "masks/x.ome.zarr"),)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"attributes": 1}', said("liver"), said([1, None, {}]), said(None),
     said(["..", "/etc", "a/b", "a\\b", "a\nb", "", ".hidden", "zarr.json", "x.nii"])],
)  # fmt: skip
def test_a_list_that_is_none_names_no_label(archive, data):
    add_image(archive, "x.ome.zarr")
    archive.add("x.ome.zarr/labels/zarr.json", data=data)
    error = refused(archive, "", "")
    assert isinstance(error, RequestError)
    assert error.code == "masks_empty"


def test_a_link_within_a_label_is_passed_over(tmp_path):
    archive = Archive(Store(), str(tmp_path / "in"))
    add_image(archive, "x.ome.zarr", ["liver"])
    (tmp_path / "away").write_bytes(b"")
    (tmp_path / "in/x.ome.zarr/labels/liver/0/c/1").symlink_to(tmp_path / "away")
    url = join(archive.root, "x.ome.zarr/labels/liver")
    with pytest.raises(RequestError) as caught:
        discover(Store(), archive.url("x.ome.zarr"), url)
    assert caught.value.code in {"masks_empty", "cohort_empty"}
