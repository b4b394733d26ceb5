"""Masks in parts: a folder of files, one structure each, as TotalSegmentator writes them.

They are one reference where the network, or whoever trains one, gives every label a name, and there
is a file of that name. Numbers are then the labels'.
"""

import re
from collections.abc import Mapping, Sequence

from unet_pipeline.records import Part
from unet_pipeline.storage.names import Volume

Labels = Mapping[int, str]


def in_parts(masks: Sequence[Volume], labels: Labels) -> bool:
    """Say whether masks are one structure a file: several in one folder ``segmentations``.

    A single one is, too, if it has the name of one of several labels: its 1 is not label 1.
    """
    folders = {mask.name.rpartition("/")[0] for mask in masks}
    if len(folders) != 1 or folders.pop().rpartition("/")[2].lower() != "segmentations":
        return False
    names = {_plain(name) for number, name in labels.items() if number}
    return len(masks) > 1 or (len(names) > 1 and not names.isdisjoint(_by_name(masks)))


def parts_of(masks: Sequence[Volume], labels: Labels) -> tuple[Part, ...]:
    """Return the file of each label but the background; none unless every label has one.

    Names are compared without case, and spaces or hyphens are underscores: ``Left kidney`` is
    ``left_kidney.nii.gz``.
    """
    names = {number: name for number, name in labels.items() if number}
    if not names or not in_parts(masks, labels) or lacking(masks, names):
        return ()
    files = _by_name(masks)
    return tuple(Part(number, name, files[_plain(name)]) for number, name in sorted(names.items()))


def lacking(masks: Sequence[Volume], labels: Labels) -> list[str]:
    """Return the names of the labels, but the background, that no file has."""
    files = _by_name(masks)
    return [name for number, name in labels.items() if number and _plain(name) not in files]


def _by_name(masks: Sequence[Volume]) -> dict[str, str]:
    return {_plain(mask.name.rpartition("/")[2]): mask.urls[0] for mask in masks}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().lower())
