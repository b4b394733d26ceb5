"""The formats of volumes: ``storage/formats.py`` has a line for each, and here is its module.

The module of the format ``x-y`` is ``x_y``. It has a ``READER``, and a ``WRITER`` if label maps may
have its format.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy.typing as npt

from unet_pipeline.records import Case
from unet_pipeline.storage.formats import FORMATS, format_of
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.formats.protocol import Reader, Writer
from unet_pipeline.volume.header import Header


def reader_of(url: str) -> Reader:
    """Return what reads ``url``, by its name; names of no format are read as the first one."""
    reader: Reader = _module((format_of(url) or FORMATS[0]).name).READER
    return reader


def writer_of(name: str = FORMATS[0].name) -> Writer:
    """Return what writes label maps of a format."""
    writer: Writer = _module(name).WRITER
    return writer


def nifti_file(values_XYZ: npt.NDArray[Any], like: Header) -> bytes:
    """Return a ``.nii.gz`` file with the place of ``like``."""
    ((_, data),) = writer_of().encode(values_XYZ, like)
    return data if isinstance(data, bytes) else b"".join(data)


def objects_by_role(store: Store, case: Case, level: int = 0) -> Mapping[str, str]:
    """Return the URL of each object of a case: ``image0``, ``image1`` ..., ``mask``, ``mask3`` ...

    Where a volume is made up of several, the others have its role with an ending: ``image0.voxels``
    is the ``.img`` of a NIfTI pair.

    Raises
    ------
    CaseError
        Where one is not there.
    """
    return {
        f"{role}{ending}": each
        for role, url in case.by_role.items()
        for ending, each in reader_of(url).objects(store, url, level).items()
    }


def _module(name: str) -> Any:
    return import_module(f"{__name__}.{name.replace('-', '_')}")
