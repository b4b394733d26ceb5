"""Which mask belongs to which image: by names alone, or by a pattern that the request gives.

The layouts that this field uses pair by themselves: equal names with or without usual suffixes,
nnU-Net and MSD (``imagesTr/x``, ``labelsTr/x``), KiTS (``case/imaging``, ``case/segmentation``),
LiTS (``volume-1``, ``segmentation-1``), BraTS (``x-t1c``, ``x-seg``), a mask alone with its image
in a folder (``case/ct``, ``case/mask``), and BIDS with its entities in any order; of label maps of
ours the image that ``desc`` names.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from unet_pipeline.errors import RequestError
from unet_pipeline.storage.bids_names import key_of_image, key_of_label_map
from unet_pipeline.storage.names import (
    Volume,
    is_mask,
    is_mask_folder,
    without_ending,
    without_sequence,
)

_FLAGS = re.IGNORECASE | re.DOTALL
_WORDS = r"(masks?|msk|segs?|segmentations?|labels?|dseg|probseg|image|img|0000)"
_SUFFIXES = re.compile(rf"(?<=.)([-_.]{_WORDS})+$", _FLAGS)
_PREFIX = re.compile(
    r"(volumes?|vol|images?|img|ct|mr|masks?|msk|segs?|segmentations?|labels?)[-_.]?(?=[0-9]+$)",
    _FLAGS,
)
_ROLE_FOLDER = re.compile(
    r"(images?|imgs?|masks?|labels?|segs?|segmentations?)(?P<part>Tr|Ts)?", _FLAGS
)
_BIDS_ENTITY = re.compile(r"(sub|ses|acq|run)-[A-Za-z0-9]+")
_PLACE = re.compile(r"\{([^{}]*)\}")

_Key = Callable[[str], str | None]


def pair(
    images: Sequence[Volume], masks: Sequence[Volume]
) -> Iterator[tuple[Volume | None, list[Volume]]]:
    """Find the mask of each image by name.

    The rules of ``_RULES`` are tried in their order, the surest first.

    Yields
    ------
    image, masks
        Each image once, with the masks that fit: none, one, or several that fit alike; then
        ``None`` with each mask that fits no image.
    """
    left, free = list(images), list(masks)
    for image_key, mask_key, must_be_alone in _RULES:
        found = list(_fits(left, free, image_key, mask_key, images if must_be_alone else left))
        yield from found
        taken = {id(mask) for _, fitting in found for mask in fitting}
        matched = {id(image) for image, _ in found}
        left = [image for image in left if id(image) not in matched]
        free = [mask for mask in free if id(mask) not in taken]
    yield from ((image, []) for image in left)
    yield from ((None, [mask]) for mask in free)


class MaskPattern:
    """Where the mask of a case lies, e.g. ``{case}/segmentation.nii.gz``.

    ``{case}`` is the case's name; or, where an image is alone in its folder, that folder; or the
    name without its folders, where no other image has it.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        places = _PLACE.findall(text)
        around = _PLACE.sub("", text)
        if (
            places != ["case"]
            or set("{}") & set(around)
            or without_ending(text) is None
            or text.startswith(("/", "~"))
            or "://" in text
            or ".." in text.split("/")
        ):
            raise RequestError(
                "mask_pattern_invalid",
                subject="--mask-pattern",
                found=repr(text),
                wanted="a path below the masks with {case} once, which ends with .nii.gz, .nii or "
                ".ome.zarr, or leads to a label image (.ome.zarr/labels/NAME)",
                remedy="Write it like {case}/segmentation.nii.gz or {case}_gt.nii.gz",
            )
        before, after = text.split("{case}")
        self._form = re.compile(f"{re.escape(before)}(?P<case>.+){re.escape(after)}", re.DOTALL)

    def case_of(self, path: str) -> str | None:
        """Return what ``{case}`` stands for in a path below the masks; None if it does not fit."""
        found = self._form.fullmatch(path)
        return found["case"] if found else None

    def pair(
        self, images: Sequence[Volume], masks: Sequence[tuple[str, Volume]]
    ) -> Iterator[tuple[Volume | None, list[Volume]]]:
        """Find the mask of each image by the pattern, as ``pair`` does by names.

        Parameters
        ----------
        masks
            Each with what ``{case}`` stands for in its path.
        """
        by_case: dict[str, list[Volume]] = defaultdict(list)
        for name, mask in masks:
            by_case[name].append(mask)
        folders = Counter(map(_folder, (image.name for image in images)))
        lasts = Counter(map(_last, (image.name for image in images)))
        used = set()
        for image in images:
            names = [image.name, _without_suffixes(image.name)]
            if folders[_folder(image.name)] == 1:
                names.append(_folder(image.name))
            if lasts[_last(image.name)] == 1:
                names += [_last(image.name), _without_suffixes(_last(image.name))]
            fitting = [name for name in names if name in by_case][:1]
            yield image, by_case[fitting[0]] if fitting else []
            used.update(fitting)
        yield from ((None, [mask]) for name, mask in masks if name not in used)


