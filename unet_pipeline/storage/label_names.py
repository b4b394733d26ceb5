"""Names of labels from a file: BIDS's ``dseg.tsv``, or JSON as nnU-Net, MSD and plain tables have.

A table (.tsv) has the columns ``index`` and ``name``. JSON is ``{"1": "liver"}`` or
``{"liver": 1}``, or has that under ``labels`` (``dataset.json``).
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.urls import redact
from unet_pipeline.texts import shown

LARGEST_LABEL = 2**16 - 1
_MOST_BYTES, _MOST_LETTERS = 2**20, 64


def read_label_names(store: Store, url: str) -> dict[int, str]:
    """Return the name of each label but background.

    Raises
    ------
    RequestError
        ``label_names_invalid`` for a file that is neither, or names none.
    """
    data = store.read_at_most(url, _MOST_BYTES)
    try:
        pairs = list(_of_table(data) if url.lower().endswith(".tsv") else _of_json(data))
        names = {int(number): shown(str(name), _MOST_LETTERS) for number, name in pairs}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, csv.Error):
        names = {}
    names = {number: name for number, name in names.items() if 0 < number <= LARGEST_LABEL}
    if not names:
        raise RequestError(
            "label_names_invalid",
            subject=redact(url),
            found="no names of labels",
            wanted="a table (.tsv) with the columns index and name, or JSON such as "
            '{"1": "liver"} or a dataset.json',
            remedy="Correct it, or leave it out: labels are then called by their numbers",
        )
    return dict(sorted(names.items()))


def _of_table(data: bytes) -> Iterator[tuple[Any, Any]]:
    lines = csv.DictReader(io.StringIO(data.decode("utf-8-sig")), delimiter="\t")
    yield from ((line["index"], line["name"]) for line in lines)


def _of_json(data: bytes) -> Iterator[tuple[Any, Any]]:
    said = json.loads(data)
    said = said["labels"] if isinstance(said.get("labels"), Mapping) else said
    for key, value in said.items():
        if isinstance(value, list):  # a region of nnU-Net, which is no label
            continue
        yield (value, key) if isinstance(value, int) else (key, value)
