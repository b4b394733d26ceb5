import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.storage.formats import voxel_files
from unet_pipeline.storage.names import (
    MAX_CHANNELS,
    Volume,
    escaped,
    group_channels,
    is_mask,
    is_own_output,
    is_safe,
    without_ending,
)
from unet_pipeline.storage.pairing import pair

stems = st.lists(
    st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=6), min_size=1, max_size=3
).map("/".join)
IMAGE_SUFFIXES = ["", "_image", "_img", "_0000"]
MASK_SUFFIXES = ["", "_mask", "_seg", "_label", "_labels", "_dseg", "_msk"]


def volumes(*names):
    return [Volume(name, (f"s3://b/{name}.nii",)) for name in names]


def paired(images, masks):
    found = pair(volumes(*images), volumes(*masks))
    return {(image.name if image else None, *(mask.name for mask in fits)) for image, fits in found}


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("a/x.nii", "a/x"),
        ("x.nii.gz", "x"),
        ("x.NII.GZ", "x"),
        ("x.nii.nii.gz", "x.nii"),
        ("line\nbreak.nii", "line\nbreak"),
        ("x.img", "x"),
        ("x.hdr.gz", "x"),
        ("x.json", None),
        ("x.nii.json", None),
        (".nii", None),
        ("a/._x.nii.gz", None),
        (".git/annex/x.nii.gz", None),
    ],
)
def test_nifti_suffix(path, stem):
    assert without_ending(path) == stem


@pytest.mark.parametrize("suffix", [*MASK_SUFFIXES[1:], "_probseg", "-label", ".seg", "_MASK"])
def test_mask_names(suffix):
    assert is_mask(f"a/CT{suffix}")
    assert not is_mask(f"a/CT{suffix}_image")


def test_masks_are_known_by_their_folder():
    assert is_mask("labelsTr/x")
    assert is_mask("masks/a/x")
    assert is_mask("mask")
    assert is_mask("case/segmentation")
    assert is_mask("segmentation-1")
    assert is_mask("label0001")
    assert not is_mask("sub-1_label-22_ct")
    assert not is_mask("unmasked/x")


def test_own_outputs():
    assert is_own_output("a/x_dseg")
    assert not is_own_output("a/x_seg")


@given(st.text(max_size=30))
def test_escaped_names_are_safe(name):
    assert is_safe(escaped(name))
    if is_safe(name):
        assert escaped(name) == name


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a\\b", "a\nb", "a\0b", "\udce9"]
)
def test_unsafe_names(name):
    assert not is_safe(name)


def test_channels_become_one_image():
    images = group_channels(volumes("a/x_0001", "a/x_0000", "b/x_0000", "a/y"))
    assert {image.name: image.urls for image in images} == {
        "a/x": ("s3://b/a/x_0000.nii", "s3://b/a/x_0001.nii"),
        "b/x": ("s3://b/b/x_0000.nii",),
        "a/y": ("s3://b/a/y.nii",),
    }


@pytest.mark.parametrize("numbers", [[1], [1, 2], [0, 2], range(MAX_CHANNELS + 1)])
def test_numbered_cases_are_no_channels(numbers):
    names = [f"scan_{number:04}" for number in numbers]
    assert [image.name for image in group_channels(volumes(*names))] == names


@given(st.sets(stems), st.sampled_from(IMAGE_SUFFIXES), st.sampled_from(MASK_SUFFIXES))
def test_usual_suffixes_never_part_a_pair(cores, image_suffix, mask_suffix):
    cores = {core.upper() for core in cores}
    images = [core + image_suffix for core in cores]
    masks = [core + mask_suffix for core in cores]
    assert paired(images, masks) == set(zip(images, masks, strict=True))


@given(st.lists(stems, unique=True), st.lists(stems, unique=True))
def test_each_image_comes_out_once_and_no_mask_is_lost(images, masks):
    found = list(pair(volumes(*images), volumes(*masks)))
    assert sorted(image.name for image, _ in found if image) == sorted(images)
    given_masks = [mask.name for _, fits in found for mask in fits]
    assert sorted(given_masks) == sorted(masks)


def test_one_image_and_one_mask_do_not_match_by_being_alone():
    assert paired(["sub-01_T1w"], ["sub-99_dseg"]) == {("sub-01_T1w",), (None, "sub-99_dseg")}
    assert paired(["ct"], ["tumour"]) == {("ct",), (None, "tumour")}


def test_pairs_of_one_folder_come_before_equal_names_elsewhere():
    images = ["P1/CT_image", "P2/CT_image", "P3/CT_image"]
    masks = ["P1/CT_mask", "P2/CT_mask", "P9/CT_mask"]
    assert paired(images, masks) == {
        ("P1/CT_image", "P1/CT_mask"),
        ("P2/CT_image", "P2/CT_mask"),
        ("P3/CT_image",),
        (None, "P9/CT_mask"),
    }


def test_pairs_across_folders():
    assert paired(["images/a", "images/b"], ["labels/a", "labels/b"]) == {
        ("images/a", "labels/a"),
        ("images/b", "labels/b"),
    }


def test_several_masks_that_fit_alike():
    found = paired(["a", "b"], ["a_mask", "a_seg", "b_mask"])
    assert found == {("a", "a_mask", "a_seg"), ("b", "b_mask")}


def test_bids_pairs_by_subject_unless_two_images_are_alike():
    images = ["sub-1/anat/sub-1_T1w", "sub-2/anat/sub-2_T1w", "sub-2/anat/sub-2_FLAIR"]
    masks = ["sub-1/anat/sub-1_space-T1w_dseg", "sub-2/anat/sub-2_dseg"]
    assert paired(images, masks) == {
        (images[0], masks[0]),
        (images[1],),
        (images[2],),
        (None, masks[1]),
    }


@pytest.mark.parametrize(
    ("header", "files"),
    [
        ("s3://b/x.nii.gz", ("s3://b/x.nii.gz",)),
        ("a.hdr/x.hdr", ("a.hdr/x.img", "a.hdr/x.img.gz")),
        ("x.hdr.gz", ("x.img.gz", "x.img")),
        ("X.HDR", ("X.IMG", "X.IMG.GZ")),
    ],
)
def test_where_the_voxels_of_a_volume_may_lie(header, files):
    assert voxel_files(header) == files
