"""The formats of volumes by their names: plain data, an entry for each.

How each is read and written, its module in ``volume/formats/`` says. The first entry is the format
of files whose names are of none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from unet_pipeline.errors import CaseError


@dataclass(frozen=True)
class Format:
    """What the names of one format's volumes look like.

    Attributes
    ----------
    name
        That of its module, with ``-`` for ``_``.
    title
        What people call it.
    endings
        Of names that are volumes, in lower case.
    voxels
        Endings of headers that lie beside their voxels, and what those then end with, the likelier
        first.
    is_folder
        Whether a volume is a folder, whose files are its chunks.
    label_maps
        Ending of the label maps that are written in it; empty if none are.
    """

    name: str
    title: str
    endings: tuple[str, ...]
    voxels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_folder: bool = False
    label_maps: str = ""


FORMATS = (
    Format("nifti", "NIfTI", (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz"),
           {".hdr": (".img", ".img.gz"), ".hdr.gz": (".img.gz", ".img")}, label_maps=".nii.gz"),
    Format("ome-zarr", "OME-Zarr", (".ome.zarr", ".zarr"), is_folder=True, label_maps=".ome.zarr"),
)  # fmt: skip

# What the URL of a label map ends with; a slash stands for all objects of a folder.
LABEL_MAPS = {
    each.name: f"{each.label_maps}{'/' if each.is_folder else ''}"
    for each in FORMATS
    if each.label_maps
}

_ENDINGS = sorted((e for each in FORMATS for e in each.endings), key=len, reverse=True)
_ANY = "|".join(map(re.escape, _ENDINGS))
_FOLDERS = tuple(e for each in FORMATS if each.is_folder for e in each.endings)
# A label image within an image in chunks: its name is the image's, the rest is its ending.
_INNER = (
    rf"({'|'.join(map(re.escape, _FOLDERS))})/(?-i:labels)"
    rf"/(?![.]|zarr[.]json$|[^/]*({_ANY})$)[^/]+"
)
_VOLUME = re.compile(rf"(?P<stem>.+?)(?P<ending>{_ANY}|{_INNER})", re.IGNORECASE | re.DOTALL)


def split_name(path: str) -> tuple[str, str]:
    """Return a name without the ending of a volume, and that ending; it is empty if it has none."""
    found = _VOLUME.fullmatch(path)
    return (found["stem"], found["ending"]) if found else (path, "")


def format_of(path: str) -> Format | None:
    """Return the format of a volume of that name; None if it is none."""
    ending = split_name(path)[1].partition("/")[0].lower()
    return next((each for each in FORMATS if ending in each.endings), None)


def is_inner_label(path: str) -> bool:
    """Say whether a path is that of a label image within another: ``x.ome.zarr/labels/liver``."""
    return "/" in split_name(path)[1]


def is_volume_folder(path: str) -> bool:
    """Say whether a folder of that name is a volume."""
    plain = path.rstrip("/")
    known = format_of(plain if is_inner_label(plain) else plain.rpartition("/")[2])
    return known is not None and known.is_folder


def volume_around(path: str, base: str) -> str:
    """Return the folder below ``base`` that is a volume and holds ``path``; else ``path``."""
    start = f"{base.rstrip('/')}/"
    parts = path.removeprefix(start).split("/")
    for count, part in enumerate(parts, start=1):
        if is_volume_folder(part):
            return start + "/".join(parts[:count])
    return path


def is_pair_header(url: str) -> bool:
    """Say whether a file holds the header of a pair, whose voxels lie in another."""
    known = format_of(url)
    return known is not None and split_name(url)[1].lower() in known.voxels


def is_pair_voxels(url: str) -> bool:
    """Say whether a file holds the voxels of a pair."""
    known, ending = format_of(url), split_name(url)[1].lower()
    return known is not None and any(ending in of_header for of_header in known.voxels.values())


def voxel_files(url: str) -> tuple[str, ...]:
    """Return where the voxels of a volume may lie: ``x.img`` or ``x.img.gz`` for ``x.hdr``."""
    if not is_pair_header(url):
        return (url,)
    stem, ending = split_name(url)
    known = format_of(url)
    files = known.voxels[ending.lower()] if known else ()
    return tuple(f"{stem}{each.upper() if ending[1:4].isupper() else each}" for each in files)


def half_a_pair(url: str, subject: str = "") -> CaseError:
    """Return the error of a header (.hdr) without voxels, or of voxels (.img) without a header."""
    voxels = is_pair_voxels(url)
    return CaseError(
        "pair_incomplete",
        subject=subject,
        found="voxels (.img) without their header (.hdr)"
        if voxels
        else "a header (.hdr) without its voxels (.img, .img.gz)",
        wanted="both files of the pair, side by side",
        remedy="Add the header; where it is there, name it in place of the voxels"
        if voxels
        else "Add the voxels, or convert the pair to .nii.gz",
    )
