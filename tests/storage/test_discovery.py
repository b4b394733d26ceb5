import json
import uuid
from dataclasses import replace

import pytest

from unet_pipeline.errors import RequestError
from unet_pipeline.records import Case
from unet_pipeline.storage.cases import Cohort
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.store import Store, join


class Archive:
    """A prefix with empty files; URLs in and out are relative to it."""

    def __init__(self, store, root):
        self.store, self.root = store, root

    def allow(self, path):
        self.store = Store(replace(self.store.options, allowed=(self.url(path),)))

    def add(self, *paths, data=b""):
        for path in paths:
            self.store.write(join(self.root, path), data)

    def url(self, path):
        return join(self.root, path)

    def discover(self, images="", masks=None):
        return discover(self.store, self.url(images), None if masks is None else self.url(masks))

    def case(self, name, images, mask=None):
        images = images.split(";") if images else []
        return Case(name, tuple(map(self.url, images)), None if mask is None else self.url(mask))


@pytest.fixture(params=["memory", "local"])
def archive(request, tmp_path):
    root = str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    return Archive(Store(), root)


@pytest.fixture(params=["memory", "local", "s3"])
def anywhere(request, tmp_path):
    if request.param == "s3":
        s3 = request.getfixturevalue("s3")
        return Archive(s3.store, s3.bucket())
    root = str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    return Archive(Store(), root)


@pytest.fixture
def memory():
    return Archive(Store(), f"memory://{uuid.uuid4().hex}")


def refused(archive, *selection):
    with pytest.raises(RequestError) as caught:
        archive.discover(*selection)
    return caught.value


def codes(cohort):
    return {case.name: error.code for case, error in cohort.faults}


def test_prefix(anywhere):
    anywhere.add("in/b.nii", "in/a/x.nii.gz", "in/notes.txt", "in/._b.nii", "in2/c.nii")
    cases = (anywhere.case("a/x", "in/a/x.nii.gz"), anywhere.case("b", "in/b.nii"))
    assert anywhere.discover("in") == anywhere.discover("in/") == Cohort(cases, ())


def test_single_file(archive):
    archive.add("in/a_mask.nii", "in/b.nii", "other/tumour.nii")
    assert archive.discover("in/b.nii").cases == (archive.case("b", "in/b.nii"),)
    assert archive.discover("in/a_mask.nii").cases == (archive.case("a_mask", "in/a_mask.nii"),)
    both = archive.discover("in/b.nii", "other/tumour.nii")
    assert both == Cohort((archive.case("b", "in/b.nii", "other/tumour.nii"),), ())


def test_glob(anywhere):
    anywhere.add("in/p1/CT_image.nii", "in/p2/CT_image.nii", "in/p1/PET_image.nii")
    anywhere.add("in/p1/CT_mask.nii", "in/p2/CT_mask.nii", "in/p1/PET_mask.nii")
    cases = [
        anywhere.case(f"p{i}/CT_image", f"in/p{i}/CT_image.nii", f"in/p{i}/CT_mask.nii")
        for i in (1, 2)
    ]
    assert anywhere.discover("in/*/CT_image.nii", "in/*/CT_mask.nii") == Cohort(tuple(cases), ())
    assert anywhere.discover("in/*/CT_image.nii", "in") == Cohort(tuple(cases), ())
    assert [case.name for case in anywhere.discover("in/p1/*.nii").cases] == [
        "CT_image",
        "PET_image",
    ]


def test_images_and_masks_in_two_folders(archive):
    archive.add("images/a.nii", "images/b.nii.gz", "images/only.nii")
    archive.add("labels/a.nii.gz", "labels/b.nii.gz", "labels/alone.nii")
    cohort = archive.discover("images", "labels")
    assert cohort.cases == (
        archive.case("a", "images/a.nii", "labels/a.nii.gz"),
        archive.case("b", "images/b.nii.gz", "labels/b.nii.gz"),
    )
    assert codes(cohort) == {"only": "mask_missing", "alone": "image_missing"}
    assert cohort.faults[0][0] == archive.case("alone", "", "labels/alone.nii")
    assert all(error.subject == case.name for case, error in cohort.faults)


def test_images_and_masks_in_one_tree(archive):
    archive.add("p1/CT_image.nii", "p1/CT_mask.nii", "p2/CT_image.nii", "p2/CT_mask.nii")
    cases = tuple(
        archive.case(f"p{i}/CT_image", f"p{i}/CT_image.nii", f"p{i}/CT_mask.nii") for i in (1, 2)
    )
    assert archive.discover("", "") == Cohort(cases, ())
    assert archive.discover("", "p*/*_mask.nii") == Cohort(cases, ())
    assert [case.name for case in archive.discover("").cases] == ["p1/CT_image", "p2/CT_image"]


