"""Cases as they come of a listing: sound or at fault, and what each file was taken for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from unet_pipeline.errors import CaseError
from unet_pipeline.records import Case
from unet_pipeline.shards import Shard
from unet_pipeline.storage.accounting import Accounting, ClassifiedFile, accounted, files_of_cases
from unet_pipeline.storage.classification import Listing, classify_all
from unet_pipeline.storage.formats import half_a_pair, is_inner_label
from unet_pipeline.storage.marks import Marks
from unet_pipeline.storage.names import (
    Channels,
    Volume,
    escaped,
    has_sequences,
    is_safe,
    sequence_order,
)
from unet_pipeline.storage.parts import Labels, in_parts, lacking, parts_of
from unet_pipeline.storage.urls import basename, parent

Fault = tuple[Case, CaseError]


@dataclass(frozen=True)
class Cohort:
    """The cases of one run, and those that are at fault by their files alone.

    Sorted by name; cases of a manifest stay in its order.

    Attributes
    ----------
    mask_faults
        What is wrong with the masks of cases that go on without one; and masks without an image,
        as cases without images. Empty where masks are required: then these are ``faults``.
    files
        What each file was taken for; of a manifest, nothing beyond its cases.
    channels
        Channels of an image, as the network or ``dataset.json`` says; None where neither does.
    base
        Folder that the names of the images start at; of a manifest, the folder that it lies in.
    whole
        The cohort that this one is a part of; None for a whole one.
    marks
        Of files of prefixes of S3, which listings give with the names.
    """

    cases: tuple[Case, ...]
    faults: tuple[Fault, ...]
    mask_faults: tuple[Fault, ...] = ()
    files: tuple[ClassifiedFile, ...] = field(default=(), compare=False)
    asks_for_masks: bool = field(default=False, compare=False)
    channels: int | None = None
    base: str = field(default="", compare=False)
    whole: "Cohort | None" = field(default=None, compare=False)
    marks: Marks = field(default_factory=dict, repr=False, compare=False)

    def part(self, shard: Shard | None) -> "Cohort":
        """Return the cases of a part; the whole cohort for None."""
        if shard is None:
            return self
        return replace(
            self,
            cases=tuple(case for case in self.cases if shard.has(case.name)),
            faults=tuple(fault for fault in self.faults if shard.has(fault[0].name)),
            mask_faults=tuple(fault for fault in self.mask_faults if shard.has(fault[0].name)),
            whole=self,
        )

    @property
    def accounting(self) -> Accounting:
        """What became of all files, in numbers; of a part, those of the whole cohort."""
        if self.whole is not None:
            return self.whole.accounting
        everything = (*self.cases, *(case for case, _ in self.faults if case.images))
        with_mask = sum(case.mask is not None for case in self.cases)
        asked = self.asks_for_masks or (not self.files and with_mask)
        return accounted(self.classified(), len(everything), with_mask if asked else None)

    def classified(self) -> Iterator[ClassifiedFile]:
        """Yield each file with what it was taken for."""
        yield from self.files or files_of_cases(self.cases)


class CohortBuilder:
    """Cases as they come, and what their files were taken for."""

    def __init__(
        self, listed: Listing, masks: Listing | None, channels: Channels, labels: Labels
    ) -> None:
        self.listings = [listed] if masks is None else [listed, masks]
        self.picks_some = (
            masks is not None and listed.survey.kind != "folder" and masks.survey.kind == "folder"
        )
        self.halves = {half for listing in self.listings for half in listing.halves()}
        self.channels, self.labels = channels, labels
        self.cases: list[Case] = []
        self.faults: list[Fault] = []
        self.mask_faults: list[Fault] = []
        self.files: dict[str, ClassifiedFile] = {}
        self.with_kits_mask: set[str] = set()

    def add(
        self,
        image: Volume | None,
        duplicates: Sequence[Volume],
        masks: Sequence[Volume],
        *,
        require_masks: bool,
    ) -> None:
        """Sort one image, or masks without an image."""
        case = _case(image, masks, self.labels if image else {})
        self._take(case, image, duplicates, masks)
        if image is None:
            self._add_mask_alone(case, masks[0], require_masks=require_masks)
            return
        fault = self._fault(case, image, duplicates)
        of_mask = _mask_fault(case, masks, self.labels) if len(self.listings) > 1 else None
        halves = (_half(url, case.name, self.halves) for url in case.mask_files)
        of_mask = of_mask or next(filter(None, halves), None)
        if fault is None and of_mask is not None and not require_masks:
            without = replace(case, mask=None, parts=())
            self.cases.append(without)
            self.mask_faults.append((without, of_mask))
        elif (why := fault or of_mask) is not None:
            self.faults.append((case, why))
        else:
            self.cases.append(case)

    def cohort(self, neither: Mapping[str, str]) -> Cohort:
        """Return all cases by name, and all files; ``neither`` says why some are not taken."""

        def classify(file: str) -> ClassifiedFile | None:
            why = neither.get(file)
            return self.files.get(file) or (ClassifiedFile(file, "ignored", why) if why else None)

        return Cohort(
            tuple(sorted(self.cases, key=lambda case: case.name)),
            tuple(sorted(self.faults, key=lambda fault: fault[0].name)),
            tuple(sorted(self.mask_faults, key=lambda fault: fault[0].name)),
            (*classify_all(self.listings, classify), *self._within_images()),
            len(self.listings) > 1,
            self.channels.count,
            self.listings[0].survey.base,
            marks={url: mark for one in self.listings for url, mark in one.survey.marks.items()},
        )

    def _within_images(self) -> Iterator[ClassifiedFile]:
        """Yield the label images within images, which a listing takes for parts of these."""
        listed = {file for listing in self.listings for file in listing.survey.files}
        inner = (url for url in self.files if is_inner_label(url) and url not in listed)
        yield from (self.files[url] for url in sorted(inner))

    def _take(
        self,
        case: Case,
        image: Volume | None,
        duplicates: Sequence[Volume],
        masks: Sequence[Volume],
    ) -> None:
        for volume in (image, *duplicates) if image else ():
            for index, url in enumerate(volume.urls, start=1):
                part = f"channel {index} of " if len(volume.urls) > 1 else ""
                self.files[url] = ClassifiedFile(url, "image", f"{part}case {case.name}")
        names = {part.url: part.name for part in case.parts}
        for mask in masks:
            why = f"of {case.name}" if len(masks) == 1 else f"one of {len(masks)} for {case.name}"
            if names and mask.urls[0] not in names:
                no_label = ClassifiedFile(mask.urls[0], "ignored", "mask of no label")
                self.files[mask.urls[0]] = no_label
                continue
            why = f"{names[mask.urls[0]]} of {case.name}" if names else why
            self.files[mask.urls[0]] = ClassifiedFile(
                mask.urls[0], "mask", why if image else "without image"
            )

    def _add_mask_alone(self, case: Case, mask: Volume, *, require_masks: bool) -> None:
        folder = parent(mask.urls[0])
        if self.picks_some or folder in self.with_kits_mask:
            why = "of an image that was not picked" if self.picks_some else "beside another"
            self.files[mask.urls[0]] = ClassifiedFile(mask.urls[0], "mask", why)
            return
        fault = CaseError(
            "image_missing",
            subject=case.name,
            found="a mask without an image",
            wanted="an image of the same name, without suffixes like _mask or _image",
            remedy="Add the image, remove the mask, or pair them (a manifest, --mask-pattern)",
        )
        (self.faults if require_masks else self.mask_faults).append((case, fault))

    def _fault(self, case: Case, image: Volume, duplicates: Sequence[Volume]) -> CaseError | None:
        if basename(image.name).lower() == "imaging" and case.mask is not None:
            self.with_kits_mask.add(parent(case.mask))
        if not is_safe(image.name):
            return CaseError(
                "case_name_unsafe",
                subject=case.name,
                found="a path with .., backslash, control characters or empty parts",
                wanted="a path that can be repeated below the output",
                remedy="Rename the file, or name the case in a manifest",
            )
        if duplicates:
            return CaseError(
                "case_duplicate",
                subject=case.name,
                found=f"{len(duplicates) + 1} images: {_files((image, *duplicates))}",
                wanted="one image, or one row of channels _0000, _0001 ..., per case",
                remedy="Rename or remove one of them, or write a manifest",
            )
        if self.channels.count and has_sequences(image) and not sequence_order(self.channels.names):
            return CaseError(
                "channels_unordered",
                subject=case.name,
                found=f"sequences by name ({_files((image,))}), and a network that does not name "
                "its channels",
                wanted="the order in which the network takes them",
                remedy="Write a manifest with the files in that order, separated by ;",
            )
        return next(filter(None, (_half(url, case.name, self.halves) for url in image.urls)), None)


def _case(image: Volume | None, masks: Sequence[Volume], labels: Labels) -> Case:
    name = (image or masks[0]).name
    parts = parts_of(masks, labels)
    first = parts[0].url if parts else masks[0].urls[0] if len(masks) == 1 else None
    safe = name if is_safe(name) else escaped(name)
    return Case(safe, image.urls if image else (), first, parts=parts)


def _mask_fault(case: Case, masks: Sequence[Volume], labels: Labels) -> CaseError | None:
    if case.parts:
        return None
    if in_parts(masks, labels):
        none = f"; none is called {', '.join(lacking(masks, labels))}" if labels else ""
        return CaseError(
            "mask_in_parts",
            subject=case.name,
            found=f"{len(masks)} mask{'s' if len(masks) > 1 else ''}, one structure each: "
            f"{_files(masks)}{none}",
            wanted="a file for each label, of its name; or one file with a number for each label",
            remedy="Name the labels as the files are (--model, or --label-names of train); or "
            "join the files (TotalSegmentator --ml), with the model's numbers",
        )
    if len(masks) == 1:
        return None
    return CaseError(
        "mask_ambiguous" if masks else "mask_missing",
        subject=case.name,
        found=f"{len(masks)} masks: {_files(masks)}" if masks else "an image without a mask",
        wanted="one mask of the same name, without suffixes like _mask or _image",
        remedy="Add or rename the mask, pair them in a manifest, or say where masks lie "
        f"(--mask-pattern '{{case}}{_usual_place(masks)}')",
    )


def _usual_place(masks: Sequence[Volume]) -> str:
    inner = [mask.urls[0] for mask in masks if is_inner_label(mask.urls[0])]
    return ".ome.zarr/labels/NAME" if inner else "/segmentation.nii.gz"


def _half(url: str | None, subject: str, halves: set[str]) -> CaseError | None:
    return half_a_pair(url, subject) if url in halves and url is not None else None


def _files(volumes: Sequence[Volume], most: int = 4) -> str:
    """Return the names of the files of some volumes, of which there may be many."""
    urls = [url for volume in volumes for url in volume.urls]
    names = [escaped(basename(url)) for url in urls]
    if len(set(names)) < len(names):
        names = [escaped("/".join(url.split("/")[-2:])) for url in urls]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
