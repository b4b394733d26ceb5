"""``differences``: what changed between two sets of label maps of the same cases; no masks needed.

Both are outputs of ``segment``: of two models, two versions, two settings. Cases are found by their
records and held together by their names.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from unet_pipeline import stopping
from unet_pipeline.config import DifferencesSettings
from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.evaluation.differences import (
    CaseDifference,
    DifferencesSummary,
    agreement_of,
    differences_of,
)
from unet_pipeline.records import json_bytes
from unet_pipeline.report.agreement_plot import agreement_png
from unet_pipeline.report.differences_page import differences_html
from unet_pipeline.report.differences_table import differences_csv
from unet_pipeline.report.table import label_order
from unet_pipeline.request import new_run_id, open_store
from unet_pipeline.storage.formats import LABEL_MAPS
from unet_pipeline.storage.sidecar import Sidecar, read_sidecar
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.axes import OF_LABELS
from unet_pipeline.volume.decoding import read_labels
from unet_pipeline.volume.probe import probe_header

_RECORD = "_dseg.json"
_AT_ONCE = 4  # cases that are being read
MOST_CHANGED, MOST_PLOTS = 20, 12  # that the report shows
_SAME_PLACE_MM = 1e-3
_DIGITS = 5  # of a label


@dataclass(frozen=True)
class LabelMapUrl:
    """A label map of a finished case, by its record."""

    url: str
    sidecar: Sidecar


@dataclass(frozen=True)
class DifferencesRun:
    """A checked request for ``differences``.

    Attributes
    ----------
    pairs
        The old and the new label map of each case that both have, by its name.
    only_old, only_new
        Names of cases that one of them has.
    labels
        Name of each label of either, by its number as text.
    """

    run_id: str
    settings: DifferencesSettings
    store: Store
    pairs: Mapping[str, tuple[LabelMapUrl, LabelMapUrl]]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    labels: Mapping[str, str]


def open_differences(settings: DifferencesSettings) -> DifferencesRun:
    """List both outputs.

    Raises
    ------
    RequestError
        ``differences_empty`` if they have no finished case in common; for storage that cannot be
        reached or written.
    """
    store = open_store(settings.storage)
    old, new = (_finished(store, url) for url in (settings.old, settings.new))
    both = sorted(old.keys() & new.keys())
    if not both:
        raise RequestError(
            "differences_empty",
            found=f"{len(old)} finished cases below {settings.old}, {len(new)} below "
            f"{settings.new}, and none of the same name",
            wanted="two outputs of segment over the same cases",
            remedy="Name the two prefixes that were given as --output",
        )
    if settings.output is not None:
        store.check_writable(settings.output)
    labels: dict[str, str] = {}
    for name in both:
        labels |= {**old[name].sidecar.run.labels, **new[name].sidecar.run.labels}
    return DifferencesRun(
        new_run_id(),
        settings,
        store,
        {name: (old[name], new[name]) for name in both},
        tuple(sorted(old.keys() - new.keys())),
        tuple(sorted(new.keys() - old.keys())),
        {label: name for label, name in labels.items() if _is_label(label)},
    )


def run_differences(run: DifferencesRun) -> Iterator[CaseDifference | CaseError]:
    """Yield what changed in each case, or why that cannot be said, as it is ready."""

    def compare(name: str) -> CaseDifference | CaseError:
        try:
            return _compare(run, name)
        except CaseError as error:
            return cast(CaseError, error.about(name))

    yield from stopping.as_ready(_AT_ONCE, compare, run.pairs)


def close_differences(
    run: DifferencesRun, found: Iterable[CaseDifference | CaseError]
) -> DifferencesSummary:
    """Write report and table, if there is an output, and return what changed over all cases."""
    found = list(found)
    cases = [one for one in found if isinstance(one, CaseDifference)]
    cases.sort(key=lambda one: (one.least_dice, one.case))
    agreements = (agreement_of(label, cases) for label in sorted(run.labels, key=label_order))
    summary = DifferencesSummary(
        cases=len(cases),
        agreements=tuple(one for one in agreements if one.mean_dice is not None),
        left_out=tuple(sorted(str(one) for one in found if isinstance(one, CaseError))),
        only_old=run.only_old,
        only_new=run.only_new,
        labels=run.labels,
        changed_most=tuple(cases[:MOST_CHANGED]),
    )
    return summary if run.settings.output is None else _written(run, summary, cases)


def _written(
    run: DifferencesRun, summary: DifferencesSummary, cases: Sequence[CaseDifference]
) -> DifferencesSummary:
    folder = join(str(run.settings.output), "runs", run.run_id)
    said = replace(
        summary, report=join(folder, "differences.html"), table=join(folder, "differences.csv")
    )
    plots = {one.label: agreement_png(one, cases) for one in said.agreements[:MOST_PLOTS]}
    context = {"Old": run.settings.old, "New": run.settings.new}
    page = differences_html(said, run.run_id, plots, context)
    run.store.write(said.table, differences_csv(cases, run.labels).encode())
    run.store.write(said.report, page.encode())
    run.store.write(join(folder, "differences.json"), json_bytes(said.as_dict()))
    return said


def _finished(store: Store, prefix: str) -> dict[str, LabelMapUrl]:
    """Return the label maps of the finished cases below an output, by case."""
    found = {}
    for url in store.list_files(prefix):
        if not url.endswith(_RECORD):
            continue
        sidecar = read_sidecar(store.read(url))
        if sidecar is not None:
            kind = str(sidecar.run.settings.get("output_format", "nifti"))
            ending = LABEL_MAPS.get(kind, LABEL_MAPS["nifti"])
            found[sidecar.case] = LabelMapUrl(
                url.removesuffix(".json") + ending.rstrip("/"), sidecar
            )
    return found


def _compare(run: DifferencesRun, name: str) -> CaseDifference:
    urls = [each.url for each in run.pairs[name]]
    old, new = (probe_header(run.store, url, axes=OF_LABELS).header.grid for url in urls)
    if old.shape != new.shape or abs(old.affine - new.affine).max() > _SAME_PLACE_MM:
        raise CaseError(
            "grids_differ",
            found=f"label maps of {old.shape} and {new.shape} voxels, or in other places",
            wanted="two label maps of one image",
            remedy="Look whether both runs had the same images",
        )
    old_XYZ, new_XYZ = (read_labels(run.store, url, budget_bytes=2**62)[0] for url in urls)
    labels = [int(label) for label in run.labels]
    return CaseDifference(name, differences_of(old_XYZ, new_XYZ, old.voxel_ml, labels))


def _is_label(text: str) -> bool:
    """Say whether a record names a label that a map can have, and not background."""
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS and int(text) > 0