def _fits(
    images: Sequence[Volume],
    masks: Sequence[Volume],
    image_key: _Key,
    mask_key: _Key,
    rivals: Sequence[Volume],
) -> Iterator[tuple[Volume, list[Volume]]]:
    """Yield each image that alone has its key among ``rivals``, with the masks of that key."""
    masks_by_key: dict[str | None, list[Volume]] = defaultdict(list)
    for mask in masks:
        masks_by_key[mask_key(mask.name)].append(mask)
    counts = Counter(image_key(rival.name) for rival in rivals)
    for image in images:
        key = image_key(image.name)
        if key is not None and counts[key] == 1 and masks_by_key[key]:
            yield image, masks_by_key[key]


def _same(name: str) -> str:
    return name


def _without_suffixes(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{_SUFFIXES.sub('', last)}"


def _without_roles(name: str) -> str:
    """Return a name without what says image or mask in folders, before a number, at its end."""
    *folders, last = _without_suffixes(name).split("/")
    plain = [_ROLE_FOLDER.sub(lambda m: f"*{(m['part'] or '').lower()}", f) if _is_role(f) else f
             for f in folders]  # fmt: skip
    return "/".join([*plain, _PREFIX.sub("", last)])


def _is_role(folder: str) -> bool:
    return _ROLE_FOLDER.fullmatch(folder) is not None


def _kits_image(name: str) -> str | None:
    return _folder(name) if _last(name).lower() == "imaging" else None


def _kits_mask(name: str) -> str | None:
    return _folder(name) if _last(name).lower() == "segmentation" else None


def _without_folders(name: str) -> str:
    return _last(_without_suffixes(name))


def _one_sequence(name: str) -> str | None:
    """Return the subject of one sequence of BraTS; names of BIDS say it by their entities."""
    last = _last(_without_suffixes(name))
    return None if last.startswith("sub-") else without_sequence(last)


def _mask_alone(name: str) -> str | None:
    """Return the folder of a mask whose name says that it is one, and nothing else."""
    is_bare = is_mask(_last(name)) and re.fullmatch(_WORDS, _last(name), _FLAGS)
    return _folder(name) if is_bare else None


def _own_folder(name: str) -> str | None:
    """Return the folder of an image that may hold a folder of masks; none for the topmost."""
    return _folder(name) or None


def _above_mask_folder(name: str) -> str | None:
    above, _, folder = _folder(name).rpartition("/")
    return above if above and is_mask_folder(folder) else None


def _bids_subject(name: str) -> str | None:
    entities = sorted(part for part in _last(name).split("_") if _BIDS_ENTITY.fullmatch(part))
    return "_".join(entities) if any(part.startswith("sub-") for part in entities) else None


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _last(name: str) -> str:
    return name.rpartition("/")[2]


# How the names of an image and of a mask are compared, and whether that may be done only where no
# other image of the whole cohort is alike: without its folder ``CT_image`` says little among many
# patients.
_RULES: tuple[tuple[_Key, _Key, bool], ...] = (
    (_same, _same, False),
    (_without_suffixes, _without_suffixes, False),
    (_without_roles, _without_roles, False),
    (key_of_image, key_of_label_map, False),
    (_kits_image, _kits_mask, False),
    (_without_folders, _without_folders, True),
    (_one_sequence, _without_folders, True),
    (_bids_subject, _bids_subject, True),
    (_folder, _mask_alone, True),
    (_own_folder, _above_mask_folder, True),
)
