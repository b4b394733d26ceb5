"""Find the cases of a cohort: below a prefix, by a glob, in a BIDS tree, or from a manifest."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.records import Case
from unet_pipeline.storage.ledger import half_a_pair, read_sidecar
from unet_pipeline.storage.manifest import is_manifest, read_manifest
from unet_pipeline.storage.names import (
    Volume,
    escaped,
    group_channels,
    is_mask,
    is_own_output,
    is_pair_header,
    is_pair_voxels,
    is_safe,
    pair,
    voxel_files,
    without_nifti_suffix,
)
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.urls import canonical, fixed_part, parent, redact, relative_to

logger = logging.getLogger(__name__)

_BIDS_NOT_RAW = {"derivatives", "sourcedata"}
_BIDS_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
_Pair = tuple[Volume | None, list[Volume]]  # an image, and the masks that fit it


@dataclass(frozen=True)
class Cohort:
    """The cases of one run, and those that are at fault by their files alone.

    Sorted by name; cases of a manifest stay in its order.
    """

    cases: tuple[Case, ...]
    faults: tuple[tuple[Case, CaseError], ...]


@dataclass(frozen=True)
class _Listing:
    """The files that a URL selects, and the folder that their names start at."""

    url: str
    kind: Literal["folder", "pattern", "file"]
    base: str
    files: tuple[str, ...]

    def volumes(self) -> list[Volume]:
        """Return the NIfTI volumes, without those below a ``runs`` folder of ours.

        A pair counts by its header; voxels (.img) count where they have none.
        """
        partners = {
            part for file in self.files if is_pair_header(file) for part in voxel_files(file)
        }
        alone = (file for file in self.files if file not in partners)
        stems = ((without_nifti_suffix(relative_to(file, self.base)), file) for file in alone)
        return [
            Volume(name, (file,))
            for name, file in stems
            if name is not None and "runs" not in name.split("/")[:-1]
        ]

    def halves(self) -> set[str]:
        """Return what is one half of a NIfTI pair; only the listing of a folder can tell."""
        if self.kind != "folder":
            return set()
        there = set(self.files)
        return {
            url
            for volume in self.volumes()
            for url in volume.urls
            if is_pair_voxels(url) or not there & set(voxel_files(url))
        }

    def is_bids(self) -> bool:
        """Say whether the folder is the root of a BIDS tree."""
        paths = [relative_to(file, self.base).split("/") for file in self.files]
        return self.kind == "folder" and any(
            path == ["dataset_description.json"]
            or (len(path) > 1 and _BIDS_SUBJECT.fullmatch(path[0]))
            for path in paths
        )


def discover(store: Store, images: str, masks: str | None = None) -> Cohort:
    """Return the cases that ``images`` selects, each with its mask if ``masks`` is given.

    Files named like label maps (``_mask``, ``_seg``, ``_label``, ``_dseg`` ...) are not images,
    unless ``images`` names one such file itself. ``x_0000``, ``x_0001`` ... are channels of ``x``.

    Parameters
    ----------
    images
        A prefix or folder, a file, a glob, a BIDS tree (its raw images are taken), or a manifest.
    masks
        A prefix or folder, a file or a glob; may be the same as ``images``. A mask without an
        image is a fault, unless ``images`` picks some files out of a larger set that ``masks``
        names as a whole.

    Raises
    ------
    RequestError
        ``cohort_empty``, ``masks_empty``, ``case_duplicate``, ``masks_ambiguous`` (masks beside a
        manifest), ``manifest_missing``, ``manifest_invalid``, and what ``Store.check_reachable``
        raises.
    """
    if is_manifest(images):
        return Cohort(_manifest_cases(store, images, masks), ())
    listed = _list(store, images)
    found = _raw_images(listed)
    if masks is None:
        unpaired: list[_Pair] = [(image, []) for image in _images(listed, found)]
        return _cohort(unpaired, listed.halves(), wants_masks=False)
    listed_masks = _list(store, masks)
    found, found_masks = _apart(store, found, listed_masks)
    if not found_masks:
        raise _nothing("masks_empty", listed_masks, "a mask")
    pairs = pair(_images(listed, found), found_masks)
    if listed.kind != "folder" and listed_masks.kind == "folder":
        pairs = (found_pair for found_pair in pairs if found_pair[0] is not None)
    return _cohort(pairs, listed.halves() | listed_masks.halves(), wants_masks=True)


def _list(store: Store, url: str) -> _Listing:
    store.check_reachable(url)
    files = tuple(store.list_files(url))
    if files == (canonical(url),):
        return _Listing(url, "file", parent(url), files)
    if store.is_pattern(url):
        return _Listing(url, "pattern", fixed_part(url), files)
    return _Listing(url, "folder", canonical(url), files)


def _raw_images(listed: _Listing) -> list[Volume]:
    """Return the volumes that may be images; of a BIDS tree only the raw ones."""
    volumes = listed.volumes()
    if not listed.is_bids():
        return volumes
    return [volume for volume in volumes if volume.name.split("/")[0] not in _BIDS_NOT_RAW]


def _apart(store: Store, found: list[Volume], masks: _Listing) -> tuple[list[Volume], list[Volume]]:
    """Tell images from masks where both selections hold the same files.

    The narrower selection says what its files are; their names do where neither is narrower.
    """
    found_masks = masks.volumes()
    image_urls, mask_urls = ({volume.urls for volume in side} for side in (found, found_masks))
    if not image_urls & mask_urls:
        return found, found_masks
    files = frozenset(masks.files)
    found_masks = [mask for mask in found_masks if not _is_ours(store, mask, files)]
    if mask_urls < image_urls:
        return [image for image in found if image.urls not in mask_urls], found_masks
    kept = {image.urls for image in found if not is_mask(image.name)}
    rest = [mask for mask in found_masks if mask.urls not in kept]
    return found, [mask for mask in rest if is_mask(mask.name)] or rest


def _is_ours(store: Store, mask: Volume, files: frozenset[str]) -> bool:
    """Say whether a label map was written by this package: it must not be its own reference."""
    url = mask.urls[0]
    if not is_own_output(mask.name) or is_pair_header(url) or is_pair_voxels(url):
        return False
    sidecar = f"{url[: url.lower().rindex('.nii')]}.json"
    return sidecar in files and "settings_digest" in (read_sidecar(store, sidecar) or {})


def _images(listed: _Listing, found: Sequence[Volume]) -> list[Volume]:
    """Return the images among ``found``, their channels joined, sorted by name."""
    refused = is_own_output if listed.kind == "file" else is_mask
    images = group_channels(volume for volume in found if not refused(volume.name))
    if not images:
        raise _nothing("cohort_empty", listed, "an image")
    name, count = Counter(image.name for image in images).most_common(1)[0]
    if count > 1:
        raise RequestError(
            "case_duplicate",
            subject=redact(listed.url),
            found=f"{count} images for the case {escaped(name)}",
            wanted="one image, or one row of channels _0000, _0001 ..., per case",
            remedy="Rename or remove one of them, or write a manifest",
        )
    return sorted(images, key=lambda image: image.name)


def _cohort(pairs: Iterable[_Pair], halves: set[str], *, wants_masks: bool) -> Cohort:
    cases, faults = [], []
    for image, masks in pairs:
        case = _case(image, masks)
        error = _fault(case, image, masks, wants_masks=wants_masks) or _half(case, halves)
        if error is None:
            cases.append(case)
        else:
            faults.append((case, error))
    return Cohort(
        tuple(sorted(cases, key=lambda case: case.name)),
        tuple(sorted(faults, key=lambda fault: fault[0].name)),
    )


def _case(image: Volume | None, masks: Sequence[Volume]) -> Case:
    name = (image or masks[0]).name
    return Case(
        name if is_safe(name) else escaped(name),
        image.urls if image else (),
        masks[0].urls[0] if len(masks) == 1 else None,
    )


def _fault(
    case: Case, image: Volume | None, masks: Sequence[Volume], *, wants_masks: bool
) -> CaseError | None:
    if image is None:
        return CaseError(
            "image_missing",
            subject=case.name,
            found="a mask without an image",
            wanted="an image of the same name, without suffixes like _mask or _image",
            remedy="Add the image, remove the mask, or pair them in a manifest",
        )
    if not is_safe(image.name):
        return CaseError(
            "case_name_unsafe",
            subject=case.name,
            found="a path with .., backslash, control characters or empty parts",
            wanted="a path that can be repeated below the output",
            remedy="Rename the file, or name the case in a manifest",
        )
    if wants_masks and len(masks) != 1:
        return CaseError(
            "mask_ambiguous" if masks else "mask_missing",
            subject=case.name,
            found=_which(masks),
            wanted="one mask of the same name, without suffixes like _mask or _image",
            remedy="Add or rename the mask, or pair them in a manifest",
        )
    return None


def _half(case: Case, halves: set[str]) -> CaseError | None:
    urls = (*case.images, case.mask) if case.mask else case.images
    return next((half_a_pair(url, case.name) for url in urls if url in halves), None)


def _which(masks: Sequence[Volume]) -> str:
    if not masks:
        return "an image without a mask"
    return f"{len(masks)} masks: {', '.join(escaped(mask.name) for mask in masks)}"


def _manifest_cases(store: Store, url: str, masks: str | None) -> tuple[Case, ...]:
    if masks is not None:
        raise RequestError(
            "masks_ambiguous",
            subject=redact(url),
            found="a manifest and a separate setting for masks",
            wanted="masks in the manifest's column mask",
            remedy="Leave the masks setting empty",
        )
    cases = read_manifest(store, url)
    if not cases:
        raise RequestError(
            "cohort_empty",
            subject=redact(url),
            found="a manifest without cases",
            wanted="at least one line with case and image",
            remedy="Add the cases",
        )
    return cases


def _nothing(code: str, listed: _Listing, what: str) -> RequestError:
    return RequestError(
        code,
        subject=redact(listed.url),
        found=f"{len(listed.files)} files, {len(listed.volumes())} of them NIfTI, none {what}",
        wanted=f"{what} (.nii or .nii.gz), not named like our own output",
        remedy="Correct the prefix, or give a glob like prefix/**/*.nii.gz",
    )
