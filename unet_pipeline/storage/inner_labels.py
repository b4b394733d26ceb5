"""Masks within an image: the label images of an OME-Zarr folder, ``x.ome.zarr/labels/liver``.

Their URL says that they are volumes, and their name is that of the image (``storage/formats.py``),
so they pair with it as any mask of that name does.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.formats import is_inner_label, is_volume_folder
from unet_pipeline.storage.names import Volume, is_safe
from unet_pipeline.storage.store import Store, join

_AT_ONCE = 32  # requests under way
_MOST_BYTES = 2**20  # of the list of names
_WRONG = (ValueError, RecursionError, KeyError, TypeError, AttributeError)


def labels_within(store: Store, images: Sequence[Volume]) -> list[Volume]:
    """Return the label images that the metadata of some images name, each as a volume."""
    folders = [image for image in images if is_volume_folder(image.urls[0])]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda image: list(_urls(store, image.urls[0])), folders)
        return [
            Volume(image.name, (url,))
            for image, urls in zip(folders, found, strict=True)
            for url in urls
        ]


def _urls(store: Store, image: str) -> Iterator[str]:
    """Yield the URLs of an image's labels: of Zarr 3, or else 2. A list that is none has none."""
    for name in ("zarr.json", ".zattrs"):
        try:
            data = store.read_at_most(join(image, "labels", name), _MOST_BYTES)
        except CaseError:
            continue
        try:
            found = json.loads(data)
            names = (found["attributes"]["ome"] if name == "zarr.json" else found)["labels"]
            names = names if isinstance(names, list) else []
            urls = [join(image, "labels", one) for one in names if is_safe(one)]
        except _WRONG:
            return
        yield from (url for url in dict.fromkeys(urls) if is_inner_label(url))
        return
