"""What ``torch.save`` wrote, read without running code of the file.

Files of others hold tensors, texts and numbers, some of these numpy's (an epoch's best Dice). The
few names that such files need are allowed here, and nothing else is.
"""

import io
import pickle
import zipfile
from threading import Lock
from typing import Any

import numpy as np
import torch

_NUMBERS = frozenset({"b1", "i4", "i8", "f2", "f4", "f8"})
_loading = Lock()  # what torch may load is set for the whole process


class _NumberType:
    """Stands for ``numpy.dtype``, whose state can be forged so that numbers become pointers."""

    def __init__(self, code: str, *_: Any) -> None:
        if code not in _NUMBERS:
            raise pickle.UnpicklingError("numbers of another type")
        self.dtype = np.dtype(f"<{code}")

    def __setstate__(self, state: Any) -> None:
        """Take nothing from the file; torch.save writes little-endian numbers."""


def _number(kind: _NumberType, data: bytes) -> Any:
    """Return a number; stands for numpy's ``scalar``."""
    return np.frombuffer(data, kind.dtype, 1).item()


def _latin1(text: str, encoding: str) -> bytes:
    """Return the bytes that pickle wrote as a text; stands for ``_codecs.encode``."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"a text encoded as {encoding!r}")
    return text.encode("latin1")


_ALLOWED: list[Any] = [
    (_NumberType, "numpy.dtype"),
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
    (_latin1, "_codecs.encode"),
]


def load_tensors(data: bytes) -> Any:
    """Read what ``torch.save`` wrote, if it holds nothing but tensors and plain values.

    No other call of ``torch.load`` is in this package: none unpickles what could run code.

    Raises
    ------
    pickle.UnpicklingError
        For anything else in it.
    ValueError
        For a file that unpacks to more than it holds: PyTorch itself compresses nothing.
    """
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            unpacked = sum(part.file_size for part in parts.infolist())
        if unpacked > len(data):
            raise ValueError(f"{unpacked:,} bytes packed into {len(data):,}")
    with _loading, torch.serialization.safe_globals(_ALLOWED):
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
