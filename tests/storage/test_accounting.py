"""Every file below a prefix is accounted for, and the layouts of this field pair by themselves."""

import json
import uuid
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_pipeline.errors import RequestError
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.names import Channels
from unet_pipeline.storage.store import Store, join

STORE = Store()
ONE, FOUR = Channels(1), Channels(4)


@pytest.fixture
def root():
    return f"memory://{uuid.uuid4().hex}"


def add(root, *paths, data=b""):
    for path in paths:
        STORE.write(join(root, path), data)


def found(root, masks="", **asked):
    where = None if masks is None else join(root, masks)
    return discover(STORE, root, where, **asked)


def pairs(cohort, root):
    below = len(root) + 1
    return {case.name: case.mask and case.mask[below:] for case in cohort.cases}


def taken(cohort, root):
    return {one.file[len(root) + 1 :]: (one.kind, one.why) for one in cohort.classified()}


def codes(cohort):
    return {case.name: error.code for case, error in (*cohort.faults, *cohort.mask_faults)}


def test_every_file_is_named_with_what_it_was_taken_for_and_why(root):
    run = "runs/20261121T013000Z-3f2a"
    add(root, "a.nii", "runs/x.nii", "s1/runs/T1.nii", "notes.txt", ".git/x.nii", "b.hdr", "b.img")
    add(root, "T1_label.nii", "brain-seg.nii.gz", "mask.nii", "a_dseg.nii.gz", "a_dseg.png")
    add(root, f"{run}/run.json", f"{run}/cases.csv", "runs/20261121T013000Z-0000/b.txt")
    add(root, "a_dseg.json", data=json.dumps({"settings_digest": "x"}).encode())
    cohort = found(root, None)
    assert taken(cohort, root) == {
        "a.nii": ("image", "case a"),
        "b.hdr": ("image", "case b"),
        "b.img": ("image", "case b"),
        "runs/x.nii": ("image", "case runs/x"),
        "s1/runs/T1.nii": ("image", "case s1/runs/T1"),
        "T1_label.nii": ("ignored", "named like a mask"),
        "brain-seg.nii.gz": ("ignored", "named like a mask"),
        "mask.nii": ("ignored", "named like a mask"),
        "notes.txt": ("ignored", "no volume"),
        "runs/20261121T013000Z-0000/b.txt": ("ignored", "no volume"),
        ".git/x.nii": ("ignored", "hidden"),
        **dict.fromkeys(
            (
                *("a_dseg.nii.gz", "a_dseg.png", "a_dseg.json"),
                *(f"{run}/run.json", f"{run}/cases.csv"),
            ),
            ("ours", "written by a run of this package"),
        ),
    }
    assert str(cohort.accounting) == (
        "4 cases in 5 files; 5 files of ours; 6 ignored: 3 named like a mask, 2 no volume, 1 hidden"
    )


