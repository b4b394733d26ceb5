"""What file names say: which files are volumes or masks, which are channels of one image.

A *name* is a file's path below the cohort's prefix, without the ending of its
format.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from unet_pipeline.storage.formats import split_name
from unet_pipeline.texts import shown

# More numbered files than this under one name are taken for cases, not channels.
MAX_CHANNELS = 16

_FLAGS = re.IGNORECASE | re.DOTALL
_MASK_WORD = r"(masks?|msk|segs?|segmentations?|labels?|dseg|probseg)"
_MASK = re.compile(rf"(.+[-_.])?{_MASK_WORD}|{_MASK_WORD}[-_.]?[0-9]+", _FLAGS)
_MASK_FOLDER = re.compile(r"(masks?|labels?|segs?|segmentations?)(Tr|Ts)?", _FLAGS)
_OWN_OUTPUT = re.compile(r".+_dseg", _FLAGS)
_CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>[0-9]{4})", _FLAGS)
# The four sequences of BraTS, by the names of their files in 2023 and before, and as bundles say.
_SEQUENCE = re.compile(
    r"(?P<name>.+)[-_](?P<sequence>t1n|t1c|t2w|t2f|t1|t1ce|t1gd|t2|flair)", _FLAGS
)
_SEQUENCES = {
    **dict.fromkeys(("t1n", "t1", "t1w"), "t1"),
    **dict.fromkeys(("t1c", "t1ce", "t1gd"), "t1c"),
    **dict.fromkeys(("t2w", "t2"), "t2"),
    **dict.fromkeys(("t2f", "flair", "t2flair"), "flair"),
}
_USUAL_ORDER = ("t1c", "t1", "flair", "t2")  # that of the files by name, since 2023


@dataclass(frozen=True)
class Volume:
    """An image or a mask as listed: its name, and the URL of each channel."""

    name: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Channels:
    """What is known of the channels of an image before it is read.

    Attributes
    ----------
    count
        Channels that the network takes; None if there is no network.
    names
        What the network calls them, in order.
    """

    count: int | None = None
    names: tuple[str, ...] = ()


def without_ending(path: str) -> str | None:
    """Return ``path`` without the ending of its format, such as ``.nii.gz``.

    None if it is no visible volume.
    """
    stem, ending = split_name(path)
    if not ending or any(part.startswith(".") for part in _visible_parts(path)):
        return None
    return stem


def is_mask(name: str) -> bool:
    """Say whether the name is that of a label map.

    It ends with ``_mask``, ``_seg``, ``_label``, ``_dseg`` ..., is such a word, with a number or
    without (``segmentation``, ``label0001``), or lies in a folder ``labels``, ``masks``,
    ``labelsTr`` ...
    """
    *folders, last = name.split("/")
    in_mask_folder = any(is_mask_folder(folder) for folder in folders)
    return in_mask_folder or _MASK.fullmatch(last) is not None


def is_mask_folder(folder: str) -> bool:
    """Say whether a folder is called as one of label maps."""
    return _MASK_FOLDER.fullmatch(folder) is not None


def is_own_output(name: str) -> bool:
    """Say whether the name ends like that of a label map that this package writes."""
    return _OWN_OUTPUT.fullmatch(_last(name)) is not None


def is_safe(name: str) -> bool:
    """Say whether ``name`` can stand below an output prefix, and in a page or a log, as it is."""
    return (
        "\\" not in name
        and shown(name, None) == name
        and not ({"", ".", ".."} & set(name.split("/")))
    )


def escaped(name: str) -> str:
    """Return ``name`` with all that makes it unsafe written as ``<U+XXXX>``, and nothing as <>."""
    parts = shown(name, None).replace("\\", "<U+005C>").split("/")
    unsafe = {".": "<U+002E>", "..": "<U+002E><U+002E>", "": "<>"}
    return "/".join(unsafe.get(part, part) for part in parts)


def group_channels(
    volumes: Iterable[Volume], channels: int | None = None, names: Sequence[str] = ()
) -> list[Volume]:
    """Join ``x_0000``, ``x_0001`` ... into one image ``x`` with its channels in order.

    Only an unbroken row from ``0000`` is joined, of at most ``MAX_CHANNELS`` files: ``x_0001`` on
    its own is a numbered case. So are all of a row where the network takes one channel. The four
    sequences of BraTS (``x-t1c``, ``x-t1n``, ``x-t2f``, ``x-t2w``) are joined likewise.

    Parameters
    ----------
    channels
        Channels that the network takes; None if there is no network.
    names
        What the network calls them, in order; they say the order of sequences.
    """
    images = _join(volumes, _numbered, lambda row: _is_row(row, channels))
    if channels not in (None, len(_USUAL_ORDER)):
        return images
    order = sequence_order(names) or _USUAL_ORDER
    return _join(images, _sequence, lambda row: list(order) if row >= set(order) else [])


def sequence_order(names: Sequence[str]) -> tuple[str, ...]:
    """Return the order of BraTS's sequences that channels' names say; empty if they do not."""
    plain = (re.sub(r"[^a-z0-9]", "", name.lower()) for name in names)
    order = tuple(_SEQUENCES.get(name, "") for name in plain)
    return order if sorted(order) == sorted(_USUAL_ORDER) else ()


def has_sequences(image: Volume) -> bool:
    """Say whether the channels of an image were joined as sequences, rather than by number."""
    stems = (without_ending(url.rpartition("/")[2]) or "" for url in image.urls)
    return len(image.urls) > 1 and all(_SEQUENCE.fullmatch(stem) for stem in stems)


def without_sequence(name: str) -> str:
    """Return a name without the sequence at its end: ``x`` for ``x-t1c``."""
    found = _SEQUENCE.fullmatch(name)
    return found["name"] if found else name


_Part = int | str


def _join(
    volumes: Iterable[Volume],
    part_of: Callable[[str], tuple[str, _Part] | None],
    order: Callable[[set[_Part]], Sequence[_Part]],
) -> list[Volume]:
    """Join the parts of one name in the order that is said of them; empty to leave them apart."""
    rows: dict[str, dict[_Part, Volume]] = defaultdict(dict)
    images = []
    for volume in volumes:
        found = part_of(volume.name)
        if found and len(volume.urls) == 1 and found[1] not in rows[found[0]]:
            rows[found[0]][found[1]] = volume
        else:
            images.append(volume)
    for name, row in rows.items():
        joined = order(set(row))
        if joined:
            images.append(Volume(name, tuple(row[part].urls[0] for part in joined)))
        images.extend(volume for part, volume in row.items() if part not in joined)
    return images


def _numbered(name: str) -> tuple[str, _Part] | None:
    found = _CHANNEL.fullmatch(name)
    return (found["name"], int(found["channel"])) if found else None


def _sequence(name: str) -> tuple[str, _Part] | None:
    found = _SEQUENCE.fullmatch(name)
    return (found["name"], _SEQUENCES[found["sequence"].lower()]) if found else None


def _is_row(row: set[_Part], channels: int | None) -> Sequence[_Part]:
    unbroken = row == set(range(len(row)))
    most = 1 if channels == 1 else MAX_CHANNELS
    return list(range(len(row))) if unbroken and len(row) <= most else []


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _visible_parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {".", ".."}]
