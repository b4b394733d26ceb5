"""Find the cases of a cohort: below a prefix, by a glob, in a BIDS tree, or from a manifest."""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.records import Case
from unet_pipeline.storage.cases import Cohort, CohortBuilder
from unet_pipeline.storage.classification import Listing, is_raw, possibly_ours, run_files
from unet_pipeline.storage.formats import FORMATS, is_inner_label
from unet_pipeline.storage.inner_labels import labels_within
from unet_pipeline.storage.ledger import read_record
from unet_pipeline.storage.manifest import is_manifest, read_manifest
from unet_pipeline.storage.names import (
    Channels,
    Volume,
    group_channels,
    is_mask,
)
from unet_pipeline.storage.pairing import MaskPattern, pair
from unet_pipeline.storage.parts import Labels
from unet_pipeline.storage.sidecar import read_stamp
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.survey import survey
from unet_pipeline.storage.urls import parent, redact, relative_to

logger = logging.getLogger(__name__)

SIDECARS_AT_ONCE = 32  # requests under way
_DATASET = "dataset.json"  # of nnU-Net and MSD
_DATASET_BYTES = 64 * 2**20
_Pair = tuple[Volume | None, list[Volume]]  # an image, and the masks that fit it


def discover(
    store: Store,
    images: str,
    masks: str | None = None,
    *,
    mask_pattern: str | None = None,
    channels: Channels | None = None,
    labels: Labels | None = None,
    require_masks: bool = True,
    masks_may_be_ours: bool = False,
) -> Cohort:
    """Return the cases that ``images`` selects, each with its mask if ``masks`` is given.

    Files named like label maps (``_mask``, ``_seg``, ``_label``, ``_dseg`` ...) are not images,
    unless ``images`` names one such file itself. ``x_0000``, ``x_0001`` ... are channels of ``x``,
    unless the network takes one channel.

    Parameters
    ----------
    images
        A prefix or folder, a file, a glob, a BIDS tree (its raw images are taken), or a manifest.
    masks
        A prefix or folder, a file or a glob; may be the same as ``images``. A mask without an
        image is a fault, unless ``images`` picks some files out of a larger set that ``masks``
        names as a whole.
    mask_pattern
        Where the mask of a case lies below ``masks`` (below ``images`` without), as of
        ``MaskPattern``. Names are then not compared.
    channels
        What the network takes. By default a ``dataset.json`` beside the images may say it.
    labels
        Names of the labels: masks in parts, one structure a file, are joined by them.
    require_masks
        Whether a case is at fault whose mask is missing or ambiguous; else it goes on without.
    masks_may_be_ours
        Whether label maps of ours are masks, also beside those of others.

    Raises
    ------
    RequestError
        ``cohort_empty``, ``masks_empty``, ``masks_ambiguous`` (masks beside a manifest),
        ``mask_pattern_invalid``, ``manifest_missing``, ``manifest_invalid``, and what
        ``Store.check_reachable`` raises.
    """
    pattern = None if mask_pattern is None else MaskPattern(mask_pattern)
    if is_manifest(images):
        return Cohort(
            _manifest_cases(store, images, masks or mask_pattern), (), base=parent(images)
        )
    if pattern is not None and masks is None:
        masks = images
    listed = _list(store, images)
    listed_masks = None if masks is None else _list_masks(store, masks, masks_may_be_ours)
    inner = labels_within(store, _holders(listed, listed_masks, pattern))
    sides = _apart(listed, listed_masks, pattern, inner)
    known = _known_channels(store, listed, channels)
    joined = group_channels(sides.images, known.count, known.names)
    if not joined:
        raise _nothing("cohort_empty", listed, "an image")
    if listed_masks is not None and not sides.masks:
        what = f"one like {mask_pattern}" if mask_pattern else "a mask"
        raise _nothing("masks_empty", listed_masks, what)
    builder = CohortBuilder(listed, listed_masks, known, labels or {})
    for image, duplicates, found in _pairs(joined, sides, listed, listed_masks, pattern):
        builder.add(image, duplicates, found, require_masks=require_masks)
    return builder.cohort(sides.neither)


@dataclass(frozen=True)
class _Sides:
    """Volumes that are images, and those that are masks; and why others are neither."""

    images: list[Volume]
    masks: list[Volume]
    neither: dict[str, str]


def _list(store: Store, url: str) -> Listing:
    """List a URL, and tell what is ours: what a sidecar or the record of a run vouches for."""
    found = survey(store, url)
    ours = set(run_files(found))
    maybe = possibly_ours(found)
    with ThreadPoolExecutor(SIDECARS_AT_ONCE) as pool:
        said = pool.map(lambda sidecar: _is_ours(store, sidecar), maybe)
        ours |= {file for files, is_ours in zip(maybe.values(), said, strict=True)
                 for file in files if is_ours}  # fmt: skip
    return Listing(found, frozenset(ours))


def _list_masks(store: Store, url: str, may_be_ours: bool) -> Listing:
    """List masks; label maps of ours are masks only where whoever names them names no others."""
    if may_be_ours:
        found = survey(store, url)
        return Listing(found, run_files(found))
    listed = _list(store, url)
    return listed if listed.volumes() else Listing(listed.survey, run_files(listed.survey))


