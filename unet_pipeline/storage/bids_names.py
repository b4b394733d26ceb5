"""Names of BIDS: what an image's name says, and the name that its label map has for it. Pure.

``sub-01/ses-a/anat/sub-01_ses-a_run-1_T2w`` becomes ``sub-01/ses-a/anat/sub-01_ses-a_run-1_
space-orig_seg-<model>_desc-T2w_dseg``. ``seg`` says whose segmentation it is, ``desc`` of which
image, so two images of one subject never have one name. The name follows from the image's name and
the model alone, and not from what else the cohort holds.

Source: BIDS 1.11, "BIDS Derivatives", "Segmentations"; entities and their order by its schema.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.formats import split_name

ORIG = "orig"  # the space of the image itself
_ORDER = (
    "sub", "ses", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec",
    "dir", "run", "mod", "echo", "flip", "inv", "mt", "part", "proc", "hemi", "space", "split",
    "recording", "chunk", "atlas", "seg", "scale", "res", "den", "label", "desc",
)  # fmt: skip
_OURS = frozenset({"seg", "desc"})  # entities that say what the label map is
_ANAT = frozenset({"sub", "ses", "task", "acq", "ce", "rec", "run", "echo", "part", "space",
                   "chunk", "atlas", "scale", "res"})  # fmt: skip
# Entities that a label map may have, by the folder of its image; in others BIDS defines none.
_ALLOWED: Mapping[str, frozenset[str]] = {
    "anat": _ANAT,
    "func": _ANAT | {"dir"},
    "dwi": (_ANAT | {"dir"}) - {"task", "ce", "echo"},
}
UNDEFINED = (
    "beh",
    "ct",
    "eeg",
    "fmap",
    "ieeg",
    "meg",
    "micr",
    "motion",
    "mrs",
    "nirs",
    "perf",
    "pet",
)
_ENTITY = re.compile(r"(?P<key>[a-z]+)-(?P<label>[0-9A-Za-z+]+)")
_SUFFIX = re.compile(r"[0-9A-Za-z]+")
_OF_OURS = re.compile(
    r"(?P<before>sub-[^_]+_(.+_)?)seg-[^_]+_(?P<after>(.+_)?desc-[^_]+_dseg)", re.DOTALL
)
_PLAIN = re.compile(r"[^0-9A-Za-z]")


@dataclass(frozen=True)
class BidsName:
    """What the path of a file says, below the root of its tree.

    Attributes
    ----------
    folder
        The lowest: ``anat``, ``func``, ``dwi``, ``pet`` ...
    entities
        Label of each entity, by its key, in the order of the name.
    suffix
        What the image is: ``T1w``, ``bold`` ...
    """

    folder: str
    entities: Mapping[str, str]
    suffix: str


def parse(path: str) -> BidsName | None:
    """Return what the path of an image says; None if it is no name of BIDS."""
    *folders, file = path.split("/")
    *pairs, suffix = split_name(file)[0].split("_")
    found = [_ENTITY.fullmatch(pair) for pair in pairs]
    entities = {one["key"]: one["label"] for one in found if one is not None}
    above = [f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities]
    if (
        "sub" not in entities
        or len(entities) < len(pairs)
        or not _SUFFIX.fullmatch(suffix)
        or folders[:-1] != above
        or not re.fullmatch(r"[a-z]+", folders[-1])
    ):
        return None
    return BidsName(folders[-1], entities, suffix)


def label_of(model: str) -> str:
    """Return the name of a model as a label of BIDS, letters and digits."""
    return _PLAIN.sub("", model) or "model"


def label_map_name(paths: Sequence[str], model: str) -> str:
    """Return the path of a label map below the output, without ending.

    Entities that all channels share, and that a label map may have, are kept; what else the names
    say stands in ``desc``.

    Parameters
    ----------
    paths
        Of the channels, below the root of their tree.

    Raises
    ------
    CaseError
        ``bids_name_invalid`` for what is not named as BIDS has it, or of several subjects.

    >>> label_map_name(["sub-01/anat/sub-01_inv-1_T1w.nii.gz"], "my model")
    'sub-01/anat/sub-01_space-orig_seg-mymodel_desc-inv1T1w_dseg'
    """
    names = [name for name in map(parse, paths) if name is not None]
    if len(names) < len(paths) or len({name.entities["sub"] for name in names}) > 1:
        raise CaseError(
            "bids_name_invalid",
            found="an image that is not named as BIDS has it, or images of several subjects",
            wanted="a path like sub-01/ses-a/anat/sub-01_ses-a_run-1_T1w.nii.gz below the root",
            remedy="Rename it (bids-validator says what is wrong), or take --output-layout simple",
        )
    first = names[0]
    kept = {
        key: label
        for key, label in first.entities.items()
        if key in _allowed(first.folder) and all(o.entities.get(key) == label for o in names)
    }
    said = "".join(_rest(name, kept) for name in names)
    entities = {"space": ORIG} | kept | {"seg": label_of(model), "desc": said}
    file = "_".join(f"{key}-{entities[key]}" for key in sorted(entities, key=_ORDER.index))
    above = [f"{key}-{kept[key]}" for key in ("sub", "ses") if key in kept]
    return "/".join([*above, first.folder, f"{file}_dseg"])


def key_of_image(path: str) -> str | None:
    """Return what the label maps of an image by any model are called; None if BIDS has no name."""
    return key_of_label_map(label_map_name([path], "x")) if parse(path) is not None else None


def key_of_label_map(path: str) -> str | None:
    """Return the name of a label map of ours without folders and model; None for other names.

    >>> key_of_label_map("x/sub-01_space-orig_seg-mymodel_desc-T1w_dseg")
    'sub-01_space-orig_desc-T1w_dseg'
    """
    found = _OF_OURS.fullmatch(path.rpartition("/")[2])
    return f"{found['before']}{found['after']}" if found else None


def _allowed(folder: str) -> frozenset[str]:
    return _ALLOWED.get(folder, frozenset(_ORDER) - _OURS)


def _rest(name: BidsName, kept: Mapping[str, str]) -> str:
    """Return what a name says beyond the entities that are kept, as part of a label."""
    rest = {key: label for key, label in name.entities.items() if key not in kept}
    words = (f"{'' if key == 'desc' else key}{label}" for key, label in rest.items())
    return _PLAIN.sub("", "".join(words) + name.suffix)
