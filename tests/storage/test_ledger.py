import hashlib
import io
import json
import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from sidecars import FACTS, SOUND, plain

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.records import Case
from unet_pipeline.storage.ledger import (
    DigestingReader,
    digest_bytes,
    digest_json,
    digest_object,
    finished,
    read_record,
)
from unet_pipeline.storage.sidecar import InputDigest, OutputDigest, write_sidecar
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.formats import objects_by_role

BLOCKS = (5, 200_000, 3, 300_000, 1_000_000)  # on this thread and on the other


@pytest.fixture(params=["memory", "local"])
def done(request, tmp_path):
    """A store with a finished case: its root, the case and its sidecar."""
    root = str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    return begin(Store(), root)


def begin(store, root):
    case = Case("a", (join(root, "a_0000.nii"), join(root, "a_0001.nii")), join(root, "a_mask.nii"))
    for role, url in objects_by_role(store, case).items():
        store.write(url, role.encode())
    return finish(store, root, case)


def finish(store, root, case):
    store.write(join(root, "a_dseg.nii.gz"), b"labels")
    inputs = []
    for role, url in objects_by_role(store, case).items():
        mark = store.fingerprint(url)
        inputs.append(InputDigest(role, mark.size, mark.etag, digest_object(store, url)))
    return store, root, case, replace(SOUND, inputs=tuple(inputs))


def still_done(store, root, case, sidecar, **changes):
    label_url = join(root, "a_dseg.nii.gz")
    record, run = write_sidecar(sidecar), replace(FACTS, **changes)
    try:
        inputs = objects_by_role(store, case)
    except CaseError:  # one half of a pair is gone
        return False
    return finished(store, inputs, record, run, label_url) == sidecar


def roles_of(sidecar):
    return {one.role for one in sidecar.inputs}


def test_a_finished_case_is_done(done):
    assert still_done(*done)
    assert roles_of(done[3]) == {"image0", "image1", "mask"}


def test_other_weights_or_settings(done):
    assert not still_done(*done, weights=digest_bytes(b"other"))
    assert not still_done(*done, settings_digest=digest_json({"overlap": 0.25}))


def test_a_finished_case_in_object_storage(s3):
    store, _, case, _ = done = begin(s3.store, s3.bucket())
    store.write(case.images[0], b"image0")
    assert still_done(*done)
    store.write(case.images[0], b"0egami")
    assert not still_done(*done)
    store.remove(case.images[0])
    assert not still_done(*done)


@pytest.mark.parametrize("role", ["image0", "image1", "mask"])
@pytest.mark.parametrize("content", ["same size", "longer"])
def test_a_changed_input(done, role, content):
    store, _, case, _ = done
    changed = role[::-1] if content == "same size" else role * 2
    store.write(objects_by_role(store, case)[role], changed.encode())
    assert not still_done(*done)


def test_an_input_written_again_unchanged(done):
    store, _, case, _ = done
    store.write(case.images[0], b"image0")
    assert still_done(*done)


@pytest.mark.parametrize("changed", ["a.hdr", "a.img", "a_mask.hdr", "a_mask.img.gz"])
def test_either_file_of_a_pair_may_change(tmp_path, changed):
    store, root = Store(), str(tmp_path)
    case = Case("a", (join(root, "a.hdr"),), join(root, "a_mask.hdr"))
    for name in ("a.hdr", "a.img", "a_mask.hdr", "a_mask.img.gz"):
        store.write(join(root, name), name.encode())
    finished = finish(store, root, case)
    assert roles_of(finished[3]) == {"image0", "image0.voxels", "mask", "mask.voxels"}
    assert still_done(*finished)
    store.write(join(root, changed), changed[::-1].encode())
    assert not still_done(*finished)
    store.remove(join(root, changed))
    assert not still_done(*finished)


def test_other_roles(done):
    store, root, case, sidecar = done
    for other in (
        replace(case, mask=None),
        replace(case, images=case.images[:1]),
        replace(case, images=case.images[::-1]),
    ):
        assert not still_done(store, root, other, sidecar)


