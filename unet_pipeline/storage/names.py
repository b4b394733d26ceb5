"""What file names say: which files are volumes or masks, which are channels of one image.

A *name* is a file's path below the cohort's prefix, without its NIfTI suffix.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

# More numbered files than this under one name are taken for cases, not channels.
MAX_CHANNELS = 16

_FLAGS = re.IGNORECASE | re.DOTALL
_NIFTI = re.compile(r"(?P<stem>.+)\.(nii|hdr|img)(\.gz)?", _FLAGS)
_MASK = re.compile(r".+[-_.](mask|msk|seg|labels?|dseg|probseg)", _FLAGS)
_MASK_FOLDER = re.compile(r"(masks?|labels?|segmentations?)(Tr|Ts)?", _FLAGS)
_OWN_OUTPUT = re.compile(r".+_dseg", _FLAGS)
_USUAL_SUFFIXES = re.compile(
    r"(?<=.)([-_.](mask|msk|seg|labels?|dseg|probseg|image|img|0000))+$", _FLAGS
)
_CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>[0-9]{4})", _FLAGS)
_BIDS_ENTITY = re.compile(r"(sub|ses|acq|run)-[A-Za-z0-9]+")


@dataclass(frozen=True)
class Volume:
    """An image or a mask as listed: its name, and the URL of each channel."""

    name: str
    urls: tuple[str, ...]


def without_nifti_suffix(path: str) -> str | None:
    """Return ``path`` without ``.nii``, ``.hdr`` or ``.img``, with ``.gz`` or without.

    None if it is no visible NIfTI file.
    """
    found = _NIFTI.fullmatch(path)
    if found is None or any(part.startswith(".") for part in _visible_parts(path)):
        return None
    return found["stem"]


def is_pair_header(url: str) -> bool:
    """Say whether a file holds the header of a NIfTI pair, whose voxels lie in another."""
    return url.lower().endswith((".hdr", ".hdr.gz"))


def is_pair_voxels(url: str) -> bool:
    """Say whether a file holds the voxels of a NIfTI pair."""
    return url.lower().endswith((".img", ".img.gz"))


def voxel_files(url: str) -> tuple[str, ...]:
    """Return where the voxels of a volume may lie: ``x.img`` or ``x.img.gz`` for ``x.hdr``.

    The likelier comes first: compressed voxels beside a compressed header.
    """
    if not is_pair_header(url):
        return (url,)
    at = url.lower().rindex(".hdr")
    image, packed = (".IMG", ".IMG.GZ") if url[at + 1 : at + 4].isupper() else (".img", ".img.gz")
    files = f"{url[:at]}{image}", f"{url[:at]}{packed}"
    return files[::-1] if url.lower().endswith(".gz") else files


def is_mask(name: str) -> bool:
    """Say whether the name is that of a label map.

    It ends with ``_mask``, ``_seg``, ``_label``, ``_dseg`` ..., or lies in a folder ``labels``,
    ``masks``, ``labelsTr`` ...
    """
    *folders, last = name.split("/")
    in_mask_folder = any(_MASK_FOLDER.fullmatch(folder) for folder in folders)
    return in_mask_folder or _MASK.fullmatch(last) is not None


def is_own_output(name: str) -> bool:
    """Say whether the name ends like that of a label map that this package writes."""
    return _OWN_OUTPUT.fullmatch(_last(name)) is not None


def is_safe(name: str) -> bool:
    """Say whether ``name`` can stand below an output prefix, and in a page or a log, as it is."""
    return "\\" not in name and name.isprintable() and not ({"", ".", ".."} & set(name.split("/")))


def escaped(name: str) -> str:
    """Return ``name`` with all that makes it unsafe written as ``%XX``."""
    parts = ("".join(map(_escaped, part)) for part in name.split("/"))
    return "/".join(
        part.replace(".", "%2E") if part in {".", ".."} else part or "%" for part in parts
    )


def group_channels(volumes: Iterable[Volume]) -> list[Volume]:
    """Join ``x_0000``, ``x_0001`` ... into one image ``x`` with its channels in order.

    Only an unbroken row from ``0000`` is joined, of at most ``MAX_CHANNELS`` files: ``x_0001`` on
    its own is a numbered case.
    """
    rows: dict[str, dict[int, Volume]] = defaultdict(dict)
    images = []
    for volume in volumes:
        found = _CHANNEL.fullmatch(volume.name)
        if found and int(found["channel"]) not in rows[found["name"]]:
            rows[found["name"]][int(found["channel"])] = volume
        else:
            images.append(volume)
    for name, row in rows.items():
        if sorted(row) == list(range(len(row))) and len(row) <= MAX_CHANNELS:
            images.append(Volume(name, tuple(row[i].urls[0] for i in sorted(row))))
        else:
            images.extend(row.values())
    return images


def pair(
    images: Sequence[Volume], masks: Sequence[Volume]
) -> Iterator[tuple[Volume | None, list[Volume]]]:
    """Find the mask of each image by name.

    One image and one mask always match. Otherwise, in this order: equal names; equal names
    without the usual suffixes (``CT_image``, ``CT_mask``); the same without the folders, and then
    by BIDS subject, session, acquisition and run, both only where image and mask are each alone.

    Yields
    ------
    image, masks
        Each image once, with the masks that fit: none, one, or several that fit alike; then
        ``None`` with each mask that fits no image.
    """
    if len(images) == len(masks) == 1:
        yield images[0], [masks[0]]
        return
    left, free = list(images), list(masks)
    for key, must_be_alone in _KEYS:
        found = list(_fits(left, free, key, images if must_be_alone else left))
        if must_be_alone:
            found = [(image, fitting) for image, fitting in found if len(fitting) == 1]
        yield from found
        taken = {id(mask) for _, fitting in found for mask in fitting}
        matched = {id(image) for image, _ in found}
        left = [image for image in left if id(image) not in matched]
        free = [mask for mask in free if id(mask) not in taken]
    yield from ((image, []) for image in left)
    yield from ((None, [mask]) for mask in free)


_Key = Callable[[str], str | None]


def _fits(
    images: Sequence[Volume], masks: Sequence[Volume], key: _Key, rivals: Sequence[Volume]
) -> Iterator[tuple[Volume, list[Volume]]]:
    """Yield each image that alone has its key among ``rivals``, with the masks of that key."""
    masks_by_key: dict[str | None, list[Volume]] = defaultdict(list)
    for mask in masks:
        masks_by_key[key(mask.name)].append(mask)
    counts: dict[str | None, int] = defaultdict(int)
    for rival in rivals:
        counts[key(rival.name)] += 1
    for image in images:
        name = key(image.name)
        if name is not None and counts[name] == 1 and masks_by_key[name]:
            yield image, masks_by_key[name]


def _same(name: str) -> str:
    return name


def _without_suffixes(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{_USUAL_SUFFIXES.sub('', last)}"


def _without_folders(name: str) -> str:
    return _last(_without_suffixes(name))


def _bids_subject(name: str) -> str | None:
    entities = [part for part in _last(name).split("_") if _BIDS_ENTITY.fullmatch(part)]
    return "_".join(entities) if entities and entities[0].startswith("sub-") else None


# Each way to compare two names, and whether it may only be used where no other image of the whole
# cohort is alike, and one mask: without its folder ``CT_image`` says little among many patients.
_KEYS: tuple[tuple[_Key, bool], ...] = (
    (_same, False),
    (_without_suffixes, False),
    (_without_folders, True),
    (_bids_subject, True),
)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _visible_parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {".", ".."}]


def _escaped(character: str) -> str:
    if character.isprintable() and character != "\\":
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
