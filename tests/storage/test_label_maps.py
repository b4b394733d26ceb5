"""Label maps of many objects: done as a whole or not at all, and nothing of another hand's."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from sidecars import FACTS, SOUND

from unet_pipeline.errors import CaseError
from unet_pipeline.storage import s3 as s3_calls
from unet_pipeline.storage.claims import claim
from unet_pipeline.storage.label_maps import endings_of, store_case
from unet_pipeline.storage.ledger import digest_bytes, finished, read_record
from unet_pipeline.storage.sidecar import read_sidecar, write_sidecar
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.decoding import read_labels
from unet_pipeline.volume.formats import nifti, writer_of
from unet_pipeline.volume.header import header_of

RUN = replace(FACTS, run_id="now")
LONG, SHORT = (270, 6, 5), (140, 6, 5)  # of five chunks at two levels, and of two


class KilledError(BaseException):
    """The end of a process, as far as its store can tell."""


@dataclass(frozen=True)
class Dying(Store):
    """A store whose process ends before one of its changes."""

    left: list[int] = field(default_factory=list)

    def _spend(self):
        if self.left[0] == 0:
            raise KilledError
        self.left[0] -= 1

    def write(self, *arguments, **more):
        self._spend()
        return super().write(*arguments, **more)

    def remove(self, url):
        self._spend()
        super().remove(url)


def dying(store, changes):
    return Dying(store.options, [changes])


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    if request.param == "local":
        return Store(), str(tmp_path)
    s3 = request.getfixturevalue("s3")
    return s3.store, s3.bucket("labels")


def labels(shape, seed=0):
    numbers = np.random.default_rng(seed).integers(0, 3, shape)
    return np.asfortranarray(numbers.astype(np.uint8))


def run(store, root, values_XYZ, kind="ome-zarr"):
    """Do a case from its claim to its record."""
    output = join(root, "a_dseg")
    there = read_record(store, f"{output}.json")
    mine = claim(store, output, RUN.run_id, there, endings_of(kind))
    header = header_of(values_XYZ.shape, np.eye(4), values_XYZ.dtype)
    objects = writer_of(kind).encode(values_XYZ, header)
    stored = store_case(store, mine, kind, objects, b"picture")
    said = replace(SOUND, written=stored.written, output=stored.output, run=RUN, inputs=())
    stored.claim.write_record(store, write_sidecar(said))


def is_done(store, root, kind="ome-zarr"):
    output = join(root, "a_dseg")
    record = read_record(store, f"{output}.json")
    label_map = f"{output}{endings_of(kind)[0]}"
    return record is not None and finished(store, {}, record, RUN, label_map) is not None


def found(store, root, ending=".ome.zarr"):
    return read_labels(store, join(root, f"a_dseg{ending}"), budget_bytes=10**9)[0]


def below(store, root):
    return set(store.objects_below(f"{join(root, 'a_dseg.ome.zarr')}/"))


def refusal(act, *arguments):
    with pytest.raises(CaseError) as caught:
        act(*arguments)
    return caught.value.code


def test_a_case_is_done_and_stays_so_until_a_chunk_changes(place):
    store, root = place
    run(store, root, labels(LONG))
    assert is_done(store, root)
    np.testing.assert_array_equal(found(store, root), labels(LONG))
    chunk = join(root, "a_dseg.ome.zarr", "0/c/0/0/1")
    whole = store.read(chunk)
    store.remove(chunk)
    assert not is_done(store, root)
    store.write(chunk, whole)
    assert is_done(store, root)
    store.write(join(root, "a_dseg.ome.zarr", "0/c/0/0/2"), whole)
    assert not is_done(store, root)


def test_a_chunk_that_was_lost_is_made_again_and_one_that_was_edited_stays(place):
    store, root = place
    run(store, root, labels(LONG))
    chunk = join(root, "a_dseg.ome.zarr", "0/c/0/0/1")
    store.remove(chunk)
    run(store, root, labels(LONG))
    assert is_done(store, root)
    store.write(chunk, b"edited")
    assert not is_done(store, root)
    assert refusal(run, store, root, labels(LONG)) == "output_foreign"
    assert store.read(chunk) == b"edited"


@pytest.mark.slow
@pytest.mark.parametrize("before", [None, LONG, SHORT])
def test_killed_before_any_change_it_is_not_done_and_the_next_run_does_it(place, before):
    store, root = place
    wanted = labels((200, 6, 5), seed=1)
    for changes in range(100):
        folder = join(root, str(changes))
        if before is not None:
            run(store, folder, labels(before))
        try:
            run(dying(store, changes), folder, wanted)
        except KilledError:
            if changes > 0:
                assert not is_done(store, folder)
            run(store, folder, wanted)
        else:
            assert changes > 5
            break
        assert is_done(store, folder)
        np.testing.assert_array_equal(found(store, folder), wanted)
        assert below(store, folder) == {"0/c/0/0/0", "0/c/0/0/1", "0/zarr.json", "zarr.json"}
    else:
        pytest.fail("it is never done")


@pytest.mark.parametrize("before", [None, SHORT])
def test_a_stream_is_killed_before_any_change_and_the_next_run_does_it(place, before, monkeypatch):
    monkeypatch.setattr(nifti, "ENCODED_BYTES", 0)
    monkeypatch.setattr(s3_calls, "STREAM_PART", 1000)
    store, root = place
    for changes in range(10):
        folder = join(root, str(changes))
        if before is not None:
            run(store, folder, labels(before), "nifti")
        try:
            run(dying(store, changes), folder, labels(LONG), "nifti")
        except KilledError:
            if changes > 0:
                assert not is_done(store, folder, "nifti")
            run(store, folder, labels(LONG), "nifti")
        else:
            assert changes > 3
            break
        assert is_done(store, folder, "nifti")
        np.testing.assert_array_equal(found(store, folder, ".nii.gz"), labels(LONG))
    else:
        pytest.fail("it is never done")


def test_while_chunks_are_replaced_no_reader_takes_the_folder_for_a_volume(place):
    store, root = place
    run(store, root, labels(LONG))
    for changes in range(2, 8):
        with pytest.raises(KilledError):
            run(dying(store, changes), root, labels(LONG, seed=changes))
        assert refusal(found, store, root) == "not_ome_zarr"


def test_chunks_that_are_no_longer_wanted_are_removed(place):
    store, root = place
    run(store, root, labels(LONG))
    assert len(below(store, root)) == 3 + 2 + 2 + 1
    run(store, root, labels(SHORT))
    assert below(store, root) == {"0/c/0/0/0", "0/c/0/0/1", "0/zarr.json", "zarr.json"}
    if root.startswith("/"):
        assert not Path(root, "a_dseg.ome.zarr", "1").exists()


@pytest.mark.parametrize("kinds", [("nifti", "ome-zarr"), ("ome-zarr", "nifti")])
def test_a_label_map_in_another_format_takes_the_place_of_ours_and_of_no_other(place, kinds):
    store, root = place
    old, new = kinds
    endings = {"nifti": ".nii.gz", "ome-zarr": ".ome.zarr"}
    run(store, root, labels(LONG), old)
    run(store, root, labels(LONG), new)
    assert is_done(store, root, new)
    assert not store.exists(join(root, f"a_dseg{endings[old]}"))
    np.testing.assert_array_equal(found(store, root, endings[new]), labels(LONG))
    theirs = join(root, {"nifti": "a_dseg.nii.gz", "ome-zarr": "a_dseg.ome.zarr/0/c/0/0/0"}[old])
    store.write(theirs, b"of another hand")
    run(store, root, labels(SHORT), new)
    assert store.read(theirs) == b"of another hand"
    assert is_done(store, root, new)


@pytest.mark.parametrize("name", ["", "/zarr.json", "/0/c/0/0/0", "/notes/me.txt"])
def test_a_folder_or_a_file_that_is_not_ours_is_never_replaced(place, name):
    store, root = place
    theirs = join(root, f"a_dseg.ome.zarr{name}")
    store.write(theirs, b"theirs")
    assert refusal(run, store, root, labels(SHORT)) == "output_foreign"
    assert store.read(theirs) == b"theirs"
    assert not store.exists(join(root, "a_dseg.json"))


def test_what_is_added_to_a_folder_of_ours_keeps_it_from_being_replaced(place):
    store, root = place
    run(store, root, labels(SHORT))
    store.write(join(root, "a_dseg.ome.zarr", "notes.txt"), b"theirs")
    assert not is_done(store, root)
    assert refusal(run, store, root, labels(LONG)) == "output_foreign"
    assert store.read(join(root, "a_dseg.ome.zarr", "notes.txt")) == b"theirs"


def test_a_link_in_a_folder_is_no_file_of_ours(tmp_path):
    store, root = Store(), str(tmp_path)
    run(store, root, labels(SHORT))
    chunk = tmp_path / "a_dseg.ome.zarr" / "0/c/0/0/1"
    chunk.rename(tmp_path / "elsewhere")
    chunk.symlink_to(tmp_path / "elsewhere")
    assert not is_done(store, root)
    assert refusal(run, store, root, labels(SHORT)) == "output_foreign"
    assert chunk.is_symlink()
    assert (tmp_path / "elsewhere").exists()


def test_the_record_knows_the_folder_by_etags_alone(s3):
    """So a resume lists the folder, and reads none of it."""
    root = s3.bucket("etags")
    run(s3.store, root, labels(LONG))
    url = join(root, "a_dseg.json")
    known = read_sidecar(s3.store.read(url))
    folder = f"{join(root, 'a_dseg.ome.zarr')}/"
    assert known.output.etag == s3.store.fingerprint(folder).etag is not None
    never = replace(known, output=replace(known.output, sha256=digest_bytes(b"never stored")))
    s3.store.write(url, write_sidecar(never))
    assert is_done(s3.store, root)