def test_masks_known_by_their_folder(memory):
    memory.add("images/a.nii", "images/b.nii", "labels/a.nii", "labels/b.nii", "truth/a.nii")
    wanted = [
        memory.case("images/a", "images/a.nii", "labels/a.nii"),
        memory.case("images/b", "images/b.nii", "labels/b.nii"),
    ]
    memory.store.remove(memory.url("truth/a.nii"))
    assert memory.discover("", "") == Cohort(tuple(wanted), ())
    assert memory.discover("", "labels") == Cohort(tuple(wanted), ())
    assert [case.name for case in memory.discover().cases] == ["images/a", "images/b"]


def test_the_narrower_of_two_selections_says_what_its_files_are(memory):
    memory.add("in/a.nii", "in/b.nii", "in/truth/a.nii", "in/truth/b.nii")
    nested_masks = memory.discover("in", "in/truth")
    assert [(case.name, case.mask) for case in nested_masks.cases] == [
        ("a", memory.url("in/truth/a.nii")),
        ("b", memory.url("in/truth/b.nii")),
    ]
    nested_images = memory.discover("in/truth", "in")
    assert [case.mask for case in nested_images.cases] == [
        memory.url("in/a.nii"),
        memory.url("in/b.nii"),
    ]


def test_masks_of_images_that_were_not_picked_are_no_fault(memory):
    memory.add("images/a.nii", "images/b.nii", "labels/a.nii", "labels/b.nii")
    for images in ("images/a.nii", "images/a*"):
        cohort = memory.discover(images, "labels")
        assert cohort == Cohort((memory.case("a", "images/a.nii", "labels/a.nii"),), ())


def test_channels(archive):
    archive.add("in/x_0000.nii", "in/x_0001.nii", "in/y_0000.nii", "in/y_0001.nii", "gt/x.nii")
    cohort = archive.discover("in", "gt")
    assert cohort.cases == (archive.case("x", "in/x_0000.nii;in/x_0001.nii", "gt/x.nii"),)
    assert codes(cohort) == {"y": "mask_missing"}


def test_bids(anywhere):
    anywhere.add(
        "dataset_description.json",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_T1w.json",
        "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_dseg.nii.gz",
        "derivatives/manual/sub-01/anat/sub-01_dseg.nii.gz",
        "derivatives/denoised/sub-01/anat/sub-01_T1w.nii.gz",
        "sourcedata/sub-01/x.nii.gz",
    )
    names = ["sub-01/anat/sub-01_T1w", "sub-02/ses-1/anat/sub-02_ses-1_T1w"]
    cohort = anywhere.discover()
    assert [case.name for case in cohort.cases] == names
    anywhere.store.remove(anywhere.url("dataset_description.json"))
    assert anywhere.discover() == cohort
    manual = anywhere.discover("", "derivatives/manual")
    assert [case.mask for case in manual.cases] == [
        anywhere.url("derivatives/manual/sub-01/anat/sub-01_dseg.nii.gz")
    ]
    assert codes(manual) == {names[1]: "mask_missing"}


def test_derivatives_of_a_tree_that_is_not_bids_are_images(memory):
    memory.add("derivatives/a.nii", "b.nii")
    assert [case.name for case in memory.discover().cases] == ["b", "derivatives/a"]


def test_own_outputs_are_no_images(memory):
    memory = Archive(memory.store, memory.url("out"))
    run = "runs/20261121T013000Z-3f2a"
    memory.add("a.nii", "a_dseg.nii.gz", "a_dseg.png", f"{run}/a.nii.gz", f"{run}/report.html")
    memory.add("a_dseg.json", data=json.dumps({"settings_digest": "sha256:0"}).encode())
    cohort = memory.discover()
    assert cohort.cases == (memory.case("a", "a.nii"),)
    assert cohort.accounting.ours == 5
    assert refused(memory, "a_dseg.nii.gz").code == "cohort_empty"


def test_own_outputs_are_not_their_own_reference(memory):
    memory = Archive(memory.store, memory.url(".hidden"))
    memory.add("a.nii", "a_dseg.nii.gz", "b.nii", "b_dseg.nii.gz", "c.nii", "c_mask.nii")
    memory.add("a_dseg.json", data=json.dumps({"settings_digest": "sha256:0"}).encode())
    memory.add("b_dseg.json", data=b"{}")
    cohort = memory.discover("", "")
    assert {case.name: case.mask for case in cohort.cases} == {
        "b": memory.url("b_dseg.nii.gz"),
        "c": memory.url("c_mask.nii"),
    }
    assert codes(cohort) == {"a": "mask_missing"}


def test_pairs_count_by_their_headers(anywhere):
    anywhere.add("in/a.hdr", "in/a.img", "in/b.hdr", "in/b.img.gz", "in/c.hdr.gz", "in/c.img.gz")
    anywhere.add("in/a_mask.hdr", "in/a_mask.img", "in/b_dseg.hdr", "in/b_dseg.img")
    cases = [anywhere.case("a", "in/a.hdr"), anywhere.case("b", "in/b.hdr")]
    assert anywhere.discover("in").cases == (*cases, anywhere.case("c", "in/c.hdr.gz"))
    assert anywhere.discover("in/*.hdr").cases == tuple(cases)
    with_masks = anywhere.discover("in", "in")
    assert with_masks.cases == (
        anywhere.case("a", "in/a.hdr", "in/a_mask.hdr"),
        anywhere.case("b", "in/b.hdr", "in/b_dseg.hdr"),
    )
    assert codes(with_masks) == {"c": "mask_missing"}


