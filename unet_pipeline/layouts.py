"""How the label maps of a run are called: simply, by their cases, or as derivatives of BIDS."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import unet_pipeline
from unet_pipeline.config import SegmentSettings
from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.records import Case
from unet_pipeline.report.palette import label_colour
from unet_pipeline.storage import bids_dataset as bids
from unet_pipeline.storage.bids_names import label_map_name
from unet_pipeline.storage.cases import Cohort, Fault
from unet_pipeline.storage.claims import RECORD
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import redact, relative_to

_AT_ONCE = 32  # requests under way


@dataclass(frozen=True)
class Layout:
    """Names of label maps below the output.

    Attributes
    ----------
    names
        By case; without ending. Empty for simple ones.
    said
        What the record of a case says besides, by case.
    source
        URL of the images' dataset, if it is one of BIDS.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    said: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str | None = None

    def name_of(self, case: Case) -> str:
        """Return the path of a case's label map below the output, without ending."""
        return self.names.get(case.name, case.output_name)


SIMPLE = Layout()


def open_layout(
    settings: SegmentSettings, store: Store, bundle: Bundle, cohort: Cohort
) -> tuple[Layout, Cohort]:
    """Return how label maps are called, and the cohort, in which a case without a name is at fault.

    Raises
    ------
    RequestError
        ``bids_tree_missing``, ``bids_output_raw``, ``bids_format``.
    """
    there = _described(store, settings.output)
    if not _may_be_bids(settings, store, cohort, there):
        return SIMPLE, cohort
    layout, faults = _named(cohort, bundle.name)
    if settings.output_layout == "auto" and there is None and faults:
        return SIMPLE, cohort
    sound = tuple(case for case in cohort.cases if case.name in layout.names)
    return layout, replace(cohort, cases=sound, faults=(*cohort.faults, *faults))


def write_dataset(settings: SegmentSettings, store: Store, bundle: Bundle, layout: Layout) -> None:
    """Write what stands at the root of a dataset of BIDS, where nothing or a file of ours lies.

    Raises
    ------
    RequestError
        What the store says.
    """
    if layout.source is None:
        return
    before = _described(store, settings.output) or {}
    files = {
        bids.DESCRIPTION: bids.description(
            model=bundle.name,
            weights=bundle.weights_digest,
            version=unet_pipeline.__version__,
            source=layout.source,
            output=settings.output,
            source_said=_described(store, layout.source) or {},
            before=before,
        ),
        bids.IGNORE: bids.ignore_list(),
        "README.md": bids.readme(bundle.name),
        bids.table_name(bundle.name): bids.label_table(
            bundle.labels, {number: label_colour(number) for number in bundle.foreground}
        ),
    }
    OwnFiles(store, settings.output).write_where_ours(files)


def _named(cohort: Cohort, model: str) -> tuple[Layout, list[Fault]]:
    """Return the names of all cases, and the cases that get none."""
    named: dict[str, list[tuple[Case, list[str]]]] = {}
    faults: list[Fault] = []
    for case in cohort.cases:
        try:
            paths = [relative_to(url, cohort.base) for url in case.images]
            named.setdefault(label_map_name(paths, model), []).append((case, paths))
        except CaseError as error:
            faults.append((case, error))
        except ValueError:
            faults.append((case, _outside(case)))
    faults += [(case, _clash(case, name)) for name, same in named.items() if len(same) > 1
               for case, _ in same]  # fmt: skip
    alone = {same[0][0].name: (name, same[0][1]) for name, same in named.items() if len(same) == 1}
    said = {case: bids.sidecar_keys(paths, name, model) for case, (name, paths) in alone.items()}
    return Layout({case: name for case, (name, _) in alone.items()}, said, cohort.base), faults


def _may_be_bids(
    settings: SegmentSettings, store: Store, cohort: Cohort, there: Mapping[str, Any] | None
) -> bool:
    """Say whether names are those of BIDS, if the images have such; ``there`` is of the output."""
    wish = settings.output_layout
    if wish == "simple":
        return False
    if _described(store, cohort.base) is None:
        if wish == "bids":
            raise _no_tree(settings.images)
        return False
    if wish == "auto" and there is None:
        return settings.output_format == "nifti" and not _has_simple(store, settings, cohort)
    if there is not None and not bids.is_derivative(there):
        if wish == "auto" and _has_simple(store, settings, cohort):
            return False
        raise _raw(settings.output)
    if settings.output_format != "nifti":
        raise _format(settings.output)
    return True


def _described(store: Store, folder: str) -> dict[str, Any] | None:
    """Return what describes a dataset of BIDS in this folder; None if there is none to be read."""
    with suppress(CaseError):
        data = store.read_at_most(join(folder, bids.DESCRIPTION), bids.MOST_BYTES)
        return bids.read_description(data)
    return None


def _has_simple(store: Store, settings: SegmentSettings, cohort: Cohort) -> bool:
    """Say whether the output holds a record of some case under its simple name."""
    if not store.exists(settings.output):
        return False
    urls = (join(settings.output, f"{case.output_name}{RECORD}") for case in cohort.cases)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return any(there is not None for there in _in_turn(pool, store, list(urls)))


def _in_turn(pool: ThreadPoolExecutor, store: Store, urls: list[str]) -> Iterator[Any]:
    """Ask for objects, some at once, and no more than it takes to find one."""
    for start in range(0, len(urls), _AT_ONCE):
        yield from pool.map(store.find, urls[start : start + _AT_ONCE])


def _no_tree(images: str) -> RequestError:
    return RequestError(
        "bids_tree_missing",
        subject=redact(images),
        found=f"images without a {bids.DESCRIPTION} that has a BIDSVersion where they begin",
        wanted="the root of a BIDS tree, a glob or a manifest there",
        remedy="Name the root (tree, or 'tree/**/*_T1w.nii.gz'), or --output-layout simple",
    )


def _raw(output: str) -> RequestError:
    return RequestError(
        "bids_output_raw",
        subject=redact(output),
        found="an output that is the root of a dataset of BIDS, and no derivative",
        wanted="a folder of its own for label maps",
        remedy="Take one like <tree>/derivatives/unet-pipeline, or --output-layout simple",
    )


def _format(output: str) -> RequestError:
    return RequestError(
        "bids_format",
        subject=redact(output),
        found="label maps in OME-Zarr, named as BIDS has it",
        wanted="NIfTI: BIDS has no segmentations in OME-Zarr",
        remedy="Take --output-format nifti, or --output-layout simple and another output",
    )


def _outside(case: Case) -> CaseError:
    return CaseError(
        "bids_name_invalid",
        subject=case.name,
        found="an image outside of the BIDS tree that the request names",
        wanted="one below its root",
        remedy="Put the manifest at the root, or take --output-layout simple",
    )


def _clash(case: Case, name: str) -> CaseError:
    return CaseError(
        "bids_name_clash",
        subject=case.name,
        found=f"another image whose label map would have the same name ({name})",
        wanted="images whose names differ in more than what stands for nothing in BIDS",
        remedy="Rename one of them, name one of them as IMAGES, or take --output-layout simple",
    )
