"""Which cases are done: a case is, if the digests of its input, weights and settings still match.

The record is the sidecar that is written last, beside the label map, as the commit mark; see
``storage/sidecar.py``. A sidecar that is not sound, whatever is wrong with it, means that the case
is not done. So does a label map whose digest is not the sidecar's: an equal etag, which the store
gave for these very bytes, spares reading it; where there is none it is read.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.chunk_folders import digest_of_all, is_folder
from unet_pipeline.storage.sidecar import (
    MOST_BYTES,
    InputDigest,
    OutputDigest,
    RunFacts,
    Sidecar,
    read_sidecar,
)
from unet_pipeline.storage.store import Store, join

_BLOCK = 4 * 2**20
_LARGE = 2**17  # bytes that are worth being digested on another thread


def digest_bytes(data: bytes | bytearray | memoryview) -> str:
    """Return ``sha256:`` and the SHA-256 of ``data`` in hexadecimal."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_json(value: Any) -> str:
    """Return the digest of plain JSON types; the order of keys makes no difference.

    Raises
    ------
    ValueError
        For values that JSON cannot hold, NaN and infinity among them.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return digest_bytes(text.encode("utf-8"))


class DigestingReader(io.RawIOBase):
    """A file that digests what is read from it, large blocks on a thread of its own.

    At most one block waits to be digested. Closing leaves the file open.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash = file, hashlib.sha256()
        self._pool = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read into ``buffer``, and digest what was read."""
        data = self._file.read(len(buffer))
        self._wait()
        if len(data) < _LARGE:
            self._hash.update(data)
        else:
            self._last = self._pool.submit(self._hash.update, data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()
        super().close()

    @property
    def digest(self) -> str:
        """The digest of all that was read so far, as of ``digest_bytes``."""
        self._wait()
        return f"sha256:{self._hash.hexdigest()}"

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()
            self._last = None


def digest_object(store: Store, url: str) -> str:
    """Return the digest of a stored object, read in blocks of some MiB, or of a whole folder."""
    if is_folder(url):
        below = store.objects_below(url)
        return digest_of_all({name: digest_object(store, join(url, name)) for name in below})
    state = hashlib.sha256()
    with store.open(url) as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return f"sha256:{state.hexdigest()}"


def read_record(store: Store, url: str) -> bytes | None:
    """Return the record at ``url`` as it lies there; None for nothing.

    What is too large for a record is cut to one byte more than the most, and so not sound.
    """
    try:
        return store.read_range(url, 0, MOST_BYTES + 1)
    except CaseError as error:
        if error.code == "file_missing":
            return None
        raise


def finished(
    store: Store, inputs: Mapping[str, str], record: bytes, run: RunFacts, label_url: str
) -> Sidecar | None:
    """Return what is known of a case if its label map is what ``run`` would write; else None.

    Parameters
    ----------
    inputs
        URLs of the case's objects by their roles.
    record
        What lies in the place of the case's record, as of ``read_record``.

    Raises
    ------
    RequestError
        If the store as a whole cannot be asked. An input that cannot be read means "not done".
    """
    known = read_sidecar(record)
    if known is None or _made_with(known.run) != _made_with(run):
        return None
    try:
        holds = (
            sorted(one.role for one in known.inputs) == sorted(inputs)
            and _is_unchanged(store, label_url, known.output.bytes, known.output)
            and all(_is_unchanged(store, inputs[one.role], one.size, one) for one in known.inputs)
        )
    except CaseError:
        return None
    return known if holds else None


def still_describes(store: Store, label_url: str, known: Sidecar) -> bool:
    """Say whether a label map is the one that its record was written with."""
    return _is_unchanged(store, label_url, known.output.bytes, known.output)


def _made_with(run: RunFacts) -> tuple[str, str]:
    return run.weights, run.settings_digest


def _is_unchanged(store: Store, url: str, size: int, seen: InputDigest | OutputDigest) -> bool:
    now = store.fingerprint(url)
    if now.size != size:
        return False
    if now.etag is not None and now.etag == seen.etag:
        return True
    return digest_object(store, url) == seen.sha256