def test_halves_of_pairs(archive):
    archive.add("in/whole.hdr", "in/whole.img", "in/header.hdr", "in/voxels.img.gz", "in/x.nii")
    archive.add("gt/whole.hdr", "gt/x.nii", "gt/header.nii", "gt/voxels.nii")
    cohort = archive.discover("in")
    assert [case.name for case in cohort.cases] == ["whole", "x"]
    assert codes(cohort) == {"header": "pair_incomplete", "voxels": "pair_incomplete"}
    assert "without its voxels" in str(cohort.faults[0][1])
    assert "without their header" in str(cohort.faults[1][1])
    assert codes(archive.discover("in", "gt")) == {**codes(cohort), "whole": "pair_incomplete"}
    assert [case.name for case in archive.discover("in/*.hdr").cases] == ["header", "whole"]


def test_several_masks_for_one_image(memory):
    memory.add("in/a.nii", "in/b.nii", "gt/a_mask.nii", "gt/a_seg.nii", "gt/b.nii")
    cohort = memory.discover("in", "gt")
    assert codes(cohort) == {"a": "mask_ambiguous"}
    assert "a_mask.nii, a_seg.nii" in str(cohort.faults[0][1])


def test_names_that_cannot_be_repeated_below_the_output(tmp_path):
    archive = Archive(Store(), str(tmp_path))
    archive.add("good.nii", "line\nbreak.nii", "back\\slash.nii")
    cohort = archive.discover()
    assert [case.name for case in cohort.cases] == ["good"]
    assert codes(cohort) == {
        "line<U+000A>break": "case_name_unsafe",
        "back<U+005C>slash": "case_name_unsafe",
    }


def test_two_images_of_one_name(memory):
    """The ambiguous case is at fault; the others are done."""
    memory.add("a.nii", "a.nii.gz", "b.nii")
    cohort = memory.discover()
    assert cohort.cases == (memory.case("b", "b.nii"),)
    assert codes(cohort) == {"a": "case_duplicate"}
    assert "a.nii, a.nii.gz" in str(cohort.faults[0][1])


def test_nothing_found(anywhere):
    anywhere.add("in/notes.txt", "in/a_mask.nii", "images/a.nii")
    assert refused(anywhere, "in").code == "cohort_empty"
    assert "2 files, 1 of them volumes" in str(refused(anywhere, "in"))
    assert refused(anywhere, "in/*.nii.gz").code == "cohort_empty"
    assert refused(anywhere, "images", "in/*.txt").code == "masks_empty"
    missing = refused(anywhere, "none")
    is_local = anywhere.root.startswith("/")
    assert missing.code == ("folder_missing" if is_local else "cohort_empty")


def test_missing_bucket(s3):
    for images in (
        "s3://no-such-bucket/in",
        "s3://no-such-bucket/*.nii",
        "s3://no-such-bucket/c.csv",
    ):
        with pytest.raises(RequestError) as caught:
            discover(s3.store, images)
        assert caught.value.code == "bucket_missing"


def test_manifest(anywhere):
    table = "case,image,mask\nz,../in/a.nii;../in/b.nii,m/a.nii\na,../in/c.nii,\n"
    anywhere.add("lists/cohort.csv", data=table.encode())
    assert refused(anywhere, "lists/cohort.csv").code == "manifest_outside"
    anywhere.allow("in")
    assert anywhere.discover("lists/cohort.csv").cases == (
        anywhere.case("z", "in/a.nii;in/b.nii", "lists/m/a.nii"),
        anywhere.case("a", "in/c.nii"),
    )
    assert refused(anywhere, "lists/cohort.csv", "in").code == "masks_ambiguous"
    anywhere.add("lists/empty.csv", data=b"case,image\n")
    assert refused(anywhere, "lists/empty.csv").code == "cohort_empty"


@pytest.mark.parametrize("away", ["{root}/in/../../other/x.nii", "/etc/x.nii", "s3://other/x.nii"])
def test_a_manifest_leads_nowhere_but_where_it_may(anywhere, away):
    anywhere.allow("in")
    found = away.format(root=anywhere.root)
    anywhere.add("lists/cohort.csv", data=f"case,image\na,{found}\n".encode())
    error = refused(anywhere, "lists/cohort.csv")
    assert error.code == "manifest_outside"
    assert "case a" in error.subject
    assert "--allow" in error.remedy


@pytest.mark.shared_data
def test_real_cohorts(shared_data):
    tissue = discover(Store(), str(shared_data / "soft_tissue"), str(shared_data / "soft_tissue"))
    assert len(tissue.cases) == 9
    assert not tissue.faults
    for case in tissue.cases:
        assert case.mask == case.images[0].replace("_image", "_mask")
    hippocampus = shared_data / "hippocampus"
    brains = discover(Store(), str(hippocampus / "images"), str(hippocampus / "labels"))
    assert len(brains.cases) == 200
    assert not brains.faults
