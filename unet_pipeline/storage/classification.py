"""What the files of a listing are by their names: images, masks, ours, or ignored. Pure."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from unet_pipeline.storage.accounting import ClassifiedFile
from unet_pipeline.storage.formats import (
    FORMATS,
    is_pair_header,
    is_pair_voxels,
    split_name,
    voxel_files,
)
from unet_pipeline.storage.names import (
    Volume,
    is_own_output,
    without_ending,
)
from unet_pipeline.storage.survey import Survey
from unet_pipeline.storage.urls import relative_to

_BIDS_NOT_RAW = {"derivatives", "sourcedata"}
_BIDS_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
_RUN_FOLDER = re.compile(r"(?P<folder>(.*/)?runs/[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4,8}/)(?P<file>[^/]+)")
_OURS = {".nii", *(each.label_maps for each in FORMATS)}  # endings of label maps
_RUN_FILES = {"run.json", "report.html", "cases.csv", "check.json", "check.html", "check.csv"}


@dataclass(frozen=True)
class Listing:
    """The files that a URL selects, with those that are ours."""

    survey: Survey
    ours: Collection[str] = field(default_factory=frozenset)

    def volumes(self) -> list[Volume]:
        """Return the volumes that are not ours.

        A pair counts by its header; voxels (.img) count where they have none.
        """
        others = {*self.partners(), *self.ours}
        alone = (file for file in self.survey.files if file not in others)
        return [Volume(name, (file,)) for file in alone if (name := self.name(file)) is not None]

    def partners(self) -> dict[str, str]:
        """Return the header of each file that may hold the voxels of a pair."""
        return {
            part: file
            for file in self.survey.files
            if is_pair_header(file)
            for part in voxel_files(file)
        }

    def halves(self) -> set[str]:
        """Return what is one half of a NIfTI pair; only the listing of a folder can tell."""
        if self.survey.kind != "folder":
            return set()
        there = set(self.survey.files)
        return {
            url
            for volume in self.volumes()
            for url in volume.urls
            if is_pair_voxels(url) or not there & set(voxel_files(url))
        }

    def name(self, file: str) -> str | None:
        """Return the name that a file gives a case; None if it is no visible volume."""
        return without_ending(relative_to(file, self.survey.base))

    def is_bids(self) -> bool:
        """Say whether the folder is the root of a BIDS tree."""
        paths = (relative_to(file, self.survey.base).split("/") for file in self.survey.files)
        return self.survey.kind == "folder" and any(
            path == ["dataset_description.json"]
            or (len(path) > 1 and _BIDS_SUBJECT.fullmatch(path[0]))
            for path in paths
        )

    def why_no_volume(self, file: str) -> str:
        """Return why a file can be neither image nor mask."""
        path = relative_to(file, self.survey.base)
        hidden = any(part.startswith(".") for part in path.split("/") if part not in {".", ".."})
        return "hidden" if hidden else "no volume"


def is_raw(name: str) -> bool:
    """Say whether a volume of a BIDS tree is raw, and no derivative."""
    return name.split("/")[0] not in _BIDS_NOT_RAW


def run_files(survey: Survey) -> set[str]:
    """Return the files in folders of runs: ``runs/<run id>/`` with a report or record of a run."""
    found: dict[str, list[tuple[str, str]]] = {}
    for file in survey.files:
        match = _RUN_FOLDER.fullmatch(relative_to(file, survey.base))
        if match:
            found.setdefault(match["folder"], []).append((match["file"], file))
    whole = (files for files in found.values() if _RUN_FILES & {name for name, _ in files})
    return {url for files in whole for _, url in files}


def possibly_ours(survey: Survey) -> dict[str, tuple[str, ...]]:
    """Return the sidecar of each file that may be a label map of ours, and what it vouches for.

    By name alone: what the sidecar says decides.
    """
    there = set(survey.files)
    only_file = survey.kind == "file"
    found: dict[str, tuple[str, ...]] = {}
    for file in survey.files:
        name, (stem, ending) = without_ending(relative_to(file, survey.base)), split_name(file)
        if name is None or not is_own_output(name) or ending.lower() not in _OURS:
            continue
        if only_file or f"{stem}.json" in there:
            beside = (f"{stem}.json", f"{stem}.png", f"{stem}_confidence.nii.gz", file)
            known = found.get(f"{stem}.json", ())
            found[f"{stem}.json"] = tuple(
                dict.fromkeys((*known, *(one for one in beside if one in there)))
            )
    return found


class Classify(Protocol):
    """What says of a file what it was taken for; None if it does not know the file."""

    def __call__(self, file: str) -> ClassifiedFile | None:
        """Return what ``file`` was taken for."""


def classify_all(listings: Sequence[Listing], classify: Classify) -> Iterator[ClassifiedFile]:
    """Yield each file of the listings once, with what it was taken for.

    Parameters
    ----------
    classify
        Knows the volumes that became part of cases, or why they did not.
    """
    seen: set[str] = set()
    passed: dict[str, str] = {}
    for listing in listings:
        passed |= dict(listing.survey.passed_over)
        partners = listing.partners()
        for file in listing.survey.files:
            if file in seen:
                continue
            seen.add(file)
            if file in listing.ours:
                yield ClassifiedFile(file, "ours", "written by a run of this package")
                continue
            taken = classify(partners.get(file, file))
            yield (
                ClassifiedFile(file, taken.kind, taken.why)
                if taken
                else ClassifiedFile(file, "ignored", listing.why_no_volume(file))
            )
    for file, why in passed.items():
        if file not in seen:
            yield ClassifiedFile(file, "ignored", why)
