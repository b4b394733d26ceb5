"""What is ours is replaced, and nothing else ever is."""

import json
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.storage.claims import claim, refuse_inputs
from unet_pipeline.storage.ledger import digest_bytes, read_record
from unet_pipeline.storage.sidecar import digests_in, is_ours, parse_sidecar
from unet_pipeline.storage.store import Store, join

SUFFIXES = (".nii.gz", ".png")
LABELS, PICTURE = digest_bytes(b"labels"), digest_bytes(b"picture")
SOUND = {
    "made_by": "unet-pipeline",
    "format": 1,
    "state": "done",
    "written": [LABELS, PICTURE],
    "run_id": "before",
    "weights": digest_bytes(b"weights"),
    "settings_digest": digest_bytes(b"settings"),
    "inputs": [
        {"role": "image0", "size": 5, "etag": None, "sha256": digest_bytes(b"image")},
        {"role": "mask", "size": 4, "etag": "abc", "sha256": digest_bytes(b"mask")},
    ],
    "output": {"bytes": 6, "sha256": LABELS, "etag": None},
    "windows": 8,
    "dice": {"1": 0.5, "2": None},
    "gate": {"verdict": "warn", "codes": ["mask_empty"], "message": "Look."},
    "seconds": {"read": 0.1, "total": 1.5},
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def finished(store, root, record=SOUND):
    """Write the files of a finished case, and return its output."""
    output = join(root, "a_dseg")
    store.write(f"{output}.nii.gz", b"labels")
    store.write(f"{output}.png", b"picture")
    data = record if isinstance(record, bytes) else json.dumps(record).encode()
    store.write(f"{output}.json", data)
    return output


def claimed(store, output, run="now"):
    return claim(store, output, run, read_record(store, f"{output}.json"), SUFFIXES)


def write_all(store, mine, labels=b"anew", picture=b"drawn"):
    begun = mine.begin(store, (labels, picture))
    begun.write(store, ".nii.gz", labels)
    begun.write(store, ".png", picture)
    record = {**SOUND, "run_id": mine.run_id, "written": [digest_bytes(labels), PICTURE]}
    begun.write_record(store, json.dumps(record).encode())


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
    begun = mine.begin(store, (b"anew", b"drawn")) if writes else mine
    for file, data in ((".nii.gz", b"anew"), (".png", b"drawn"))[: max(0, writes - 1)]:
        begun.write(store, file, data)
    done = parse_sidecar(read_record(store, f"{output}.json"))
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
    begun = first.begin(store, (b"of the first", b"drawn"))
    begun.write(store, ".nii.gz", b"of the first")
    assert refusal(second.begin, store, (b"of the second", b"drawn")) == "output_busy"
    again = claimed(store, output, "second")
    write_all(store, again, b"of the second")
    assert refusal(begun.write_record, store, b"{}") == "output_busy"
    assert refusal(begun.write, store, ".nii.gz", b"of the first") == "output_foreign"
    assert store.read(f"{output}.nii.gz") == b"of the second"


def test_an_input_that_was_copied_over_a_label_map_is_not_ours():
    assert digest_bytes(b"image") not in digests_in(json.dumps(SOUND).encode())
    cut = json.dumps(SOUND).encode()[:-20]
    assert digests_in(cut) == {LABELS, PICTURE}


def test_a_sound_record_is_sound():
    found = parse_sidecar(json.dumps(SOUND).encode())
    assert (found.windows, found.seconds["total"], found.gate.codes) == (8, 1.5, ("mask_empty",))


def holds(data):
    """A damaged record is not done, and its files are replaced as far as it still names them."""
    store = Store()
    output = finished(store, f"memory://{uuid.uuid4().hex}", data)
    assert parse_sidecar(data) is None
    if is_ours(data) and {LABELS, PICTURE} <= digests_in(data):
        write_all(store, claimed(store, output))
    else:
        assert refusal(claimed, store, output) == "output_foreign"


def places_in(value, path=()):
    """Yield the path of each key and each place of a list."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places_in(inner, (*path, key))


def changed(path, value=None, remove=False):
    record = json.loads(json.dumps(SOUND))
    *outer, last = path
    inner = record
    for key in outer:
        inner = inner[key]
    if remove:
        inner.pop(last)
    else:
        inner[last] = value
    return json.dumps(record).encode()


REMARKS = {("run_id",), ("made_by",), ("output", "etag"), ("dice", "1"), ("dice", "2")} | {
    *((key, place) for key in ("written", "inputs") for place in (0, 1)),
    *(("seconds", stage) for stage in ("read", "total")),
}


@pytest.mark.parametrize("path", list(places_in(SOUND)))
def test_a_key_taken_away(path):
    data = changed(path, remove=True)
    if path in REMARKS:  # sound; is_done still holds the inputs against the case's
        assert parse_sidecar(data) is not None
    else:
        holds(data)


@settings(max_examples=200)
@given(st.sampled_from(list(places_in(SOUND))), anything)
def test_any_value_at_any_place(path, value):
    data = changed(path, value)
    found = parse_sidecar(data)
    if found is None:
        return holds(data)
    assert 0 <= found.windows < 2**53  # as good a value as ours, of its type and range
    assert all(0 <= seconds <= 1e9 for seconds in found.seconds.values())
    assert all(one is None or 0 <= one <= 1 for one in (found.dice or {}).values())
    return None


@settings(max_examples=100)
@given(st.integers(0, len(json.dumps(SOUND)) - 1))
def test_a_record_cut_anywhere(length):
    holds(json.dumps(SOUND).encode()[:length])


@given(st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()))
def test_bytes_of_any_kind_are_no_record(data):
    assert parse_sidecar(data) is None
    digests_in(data)


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
