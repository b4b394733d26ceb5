"""Two sets of label maps of the same cases, held against each other: listed, read, written down.

The job ``differences`` does so for two outputs; a run does so for its label maps and those of an
output that ``--compare-with`` names.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import cast

from unet_pipeline import stopping
from unet_pipeline.errors import CaseError, PipelineError, RequestError
from unet_pipeline.evaluation.differences import (
    CaseDifference,
    DifferencesSummary,
    agreement_of,
    differences_of,
)
from unet_pipeline.records import json_bytes
from unet_pipeline.report.agreement_plot import agreement_png
from unet_pipeline.report.change_pictures import change_png
from unet_pipeline.report.differences_page import differences_html
from unet_pipeline.report.differences_table import differences_csv
from unet_pipeline.report.table import label_order
from unet_pipeline.storage.formats import LABEL_MAPS
from unet_pipeline.storage.ledger import read_record
from unet_pipeline.storage.sidecar import read_sidecar
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import basename, canonical, is_below, redact
from unet_pipeline.volume.axes import OF_LABELS
from unet_pipeline.volume.decoding import read_labels
from unet_pipeline.volume.probe import probe_header

_RECORD = "_dseg.json"
_AT_ONCE = 4  # cases that are being read
_RECORDS_AT_ONCE = 32
MOST_CHANGED, MOST_PLOTS, MOST_PICTURES = 20, 12, 12  # that the report shows
_DRAWING_SECONDS = 60.0
_SAME_PLACE_MM = 1e-3
_DIGITS = 5  # of a label
_IN_BIDS = re.compile(r"/sub-[^/]+(/ses-[^/]+)?/[^/]+/[^/]+$")


@dataclass(frozen=True)
class LabelMapUrl:
    """A label map of a finished case, and the names of its labels by their numbers as text."""

    url: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class LabelMapPairs:
    """Label maps of the same cases.

    Attributes
    ----------
    both
        The old and the new label map of each case that both have, by its name.
    only_old, only_new
        Names of cases that one of them has.
    labels
        Name of each label of either, by its number as text.
    """

    both: Mapping[str, tuple[LabelMapUrl, LabelMapUrl]]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    labels: Mapping[str, str]


def finished_below(
    store: Store, prefix: str, leave_out: Callable[[str], bool]
) -> dict[str, LabelMapUrl]:
    """Return the label maps of the finished cases below an output, by case.

    Where some lie in the output itself, those of versions in folders below it do not count.

    Parameters
    ----------
    leave_out
        Says of the URL of a record that it does not count.

    Raises
    ------
    RequestError
        ``differences_ambiguous`` if a case has several; for storage that cannot be reached.
    """
    urls = [url for url in store.list_files(prefix) if url.endswith(_RECORD) and not leave_out(url)]
    with ThreadPoolExecutor(_RECORDS_AT_ONCE) as pool:
        read = pool.map(lambda url: _finished(store, url), urls)
        every = [one for one in read if one is not None]
    itself = [one for one in every if one.output == canonical(prefix)]
    found: dict[str, LabelMapUrl] = {}
    for one in itself or every:
        if one.case in found:
            raise _ambiguous(prefix, one.case)
        found[one.case] = LabelMapUrl(one.url, one.labels)
    return found


@dataclass(frozen=True)
class _Finished:
    """A label map, and the output that its name begins at."""

    case: str
    output: str
    url: str
    labels: Mapping[str, str]


def _finished(store: Store, record: str) -> _Finished | None:
    sidecar = read_sidecar(read_record(store, record) or b"")
    if sidecar is None:
        return None
    kind = str(sidecar.run.settings.get("output_format", "nifti"))
    ending = LABEL_MAPS.get(kind, LABEL_MAPS["nifti"]).rstrip("/")
    simple = f"/{sidecar.case}{_RECORD}"
    is_simple, in_bids = record.endswith(simple), _IN_BIDS.search(record)
    length = len(record) - len(simple) if is_simple else in_bids.start() if in_bids else 0
    url = record.removesuffix(".json") + ending
    return _Finished(sidecar.case, record[:length], url, sidecar.run.labels)


def finished_before(
    store: Store, old: str, output: str, records: Collection[str], cases: Collection[str]
) -> dict[str, LabelMapUrl]:
    """Return the label maps that those of a run are held against, by case.

    Parameters
    ----------
    records, cases
        URLs of the records that the run writes, which may lie among the old ones; its cases.

    Raises
    ------
    RequestError
        ``differences_empty`` if it has none of the run's cases; as ``finished_below``.
    """
    mine, within = {canonical(url) for url in records}, lies_within(output, old)

    def leave_out(url: str) -> bool:
        return canonical(url) in mine or (within and is_below(url, output))

    found = finished_below(store, old, leave_out)
    if found.keys().isdisjoint(cases):
        raise none_in_common(len(found), len(cases), (old, output))
    return found


def lies_within(inner: str, outer: str) -> bool:
    """Say whether a place lies below another, and is not the same."""
    return canonical(inner) != canonical(outer) and is_below(inner, outer)


def paired(old: Mapping[str, LabelMapUrl], new: Mapping[str, LabelMapUrl]) -> LabelMapPairs:
    """Hold label maps together by the names of their cases."""
    both = {name: (old[name], new[name]) for name in sorted(old.keys() & new.keys())}
    labels: dict[str, str] = {}
    for pair in both.values():
        labels |= {**pair[0].labels, **pair[1].labels}
    return LabelMapPairs(
        both,
        tuple(sorted(old.keys() - new.keys())),
        tuple(sorted(new.keys() - old.keys())),
        {label: name for label, name in labels.items() if _is_label(label)},
    )


def compared(store: Store, pairs: LabelMapPairs) -> Iterator[CaseDifference | CaseError]:
    """Yield what changed in each case, or why that cannot be said, as it is ready."""
    labels = [int(label) for label in pairs.labels]

    def compare(name: str) -> CaseDifference | CaseError:
        try:
            return _compare(store, name, *pairs.both[name], labels)
        except CaseError as error:
            return cast(CaseError, error.about(name))

    yield from stopping.as_ready(_AT_ONCE, compare, pairs.both)


def summarised(
    pairs: LabelMapPairs, found: Iterable[CaseDifference | CaseError]
) -> tuple[DifferencesSummary, list[CaseDifference]]:
    """Return what changed over all cases, and the cases, the most changed first."""
    found = list(found)
    cases = [one for one in found if isinstance(one, CaseDifference)]
    cases.sort(key=lambda one: (one.least_dice, one.case))
    agreements = (agreement_of(label, cases) for label in sorted(pairs.labels, key=label_order))
    summary = DifferencesSummary(
        cases=len(cases),
        agreements=tuple(one for one in agreements if one.mean_dice is not None),
        left_out=tuple(sorted(str(one) for one in found if isinstance(one, CaseError))),
        only_old=pairs.only_old,
        only_new=pairs.only_new,
        labels=pairs.labels,
        changed_most=tuple(cases[:MOST_CHANGED]),
    )
    return summary, cases


def write_differences(
    store: Store,
    folder: str,
    pairs: LabelMapPairs,
    found: Iterable[CaseDifference | CaseError],
    *,
    context: Mapping[str, str],
    images: Mapping[str, str] | None = None,
) -> DifferencesSummary:
    """Write report and table into a folder, and return what changed over all cases.

    Parameters
    ----------
    folder
        Named like the run.
    context
        What was compared, as heading and text.
    images
        URL of the image of each case, for the pictures; without, they show both contours alone.
    """
    summary, cases = summarised(pairs, found)
    said = replace(
        summary, report=join(folder, "differences.html"), table=join(folder, "differences.csv")
    )
    plots = {one.label: agreement_png(one, cases) for one in said.agreements[:MOST_PLOTS]}
    pictures = _pictures(store, pairs, said, images or {})
    page = differences_html(said, basename(folder), plots, context, pictures)
    store.write(said.table, differences_csv(cases, said.labels).encode())
    store.write(said.report, page.encode())
    store.write(join(folder, "differences.json"), json_bytes(said.as_dict()))
    return said


def _pictures(
    store: Store, pairs: LabelMapPairs, summary: DifferencesSummary, images: Mapping[str, str]
) -> dict[str, bytes]:
    """Draw the cases that changed most, as many as there is time for."""
    names = {int(label): name for label, name in summary.labels.items()}
    deadline, figures = monotonic() + _DRAWING_SECONDS, {}
    for one in summary.changed_most[:MOST_PICTURES]:
        if monotonic() > deadline:
            break
        old, new = pairs.both[one.case]
        with suppress(PipelineError):  # a report without a picture is better than none
            png = change_png(store, old.url, new.url, images.get(one.case), names)
            if png is not None:
                figures[one.case] = png
    return figures


def none_in_common(old: int, new: int, prefixes: tuple[str, str]) -> RequestError:
    """Return the error of two outputs without a case in common."""
    return RequestError(
        "differences_empty",
        found=f"{old} finished cases below {redact(prefixes[0])}, {new} cases of "
        f"{redact(prefixes[1])}, and none of the same name",
        wanted="two outputs of segment over the same cases",
        remedy="Name the two prefixes that were given as --output",
    )


def _compare(
    store: Store, name: str, old: LabelMapUrl, new: LabelMapUrl, labels: Sequence[int]
) -> CaseDifference:
    urls = (old.url, new.url)
    before, now = (probe_header(store, url, axes=OF_LABELS).header.grid for url in urls)
    if before.shape != now.shape or abs(before.affine - now.affine).max() > _SAME_PLACE_MM:
        raise CaseError(
            "grids_differ",
            found=f"label maps of {before.shape} and {now.shape} voxels, or in other places",
            wanted="two label maps of one image",
            remedy="Look whether both runs had the same images",
        )
    old_XYZ, new_XYZ = (read_labels(store, url, budget_bytes=2**62)[0] for url in urls)
    return CaseDifference(name, differences_of(old_XYZ, new_XYZ, before.voxel_ml, labels))


def _ambiguous(prefix: str, case: str) -> RequestError:
    return RequestError(
        "differences_ambiguous",
        subject=redact(prefix),
        found=f"several finished label maps of {case}, of several models or versions",
        wanted="one label map of each case",
        remedy="Name the folder of one version",
    )


def _is_label(text: str) -> bool:
    """Say whether a record names a label that a map can have, and not background."""
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS and int(text) > 0
