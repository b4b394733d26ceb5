"""Measure one label map that exists already: read it, hold it against its image, count.

Plain functions of plain values: they run on workers.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.cost import Stopwatch
from unet_pipeline.errors import CaseError, PipelineError
from unet_pipeline.evaluation.label_statistics import OF_SHAPE, label_statistics
from unet_pipeline.gate.examine import Policy, examine
from unet_pipeline.gate.inspect import read_reference
from unet_pipeline.gate.voxels import check_mask_voxels
from unet_pipeline.records import Case, CaseRecord, Status
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.storage.faults import of_case
from unet_pipeline.storage.formats import is_volume_folder
from unet_pipeline.storage.label_map_cohort import record_of
from unet_pipeline.storage.label_names import LARGEST_LABEL
from unet_pipeline.storage.ledger import read_record, still_describes
from unet_pipeline.storage.sidecar import read_sidecar
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.versions import Versions
from unet_pipeline.volume.counts import label_counts
from unet_pipeline.volume.decoding import StoredView
from unet_pipeline.volume.disk_arrays import Room
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.probe import probe_header
from unet_pipeline.volume.staging import decode

MOST_LABELS = 1000  # in one label map; an image has more values
Statistics = Mapping[str, Mapping[str, float | str]]


def measure_case(store: Store, case: Case, policy: Policy, names: Mapping[int, str]) -> CaseRecord:
    """Return the statistics of a label map; its own fault becomes its record.

    A label map of ours that has not changed since is not read again where no image is given: its
    record has all.

    Parameters
    ----------
    case
        The label map is its mask.
    names
        Labels that are asked about, beside those that are there.
    """
    stopwatch = Stopwatch()
    try:
        with of_case(case.name):
            known = None if case.images or case.parts else _known(store, case)
            found = _measured(store, case, policy, names) if known is None else known
    except PipelineError as error:
        said = str(error.about(case.name))
        return CaseRecord(case.name, "quarantined", error.code, said, output=case.mask)
    stopwatch.lap("total")
    status: Status = "done" if known is None else "skipped"
    return CaseRecord(
        case.name, status, output=case.mask, seconds=stopwatch.seconds, statistics=found
    )


def _known(store: Store, case: Case) -> Statistics | None:
    """Return what the record of a label map says, if it is ours, unchanged, and has all of it."""
    label_map = case.mask or ""
    url = record_of(label_map)
    sidecar = None if url is None else read_sidecar(read_record(store, url) or b"")
    if sidecar is None or not sidecar.statistics:
        return None
    there = [one for one in sidecar.statistics.values() if one.get("voxels")]
    if any(OF_SHAPE.keys() - one.keys() for one in there):  # of an earlier version
        return None
    if is_volume_folder(label_map):
        label_map = f"{label_map.rstrip('/')}/"
    return sidecar.statistics if still_describes(store, label_map, sidecar) else None


def _measured(store: Store, case: Case, policy: Policy, names: Mapping[int, str]) -> Statistics:
    """Read a case that passes the gate, and count."""
    seen = case if case.images else replace(case, images=case.mask_files[:1])
    examined = examine(store, seen, policy)
    examined.sound_header()
    with scratch_folder() as scratch:
        if case.images:
            read = decode(
                store, case.images, budget_bytes=policy.memory_bytes, scratch=str(scratch),
                form=policy.form, allowed_voxels=policy.tolerance.affine_voxels,
                most_bytes=policy.most_bytes, versions=examined.versions,
                axes=policy.axes_of(len(case.images)), nan=policy.nan_in_images,
            )  # fmt: skip
            grid, views = read.header.grid, read.voxels.inner
        else:
            grid, views = _grid_of(store, case, policy), tuple[StoredView, ...]()
        labels_XYZ, there = _labels(store, case, policy, grid, examined.versions)
        return label_statistics(labels_XYZ, grid, there | names.keys(), views)


def _grid_of(store: Store, case: Case, policy: Policy) -> VoxelGrid:
    url, axes = case.mask_files[0], policy.axes_of_masks
    return probe_header(store, url, policy.form, policy.most_bytes, axes).header.grid


def _labels(
    store: Store, case: Case, policy: Policy, grid: VoxelGrid, versions: Versions
) -> tuple[npt.NDArray[np.unsignedinteger[Any]], set[int]]:
    """Read a label map as integers of 8 or 16 bits, and say which labels it has.

    Raises
    ------
    CaseError
        ``mask_not_integer``, ``labels_undeclared``, ``labels_too_many``, and those of reading.
    """
    assert case.mask is not None  # noqa: S101  a label map is what a case is of
    room = Room(policy.memory_bytes)
    mask = read_reference(store, case.mask, case.parts, grid, policy, room, versions)
    axcodes = tuple(grid.axcodes)
    for finding in check_mask_voxels(mask.values_XYZ, None, grid.spacing_mm, axcodes=axcodes):
        if finding.severity == "fail":
            raise finding.as_error(case.name)
    labels_XYZ = mask.labels_XYZ
    counts = label_counts(labels_XYZ)
    largest = max(counts)
    if len(counts) > MOST_LABELS or largest > LARGEST_LABEL:
        raise CaseError(
            "labels_too_many",
            found=f"{len(counts):,} different values, the largest of them {largest:,}",
            wanted=f"at most {MOST_LABELS:,} labels, of numbers up to {LARGEST_LABEL:,}",
            remedy="Look whether it is an image and not a label map",
        )
    small: type[np.unsignedinteger[Any]] = np.uint8 if largest < 2**8 else np.uint16
    return labels_XYZ.astype(small, order="K", copy=False), counts.keys() - {0}