def test_what_was_passed_over_at_a_link_says_what_to_allow(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.nii").write_bytes(b"")
    (tmp_path / "b.nii").write_bytes(b"")
    (tmp_path / "in/b.nii").symlink_to("../b.nii")
    line = str(discover(STORE, str(tmp_path / "in")).accounting)
    assert line == (
        f"1 case in 1 file; 1 ignored: 1 a link out of the prefix (--allow {tmp_path} to read it)"
    )
    (tmp_path / "in/a.nii").unlink()
    with pytest.raises(RequestError, match="--allow") as caught:
        discover(STORE, str(tmp_path / "in"))
    assert caught.value.code == "cohort_empty"


names = st.lists(
    st.sampled_from(
        ("a", "b", "mask", "runs", "labels", "a_seg", "x_0000", "x_0001", "sub-1", ".h", "a-t1c")
    ),
    min_size=1,
    max_size=3,
).map("/".join)
suffixes = st.sampled_from((".nii", ".nii.gz", ".hdr", ".img", ".json", ".txt"))
files = st.sets(st.tuples(names, suffixes).map("".join), min_size=1, max_size=12)


@settings(max_examples=60)
@given(files, st.booleans(), st.sampled_from([None, 1, 2, 4]), st.booleans())
def test_every_listed_file_is_in_exactly_one_class(listed, with_masks, channels, require_masks):
    root = f"memory://{uuid.uuid4().hex}"
    add(root, *listed)
    asked = {"channels": Channels(channels), "require_masks": require_masks}
    try:
        cohort = found(root, "" if with_masks else None, **asked)
    except RequestError as error:
        if error.code not in {"cohort_empty", "masks_empty"}:
            raise
        return
    seen = Counter(one.file for one in cohort.classified())
    assert seen == Counter(STORE.list_files(root))
    counts = cohort.accounting
    assert counts.images + counts.masks + counts.ours + sum(counts.ignored.values()) == len(listed)
    kinds = {one.file: one.kind for one in cohort.classified()}
    everywhere = (*cohort.cases, *(case for case, _ in (*cohort.faults, *cohort.mask_faults)))
    assert all(kinds[url] == "image" for case in everywhere for url in case.images)
    assert all(kinds[case.mask] == "mask" for case in everywhere if case.mask)


def test_the_network_decides_whether_a_number_is_a_channel(root):
    add(root, "p_0000.nii", "p_0001.nii", "p_0002.nii")
    assert [case.name for case in found(root, None, channels=ONE).cases] == [
        "p_0000",
        "p_0001",
        "p_0002",
    ]
    (case,) = found(root, None, channels=Channels(3)).cases
    assert (case.name, len(case.images)) == ("p", 3)
    add(root, "dataset.json", data=b'{"channel_names": {"0": "CT"}}')
    assert len(found(root, None).cases) == 3
    assert len(found(root, None, channels=Channels(3)).cases) == 1


def test_nnunet_and_msd(root):
    add(root, "imagesTr/x_1_0000.nii.gz", "imagesTr/x_1_0001.nii.gz", "labelsTr/x_1.nii.gz")
    add(root, "imagesTr/x_2_0000.nii.gz", "imagesTr/x_2_0001.nii.gz", "labelsTr/x_2.nii.gz")
    add(root, "dataset.json", data=b'{"channel_names": {"0": "T1", "1": "T2"}}')
    assert pairs(found(root), root) == {f"imagesTr/x_{i}": f"labelsTr/x_{i}.nii.gz" for i in (1, 2)}


def test_kits(root):
    add(root, *(f"case_{i}/{name}.nii.gz" for i in (0, 1) for name in ("imaging", "segmentation")))
    add(root, "case_1/mask.nii.gz")
    cohort = found(root)
    assert pairs(cohort, root) == {
        f"case_{i}/imaging": f"case_{i}/segmentation.nii.gz" for i in (0, 1)
    }
    assert not codes(cohort)
    assert taken(cohort, root)["case_1/mask.nii.gz"] == ("mask", "beside another")


def test_lits_and_btcv(root):
    add(root, "lits/volume-1.nii", "lits/volume-10.nii", "btcv/img0001.nii", "btcv/img0002.nii")
    add(root, "lits/segmentation-1.nii", "lits/segmentation-10.nii", "btcv/label0001.nii")
    assert pairs(found(root, require_masks=False), root) == {
        "lits/volume-1": "lits/segmentation-1.nii",
        "lits/volume-10": "lits/segmentation-10.nii",
        "btcv/img0001": "btcv/label0001.nii",
        "btcv/img0002": None,
    }


@pytest.mark.parametrize(
    ("subject", "parts", "mask"),
    [
        ("BraTS-GLI-00000-000", ("-t1c", "-t1n", "-t2f", "-t2w"), "-seg"),
        ("BraTS19_2013_0_1", ("_t1ce", "_t1", "_flair", "_t2"), "_seg"),
    ],
)
def test_brats(root, subject, parts, mask):
    place = f"{subject}/{subject}"
    add(root, *(f"{place}{part}.nii.gz" for part in (*parts, mask)))
    named = Channels(4, ("T2w", "FLAIR", "T1", "T1Gd"))
    (case,) = found(root, channels=named).cases
    assert (case.name, case.mask) == (place, join(root, f"{place}{mask}.nii.gz"))
    t1c, t1, flair, t2 = (join(root, f"{place}{part}.nii.gz") for part in parts)
    assert case.images == (t2, flair, t1, t1c)
    unnamed = found(root, channels=FOUR)
    assert codes(unnamed) == {place: "channels_unordered"}
    assert len(found(root, None, channels=ONE).cases) == 4


def test_totalsegmentator_has_a_file_for_each_structure(root):
    add(root, "s1/ct.nii.gz", "s1/segmentations/liver.nii.gz", "s1/segmentations/spleen.nii.gz")
    add(root, "s2/ct.nii.gz", "s2/segmentations/liver.nii.gz")
    cohort = found(root)
    assert pairs(cohort, root) == {"s2/ct": "s2/segmentations/liver.nii.gz"}
    assert codes(cohort) == {"s1/ct": "mask_in_parts"}
    assert "liver.nii.gz, spleen.nii.gz" in str(cohort.faults[0][1])


def test_bids_with_entities_in_any_order_and_masks_among_derivatives(root):
    add(root, "dataset_description.json")
    add(root, "sub-01/ses-1/anat/sub-01_ses-1_run-2_T1w.nii.gz")
    add(root, "derivatives/x/sub-01/anat/sub-01_run-2_ses-1_space-orig_dseg.nii.gz")
    (mask,) = pairs(found(root), root).values()
    assert mask == "derivatives/x/sub-01/anat/sub-01_run-2_ses-1_space-orig_dseg.nii.gz"


def test_images_and_masks_in_two_trees(root):
    add(root, "i/case_0/imaging.nii", "i/case_1/imaging.nii", "i/ct.nii")
    add(root, "m/case_0/segmentation.nii", "m/case_1/mask.nii", "m/label.nii")
    cohort = discover(STORE, join(root, "i"), join(root, "m"))
    assert pairs(cohort, root) == {
        "case_0/imaging": "m/case_0/segmentation.nii",
        "case_1/imaging": "m/case_1/mask.nii",
        "ct": "m/label.nii",
    }


def test_two_masks_that_fit_are_an_ambiguity_with_both_names(root):
    add(root, "p/ct.nii", "p/mask.nii", "p/segmentation.nii", "q/ct.nii", "q/seg.nii")
    cohort = found(root, require_masks=False)
    assert pairs(cohort, root) == {"p/ct": None, "q/ct": "q/seg.nii"}
    assert codes(cohort) == {"p/ct": "mask_ambiguous"}
    assert "mask.nii, segmentation.nii" in str(cohort.mask_faults[0][1])


def test_the_mask_of_another_is_no_mask(root):
    add(root, "i/sub-01_T1w.nii.gz", "m/sub-99_dseg.nii.gz")
    cohort = discover(STORE, join(root, "i"), join(root, "m"), require_masks=False)
    assert pairs(cohort, root) == {"sub-01_T1w": None}
    assert codes(cohort) == {"sub-01_T1w": "mask_missing", "sub-99_dseg": "image_missing"}
    both = discover(STORE, join(root, "i/sub-01_T1w.nii.gz"), join(root, "m/sub-99_dseg.nii.gz"))
    assert both.cases[0].mask is not None, (
        "whoever names both files means that they belong together"
    )


@pytest.mark.parametrize(
    ("pattern", "images", "masks"),
    [
        ("{case}/segmentation.nii.gz", ("a.nii", "b.nii"), "gt/{}/segmentation.nii.gz"),
        ("{case}/truth.nii", ("a/ct.nii", "b/ct.nii"), "{}/truth.nii"),
        ("gt/{case}_x.nii", ("deep/a.nii", "deep/b.nii"), "gt/{}_x.nii"),
        ("{case}_x.nii", ("a_image.nii", "b_image.nii"), "{}_x.nii"),
    ],
)
def test_a_pattern_says_where_masks_lie(root, pattern, images, masks):
    wanted = [masks.format(case) for case in ("a", "b")]
    add(root, *images, wanted[0])
    place = "gt" if pattern.startswith("{case}/segm") else ""
    cohort = found(root, place, mask_pattern=pattern, require_masks=False)
    assert list(pairs(cohort, root).values()) == [wanted[0], None]
    add(root, wanted[1])
    assert list(pairs(found(root, place, mask_pattern=pattern), root).values()) == wanted


def test_a_pattern_without_masks_looks_below_the_images(root):
    add(root, "a/ct.nii", "a/truth.nii", "a/mask.nii")
    cohort = found(root, None, mask_pattern="{case}/truth.nii")
    assert pairs(cohort, root) == {"a/ct": "a/truth.nii"}


@pytest.mark.parametrize(
    "wrong",
    ["seg.nii", "{case}", "{name}.nii", "{case}{case}.nii", "../{case}.nii", "{case}.nii{",
     "/{case}.nii", "s3://b/{case}.nii", "{case.__class__}.nii", "{case!r}.nii"],
)  # fmt: skip
def test_a_wrong_pattern_is_a_fault_of_the_request_with_an_example(root, wrong):
    add(root, "a.nii")
    with pytest.raises(RequestError, match="Write it like") as caught:
        found(root, None, mask_pattern=wrong)
    assert caught.value.code == "mask_pattern_invalid"


def test_a_pattern_that_fits_no_file_is_a_fault_of_the_request(root):
    add(root, "a.nii", "b_mask.nii")
    with pytest.raises(RequestError, match="none one like") as caught:
        found(root, None, mask_pattern="{case}/x.nii")
    assert caught.value.code == "masks_empty"
