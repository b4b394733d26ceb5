"""What is ours is replaced, and nothing else ever is."""

import uuid
from dataclasses import replace

import pytest
from examples import examples
from hypothesis import given, settings
from sidecars import FACTS, LABELS, PICTURE, SOUND, damaged

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.storage.claims import claim, refuse_inputs
from unet_pipeline.storage.ledger import digest_bytes, read_record
from unet_pipeline.storage.sidecar import read_sidecar, read_stamp, write_sidecar
from unet_pipeline.storage.store import Store, join

DATA = write_sidecar(SOUND)
SUFFIXES = (".nii.gz", ".png")


def finished(store, root, data=DATA):
    """Write the files of a finished case, and return its output."""
    output = join(root, "a_dseg")
    store.write(f"{output}.nii.gz", b"labels")
    store.write(f"{output}.png", b"picture")
    store.write(f"{output}.json", data)
    return output


def claimed(store, output, run="now"):
    return claim(store, output, run, read_record(store, f"{output}.json"), SUFFIXES)


def digests(*files):
    return [digest_bytes(data) for data in files]


def write_all(store, mine, labels=b"anew", picture=b"drawn"):
    begun = mine.begin(store, digests(labels, picture))
    begun.write(store, ".nii.gz", labels)
    begun.write(store, ".png", picture)
    said = replace(SOUND, written=(digest_bytes(labels), digest_bytes(picture)))
    begun.write_record(store, write_sidecar(replace(said, run=replace(FACTS, run_id=mine.run_id))))


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    if request.param == "local":
        return Store(), str(tmp_path)
    s3 = request.getfixturevalue("s3")
    return s3.store, s3.bucket("ours")


def refusal(act, *arguments):
    with pytest.raises(CaseError) as caught:
        act(*arguments)
    return caught.value.code


def test_what_is_ours_is_replaced(place):
    store, root = place
    output = finished(store, root)
    write_all(store, claimed(store, output))
    assert store.read(f"{output}.nii.gz") == b"anew"
    write_all(store, claimed(store, join(root, "b_dseg")))  # nothing was there


@pytest.mark.parametrize("file", [".nii.gz", ".png"])
def test_a_file_that_was_edited_by_hand_is_not_replaced(place, file):
    store, root = place
    output = finished(store, root)
    store.write(f"{output}{file}", b"edited")
    assert refusal(claimed, store, output) == "output_foreign"


@pytest.mark.parametrize("file", [".nii.gz", ".png", ".json"])
def test_a_file_without_a_record_of_ours_is_not_replaced(place, file):
    store, root = place
    output = join(root, "a_dseg")
    store.write(f"{output}{file}", b'{"Manual": true}')
    assert refusal(claimed, store, output) == "output_foreign"


@pytest.mark.parametrize("file", [".nii.gz", ".png"])
def test_an_edit_while_the_case_is_under_way_is_not_replaced(place, file):
    store, root = place
    output = finished(store, root)
    mine = claimed(store, output)
    store.write(f"{output}{file}", b"edited")
    assert refusal(write_all, store, mine) == "output_foreign"
    assert store.read(f"{output}{file}") == b"edited"


@pytest.mark.parametrize("writes", range(4))
def test_what_a_killed_run_leaves_is_ours_at_every_write(place, writes):
    store, root = place
    output = finished(store, root)
    mine = claimed(store, output)
    begun = mine.begin(store, digests(b"anew", b"drawn")) if writes else mine
    for file, data in ((".nii.gz", b"anew"), (".png", b"drawn"))[: max(0, writes - 1)]:
        begun.write(store, file, data)
    done = read_sidecar(read_record(store, f"{output}.json"))
    assert (done is not None) == (writes == 0)
    write_all(store, claimed(store, output, "after"), b"at last")
    assert store.read(f"{output}.nii.gz") == b"at last"


def test_a_call_that_is_repeated_after_its_last_write_replaces_its_own(place):
    store, root = place
    mine = claimed(store, finished(store, root))
    write_all(store, mine)
    write_all(store, mine)


def test_two_runs_at_once_leave_no_record_of_another_label_map(place):
    store, root = place
    output = finished(store, root)
    first, second = claimed(store, output, "first"), claimed(store, output, "second")
    begun = first.begin(store, digests(b"of the first", b"drawn"))
    begun.write(store, ".nii.gz", b"of the first")
    assert refusal(second.begin, store, digests(b"of the second", b"drawn")) == "output_busy"
    again = claimed(store, output, "second")
    write_all(store, again, b"of the second")
    assert refusal(begun.write_record, store, b"{}") == "output_busy"
    assert refusal(begun.write, store, ".nii.gz", b"of the first") == "output_foreign"
    assert store.read(f"{output}.nii.gz") == b"of the second"


@settings(max_examples=examples(200))
@given(damaged(DATA))
def test_what_a_damaged_record_still_names_is_replaced_and_nothing_else(data):
    store = Store()
    output = finished(store, f"memory://{uuid.uuid4().hex}", data)
    mark = read_stamp(data)
    if mark is not None and {LABELS, PICTURE} <= mark.files:
        write_all(store, claimed(store, output))
    else:
        assert refusal(claimed, store, output) == "output_foreign"


def test_an_output_that_is_an_input_is_refused(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "scans")
    for output, read in (
        (tmp_path / "scans" / "a_dseg.nii.gz", tmp_path / "scans" / "a_dseg.nii.gz"),
        (tmp_path / "link" / "a_dseg.nii.gz", tmp_path / "scans" / "a_dseg.nii.gz"),
        ("s3://b/out/a_dseg.nii.gz", "s3://b/out/a_dseg.nii.gz"),
    ):
        with pytest.raises(RequestError) as caught:
            refuse_inputs([str(output)], [str(read)])
        assert caught.value.code == "output_is_input"
    refuse_inputs(["s3://b/out/a_dseg.nii.gz"], ["s3://b/in/a_dseg.nii.gz"])
