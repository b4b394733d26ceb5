"""Label maps that exist already, whoever made them: as they lie, or each with its image.

Where a cohort is segmented, label maps of ours are not its input; here they are what is looked at.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.records import Case, Part
from unet_pipeline.storage.classification import Listing, run_files
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.formats import FORMATS, split_name
from unet_pipeline.storage.label_names import read_label_names
from unet_pipeline.storage.ledger import read_record
from unet_pipeline.storage.names import Volume, escaped, is_mask, is_own_output, is_safe
from unet_pipeline.storage.sidecar import read_sidecar
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.survey import survey
from unet_pipeline.storage.urls import basename, parent, redact

_IN_PARTS = "segmentations"  # TotalSegmentator's folder of files, one structure each
_OWN_ENDING = "_dseg"


@dataclass(frozen=True)
class LabelMaps:
    """Label maps as cases, each a mask, with images or without.

    Attributes
    ----------
    faults
        Cases that are at fault by their files alone.
    without
        Images that have no label map.
    names
        Name of each label that is known before a label map is read.
    """

    cases: tuple[Case, ...]
    faults: tuple[tuple[Case, CaseError], ...]
    without: int
    names: Mapping[int, str]


def list_label_maps(
    store: Store,
    labels: str,
    images: str | None = None,
    *,
    mask_pattern: str | None = None,
    names_url: str | None = None,
) -> LabelMaps:
    """List label maps, and find the image of each if there are images.

    Parameters
    ----------
    names_url
        File with the names of the labels. Default: a ``dseg.tsv`` among the label maps, or what the
        record of a label map of ours says.

    Raises
    ------
    RequestError
        ``labels_empty``, ``label_names_invalid``, and with images as ``discover``.
    """
    listed = survey(store, labels)
    listing = Listing(listed, run_files(listed))
    volumes = listing.volumes()
    named = [one for one in volumes if is_mask(one.name)]
    volumes = named or volumes
    if not volumes:
        raise RequestError(
            "labels_empty",
            subject=redact(labels),
            found=f"{len(listed.files)} files, none of them a label map",
            wanted=f"label maps in {' or '.join(each.title for each in FORMATS)}",
            remedy="Correct the prefix, or give a glob like prefix/**/*_seg.nii.gz",
        )
    if names_url is not None:
        names = read_label_names(store, names_url)
    else:
        names = _names_beside(store, listed.files, volumes) or _of_parts(volumes)
    if images is None:
        return _alone(volumes, names)
    found = discover(
        store, images, labels, mask_pattern=mask_pattern, labels=names, require_masks=False,
        masks_may_be_ours=True,
    )  # fmt: skip
    bad = {case.name for case, _ in found.mask_faults}
    lacking = [c for c in found.cases if c.mask is None and c.name not in bad]
    missing = [f for f in found.mask_faults if f[1].code == "mask_missing"]
    return LabelMaps(
        tuple(case for case in found.cases if case.mask is not None),
        (*found.faults, *(f for f in found.mask_faults if f not in missing)),
        len(lacking) + len(missing),
        names,
    )


def record_of(label_map: str) -> str | None:
    """Return where the record of a label map lies if it is ours; None if its name is another's."""
    stem, _ = split_name(label_map.rstrip("/"))
    return f"{stem}.json" if is_own_output(basename(stem)) else None


def _alone(volumes: Sequence[Volume], names: Mapping[int, str]) -> LabelMaps:
    """Take each label map for a case; the files of a folder of structures for one."""
    folders: dict[str, list[Volume]] = defaultdict(list)
    cases = []
    for volume in volumes:
        folder = volume.name.rpartition("/")[0]
        if folder.rpartition("/")[2].lower() == _IN_PARTS:
            folders[folder].append(volume)
        else:
            name = volume.name.removesuffix(_OWN_ENDING)
            cases.append(Case(_safe(name), (), volume.urls[0]))
    numbers = {_plain(name): number for number, name in names.items()}
    for folder, files in folders.items():
        parts = [
            Part(number, names[number], file.urls[0])
            for file in files
            if (number := numbers.get(_plain(basename(file.name)))) is not None
        ]
        if parts:
            parts.sort(key=lambda part: part.label)
            name = folder.rpartition("/")[0] or basename(parent(parent(files[0].urls[0])))
            cases.append(Case(_safe(name), (), parts[0].url, parts=tuple(parts)))
    counts = Counter(case.name for case in cases)
    cases.sort(key=lambda case: case.name)
    return LabelMaps(
        tuple(case for case in cases if counts[case.name] == 1),
        tuple((case, _twice(case)) for case in cases if counts[case.name] > 1),
        0,
        names,
    )


def _names_beside(store: Store, files: Sequence[str], volumes: Sequence[Volume]) -> dict[int, str]:
    """Return the names of the only table among label maps; else those of a record of ours."""
    tables = [file for file in files if basename(file).lower().endswith("dseg.tsv")]
    if len(tables) == 1:
        return read_label_names(store, tables[0])
    for volume in volumes:
        url = record_of(volume.urls[0])
        sidecar = None if url is None else read_sidecar(read_record(store, url) or b"")
        if sidecar is not None:
            named = sidecar.run.labels.items()
            return {int(k): name for k, name in named if k.isascii() and k.isdecimal() and int(k)}
        if url is None:
            break
    return {}


def _of_parts(volumes: Sequence[Volume]) -> dict[int, str]:
    """Return numbers for the structures that have a file each, by their names."""
    inside = (one.name.split("/") for one in volumes)
    found = {path[-1] for path in inside if len(path) > 1 and path[-2].lower() == _IN_PARTS}
    return dict(enumerate(sorted(found), start=1))


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _safe(name: str) -> str:
    return name if is_safe(name) else escaped(name)


def _twice(case: Case) -> CaseError:
    return CaseError(
        "case_duplicate",
        subject=case.name,
        found="several label maps of one name",
        wanted="one label map for each case",
        remedy="Give a glob that picks one of them, such as prefix/**/*.nii.gz",
    )