def _is_ours(store: Store, sidecar: str) -> bool:
    """Say whether a label map was written by this package: it must not be its own reference."""
    return read_stamp(read_record(store, sidecar) or b"") is not None


def _holders(listed: Listing, masks: Listing | None, pattern: MaskPattern | None) -> list[Volume]:
    """Return the volumes whose label images may be masks.

    They are images that the masks' selection holds, too; or whatever that holds, if a pattern says
    that masks are label images.
    """
    if masks is None:
        return []
    found = masks.volumes()
    if pattern is not None:
        return found if is_inner_label(pattern.text) else []
    images = {image.urls for image in listed.volumes()}
    if {mask.urls for mask in found} < images:
        return []
    return [one for one in found if one.urls in images and not is_mask(one.name)]


def _apart(
    listed: Listing, masks: Listing | None, pattern: MaskPattern | None, inner: list[Volume]
) -> _Sides:
    """Tell images from masks.

    Where both selections hold the same files, the narrower one says what its files are; their
    names do where neither is narrower. A pattern comes before both.

    Parameters
    ----------
    inner
        Label images within images.
    """
    neither: dict[str, str] = {}
    found = listed.volumes()
    if listed.is_bids():
        neither |= {v.urls[0]: "derivative of a BIDS tree" for v in found if not is_raw(v.name)}
        found = [volume for volume in found if is_raw(volume.name)]
    found_masks = [] if masks is None else masks.volumes()
    if masks is not None and pattern is not None:
        both = [*found_masks, *inner]
        fits = [mask for mask in both if pattern.case_of(_path(mask, masks)) is not None]
        neither |= {m.urls[0]: "not where --mask-pattern says" for m in found_masks}
        found_masks, mask_urls = fits, {mask.urls for mask in fits}
        found = [image for image in found if image.urls not in mask_urls]
    elif masks is not None:
        image_urls, mask_urls = ({v.urls for v in side} for side in (found, found_masks))
        if mask_urls < image_urls:
            found = [image for image in found if image.urls not in mask_urls]
        elif image_urls & mask_urls:
            kept = {image.urls for image in found if not is_mask(image.name)}
            rest = [mask for mask in found_masks if mask.urls not in kept]
            found_masks = [*([mask for mask in rest if is_mask(mask.name)] or rest), *inner]
    if listed.survey.kind == "file":
        return _Sides(found, found_masks, neither)
    named = {image.urls[0] for image in found if is_mask(image.name)}
    neither |= dict.fromkeys(named, "named like a mask")
    return _Sides([i for i in found if i.urls[0] not in named], found_masks, neither)


def _path(volume: Volume, listing: Listing) -> str:
    return relative_to(volume.urls[0], listing.survey.base)


def _known_channels(store: Store, listed: Listing, channels: Channels | None) -> Channels:
    """Return what the network takes; without one, what ``dataset.json`` says that there is."""
    if channels is not None or listed.survey.kind != "folder":
        return channels or Channels()
    url = join(listed.survey.base, _DATASET)
    if url not in listed.survey.files:
        return Channels()
    try:
        dataset = json.loads(store.read_at_most(url, _DATASET_BYTES))
        named = dataset.get("channel_names") or dataset.get("modality")
        names = tuple(str(named[str(index)]) for index in range(len(named)))
    except (CaseError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        logger.warning("%s says nothing that can be used of channels", redact(url))
        return Channels()
    return Channels(len(names), names)


def _pairs(
    joined: Sequence[Volume],
    sides: _Sides,
    listed: Listing,
    masks: Listing | None,
    pattern: MaskPattern | None,
) -> Iterator[tuple[Volume | None, list[Volume], list[Volume]]]:
    """Yield each image with others of its name, and the masks that fit it."""
    by_name: dict[str, list[Volume]] = defaultdict(list)
    for image in sorted(joined, key=lambda one: one.name):
        by_name[image.name].append(image)
    images = [same[0] for same in by_name.values()]
    pairs: Iterable[_Pair]
    if masks is not None and listed.survey.kind == masks.survey.kind == "file":
        pairs = [
            (images[0], sides.masks)
        ]  # whoever names both files means that they belong together
    elif masks is not None and pattern is not None:
        cases = [(pattern.case_of(_path(mask, masks)) or "", mask) for mask in sides.masks]
        pairs = pattern.pair(images, cases)
    else:
        pairs = pair(images, sides.masks)
    for one, found in pairs:
        yield one, by_name[one.name][1:] if one else [], found


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


def _nothing(code: str, listed: Listing, what: str) -> RequestError:
    found, volumes = listed.survey, len(listed.volumes())
    passed = Counter(why for _, why in found.passed_over).most_common(1)
    over = f"; {len(found.passed_over)} passed over, such as {passed[0][0]}" if passed else ""
    return RequestError(
        code,
        subject=redact(found.url),
        found=f"{len(found.files)} files, {volumes} of them volumes, none {what}{over}",
        wanted=f"{what} in {' or '.join(each.title for each in FORMATS)}, not of our own output",
        remedy="Correct the prefix, or give a glob like prefix/**/*.nii.gz",
    )
