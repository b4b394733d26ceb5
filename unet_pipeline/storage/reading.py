"""Open files of a store, read in order or by seeking."""

import io
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from unet_pipeline.storage.faults import explained, input_changed, keys_are_refused
from unet_pipeline.storage.filesystems import forget


def explained_file(
    raw: BinaryIO, url: str, again: Callable[[str], BinaryIO] | None = None
) -> BinaryIO:
    """Return a file whose faults while reading are said as our own errors.

    Parameters
    ----------
    again
        Opens the object with new keys, where there may be some.
    """
    return cast(BinaryIO, io.BufferedReader(_ExplainedFile(raw, url, again), 2**20))


class _ExplainedFile(io.RawIOBase):
    def __init__(self, raw: BinaryIO, url: str, again: Callable[[str], BinaryIO] | None) -> None:
        self._raw, self._url, self._again = raw, url, again

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._raw.seekable()

    def readinto(self, buffer: Any) -> int:
        with explained(self._url):
            try:
                data = self._raw.read(len(buffer))
            except OSError as error:
                if self._again is None or not keys_are_refused(error):
                    raise
                self._reopen()
                data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _reopen(self) -> None:
        """Go on at the same place, of the same version, with the keys of now."""
        assert self._again is not None  # noqa: S101  asked before
        before: Any = self._raw
        forget(before.fs)
        after: Any = self._again(self._url)
        if after.details.get("ETag") != before.details.get("ETag"):
            raise input_changed(self._url)
        after.seek(before.tell())
        self._raw = after

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def close(self) -> None:
        self._raw.close()
        super().close()
