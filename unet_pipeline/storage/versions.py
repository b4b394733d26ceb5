"""One version of each object of a case, from the first look at it to the last.

The gate sees the headers in one process, a worker reads the voxels in another. What the first saw
travels with the case; whoever opens an object holds it against that.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.faults import input_changed
from unet_pipeline.storage.fingerprint import Fingerprint
from unet_pipeline.storage.store import Store

Versions = Mapping[str, Fingerprint]  # by URL


def expect(url: str, now: Fingerprint, versions: Versions) -> None:
    """Hold what is there now against what was seen.

    Raises
    ------
    CaseError
        ``input_changed``.
    """
    if not now.is_of(versions.get(url, now)):
        raise input_changed(url)


@contextmanager
def one_version(store: Store, url: str, versions: Versions) -> Iterator[None]:
    """Hold an object against its version after the block, too, and whatever the block found in it.

    What cannot be decoded may be a mixture of two versions: that it was changed is then the fault.
    """
    try:
        yield
    except CaseError:
        expect_all(store, {url: versions[url]})
        raise
    expect_all(store, {url: versions[url]})


def expect_all(store: Store, versions: Versions) -> None:
    """Ask once more for the version of each object; raises as ``expect``."""
    for url, fingerprint in versions.items():
        now = store.find(url)
        if now is None or not now.is_of(fingerprint):
            raise input_changed(url)
