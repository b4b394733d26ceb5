"""Objects that are never whole in memory: stored as a whole or not at all, on the same terms."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from unet_pipeline.errors import CaseError
from unet_pipeline.storage import s3 as s3_calls
from unet_pipeline.storage.fingerprint import Fingerprint
from unet_pipeline.storage.objects import Streamed
from unet_pipeline.storage.store import Store, join

PART = 2**16
PIECES = [np.random.default_rng(n).bytes(size) for n, size in enumerate((10, 40_000, 90_000, 1, 0))]
STALE = Fingerprint(4, "0" * 32)  # of a version that is not there
LARGE, SMALL = PIECES * 2, PIECES[:2]


class CutError(BaseException):
    """The end of a process, as far as its store can tell."""


@dataclass(frozen=True)
class Cut:
    """Parts of which some never come."""

    parts: int

    def __iter__(self):
        yield from LARGE[: self.parts]
        raise CutError


def streamed(pieces):
    return Streamed(pieces, sum(map(len, pieces)))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(s3_calls, "STREAM_PART", PART)


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    if request.param == "local":
        return Store(), str(tmp_path)
    s3 = request.getfixturevalue("s3")
    return s3.store, s3.bucket("streams")


def uploads(s3, root):
    """Return the uploads of a bucket that have no end."""
    files, path = s3.store._locate(root)
    bucket = files.split_path(path)[0]
    with suppress(FileNotFoundError):  # rclone's answer where none was ever begun
        return files.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads", [])
    return []


@pytest.mark.parametrize("pieces", [LARGE, SMALL, [], [b"x" * PART], [b"x" * PART, b"y"]])
def test_what_is_stored_are_the_parts(place, pieces):
    store, root = place
    url = join(root, "a.bin")
    written = store.write(url, streamed(pieces), over=None)
    assert store.read(url) == b"".join(pieces)
    assert written.size == len(b"".join(pieces))
    again = store.write(url, streamed(SMALL), over=store.find(url))
    assert store.read(url) == b"".join(SMALL)
    assert again.etag == store.fingerprint(url).etag


@pytest.mark.parametrize("came", [0, 3, 6, len(LARGE)])
@pytest.mark.parametrize("before", [None, b"old"])
def test_one_that_is_cut_leaves_what_was_there(place, request, came, before):
    store, root = place
    url = join(root, "a.bin")
    if before is not None:
        store.write(url, before)
    with pytest.raises(CutError):
        store.write(url, Streamed(Cut(came), 10**6), over=store.find(url))
    there = store.find(url)
    assert (None if there is None else store.read(url)) == before
    if root.startswith("s3:"):
        assert uploads(request.getfixturevalue("s3"), root) == []
    elif root.startswith("/"):
        assert [path.name for path in Path(root).iterdir()] == ([] if before is None else ["a.bin"])


def test_a_part_that_the_store_refuses_ends_the_upload(s3, monkeypatch):
    url, real = join(s3.bucket("refused"), "a.bin"), s3_calls._sent

    def to_another_upload(files, upload, pieces):
        return real(files, {**upload, "UploadId": "0"}, pieces)

    monkeypatch.setattr(s3_calls, "_sent", to_another_upload)
    with pytest.raises(CaseError) as caught:
        s3.store.write(url, streamed(LARGE), over=None)
    assert caught.value.code in {"storage_failed", "file_missing"}
    assert s3.store.find(url) is None
    assert uploads(s3, url) == []


@dataclass(frozen=True)
class Meanwhile:
    """Parts while which another hand writes there."""

    store: Store
    url: str

    def __iter__(self):
        yield from LARGE[:-1]
        self.store.write(self.url, b"theirs")
        yield LARGE[-1]


@pytest.mark.parametrize("before", [None, b"ours"])
def test_what_came_while_parts_were_sent_is_not_replaced(place, request, before):
    store, root = place
    url = join(root, "a.bin")
    if before is not None:
        store.write(url, before)
    size = sum(map(len, LARGE))
    with pytest.raises(CaseError) as caught:
        store.write(url, Streamed(Meanwhile(store, url), size), over=store.find(url))
    assert caught.value.code == "output_changed"
    assert store.read(url) == b"theirs"
    if root.startswith("s3:"):
        assert uploads(request.getfixturevalue("s3"), root) == []


def test_a_version_that_is_gone_is_not_replaced(s3):
    url = join(s3.bucket("gone"), "a.bin")
    with pytest.raises(CaseError) as caught:
        s3.store.put(url, streamed(LARGE), STALE)
    assert caught.value.code == "output_changed"
    assert s3.store.find(url) is None


def test_a_stream_that_was_stored_and_not_answered_is_known_by_its_bytes(s3):
    url = join(s3.bucket("again"), "a.bin")
    s3.store.write(url, streamed(LARGE))
    other = [*LARGE[:-2], b"y", b""]
    assert len(b"".join(other)) == len(b"".join(LARGE))
    assert s3.store.put(url, streamed(LARGE), STALE) == s3.store.find(url).etag
    for pieces in (other, SMALL):
        with pytest.raises(CaseError) as caught:
            s3.store.put(url, streamed(pieces), STALE)
        assert caught.value.code == "output_changed"
    assert s3.store.read(url) == b"".join(LARGE)


def test_an_upload_without_an_end_is_seen_here(s3):
    """Else the tests above would say nothing."""
    root = s3.bucket("open")
    files, path = s3.store._locate(join(root, "a.bin"))
    bucket, key, _ = files.split_path(path)
    files.call_s3("create_multipart_upload", Bucket=bucket, Key=key)
    assert len(uploads(s3, root)) == 1


def test_memory_holds_a_stream_as_a_whole(tmp_path):
    url = f"memory://{tmp_path.name}/a.bin"
    Store().write(url, streamed(LARGE), over=None)
    assert Store().read(url) == b"".join(LARGE)


CHILD = """
import os, signal, sys
from unet_pipeline.storage import s3 as calls
from unet_pipeline.storage.objects import Streamed
from unet_pipeline.storage.store import Store

class Killed:
    def __iter__(self):
        for _ in range(int(sys.argv[2])):
            yield b"x" * 70_000
        os.kill(os.getpid(), signal.SIGKILL)

calls.STREAM_PART = 2**16
Store().write(sys.argv[1], Streamed(Killed(), 10**6), over=None)
"""


@pytest.mark.parametrize("came", [0, 3])
def test_a_process_that_is_killed_while_it_writes_leaves_nothing_of_it(place, request, came):
    store, root = place
    environment = {**os.environ}
    if root.startswith("s3:"):
        s3 = request.getfixturevalue("s3")
        environment |= {
            "AWS_ENDPOINT_URL": s3.endpoint_url,
            "AWS_ACCESS_KEY_ID": s3.key,
            "AWS_SECRET_ACCESS_KEY": s3.secret,
        }
    url = join(root, "a.bin")
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, url, str(came)], env=environment, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert store.find(url) is None
    if root.startswith("/"):
        assert list(Path(root).iterdir()) == []
    store.write(url, streamed(LARGE), over=None)
    assert store.read(url) == b"".join(LARGE)