def test_a_label_map_that_is_missing_or_cut(done):
    store, root, _, _ = done
    store.write(join(root, "a_dseg.nii.gz"), b"label")
    assert not still_done(*done)
    store.remove(join(root, "a_dseg.nii.gz"))
    assert not still_done(*done)


def test_a_label_map_whose_digest_is_not_the_sidecars_is_never_done(done):
    store, root, _, sidecar = done
    store.write(join(root, "a_dseg.nii.gz"), b"LABELS")  # of the same size
    assert not still_done(*done)
    assert sidecar.output.etag is None


def test_an_etag_of_the_label_map_spares_reading_it(s3):
    store, root, case, sidecar = begin(s3.store, s3.bucket())
    etag = store.write(join(root, "a_dseg.nii.gz"), b"labels").etag
    assert etag == store.fingerprint(join(root, "a_dseg.nii.gz")).etag
    sidecar = replace(sidecar, output=OutputDigest(6, digest_bytes(b"never read"), etag))
    assert still_done(store, root, case, sidecar)
    store.write(join(root, "a_dseg.nii.gz"), b"LABELS")
    assert not still_done(store, root, case, sidecar)


def test_a_copied_archive_is_known_by_its_digests(done, tmp_path):
    store, root, case, sidecar = done
    copied = join(str(tmp_path), "copy")
    for url in store.list_files(root):
        store.write(join(copied, url.rpartition("/")[2]), store.read(url))
    there = [join(copied, url.rpartition("/")[2]) for url in (*case.images, case.mask)]
    assert still_done(store, copied, Case("a", tuple(there[:2]), there[2]), sidecar)


def test_a_missing_input(done):
    store, _, case, _ = done
    store.remove(case.mask)
    assert not still_done(*done)
    with pytest.raises(CaseError) as caught:
        store.fingerprint(case.mask)
    assert caught.value.code == "file_missing"


def with_inputs(sidecar, **changes):
    return replace(sidecar, inputs=tuple(replace(one, **changes) for one in sidecar.inputs))


def test_equal_etags_spare_the_reading_and_others_do_not(s3, tmp_path):
    for store, root, trusts_etag in ((s3.store, s3.bucket(), True), (Store(), tmp_path, False)):
        *case, sidecar = begin(store, str(root))
        never_stored = with_inputs(sidecar, sha256=digest_bytes(b"what was never stored"))
        assert still_done(*case, never_stored) == trusts_etag
    *case, sidecar = begin(s3.store, s3.bucket())
    assert still_done(*case, with_inputs(sidecar, etag="of an upload in parts"))


def test_an_input_that_is_named_twice(done):
    *case, sidecar = done
    assert not still_done(*case, replace(sidecar, inputs=(*sidecar.inputs, sidecar.inputs[0])))
    assert not still_done(*case, replace(sidecar, inputs=()))


def test_a_case_without_a_record(done):
    store, root, _, _ = done
    assert read_record(store, join(root, "a_dseg.json")) is None


def test_a_store_that_refuses_is_not_taken_for_an_undone_case(s3):
    with pytest.raises(RequestError):
        read_record(s3.store, "s3://no-such-bucket/a_dseg.json")


@given(plain)
def test_digest_of_json_ignores_the_order_of_keys(value):
    def turned(item):
        if isinstance(item, dict):
            return {key: turned(inner) for key, inner in reversed(item.items())}
        return [turned(inner) for inner in item] if isinstance(item, list) else item

    def encodable(item):
        try:
            json.dumps(item, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return False
        return True

    if encodable(value):
        assert digest_json(value) == digest_json(turned(value))
        assert digest_json(value) != digest_json([value])


def test_digests_have_known_values():
    assert digest_bytes(b"") == f"sha256:{hashlib.sha256().hexdigest()}"
    assert digest_json({"b": 1, "a": "é"}) == digest_bytes('{"a":"é","b":1}'.encode())
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_json(float("nan"))


def test_what_is_read_is_digested():
    data = bytes(range(256)) * 6000
    with DigestingReader(io.BytesIO(data)) as file:
        read = b"".join(file.read(size) for size in BLOCKS)
        assert file.digest == digest_bytes(data[: len(read)])
        read += file.read()
    assert read == data
    assert file.digest == digest_bytes(data)
