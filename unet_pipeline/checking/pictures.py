"""Pictures of doubtful pairs: the mask over the image, in three planes."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from unet_pipeline.errors import PipelineError
from unet_pipeline.gate.alignment import allowed_mm
from unet_pipeline.gate.examine import Policy
from unet_pipeline.gate.inspect import read_reference
from unet_pipeline.records import Case
from unet_pipeline.report.overlay import overlay_png
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.axes import Axes
from unet_pipeline.volume.decoding import StoredView, read_volume
from unet_pipeline.volume.disk_arrays import Room
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.labels import as_labels
from unet_pipeline.volume.regrid import match_grid

log = logging.getLogger(__name__)


def pair_picture(
    store: Store,
    case: Case,
    policy: Policy,
    names: Mapping[int, str] = MappingProxyType({}),
) -> bytes | None:
    """Draw a case as a PNG; None if its files cannot be read, or take more than the memory.

    Filled is the mask laid over the image voxel for voxel, as a program does that ignores headers;
    dashed is where its header says that it lies. Where the shapes differ only the second is drawn.

    Parameters
    ----------
    names
        Of the labels, for the legend.
    """
    if not case.images:
        return None
    try:
        with scratch_folder() as scratch:
            axes, of_masks = policy.axes_of(len(case.images)), policy.axes_of_masks
            image = _read(store, case.images[0], policy, str(scratch), axes)
            if case.mask and case.parts:
                room, grid = Room(policy.memory_bytes, str(scratch)), image.header.grid
                joined = read_reference(store, case.mask, case.parts, grid, policy, room)
                values_XYZ = joined.labels_XYZ
                header = replace(image.header, slope=1.0, inter=0.0)
                return _drawn(image, StoredView(header, values_XYZ, None), policy, names)
            mask = case.mask and _read(store, case.mask, policy, str(scratch), of_masks)
            return _drawn(image, mask or None, policy, names)
    except (PipelineError, np.linalg.LinAlgError):
        return None
    except Exception:  # a picture is not worth a report
        log.exception("%s cannot be drawn for a reason that nobody foresaw", case.name)
        return None


def _drawn(
    image: StoredView, mask: StoredView | None, policy: Policy, names: Mapping[int, str]
) -> bytes | None:
    grid = image.header.grid
    if not grid.is_a_place:
        return None
    by_voxel = by_world = None
    if mask is not None:
        labels_XYZ = as_labels(mask.values())
        by_world = _by_world(labels_XYZ, mask.header.grid, grid, policy)
        by_voxel = labels_XYZ if mask.shape == image.shape else None
    filled = by_voxel if by_voxel is not None else by_world
    if filled is None:
        filled = np.zeros(grid.shape, np.uint8)
    moved = mask is not None and mask.header.grid != grid
    dashed = by_world if by_voxel is not None and moved else None
    return overlay_png(
        image.stored(Box.whole(image.shape)),
        filled,
        grid.spacing_mm,
        dashed,
        axcodes=tuple(grid.axcodes),
        dashed="by its header",
        names=names,
    )


def _read(store: Store, url: str, policy: Policy, scratch: str, axes: Axes) -> StoredView:
    most = policy.memory_bytes
    return read_volume(
        store, url, role="volume", budget_bytes=most, scratch=scratch, form=policy.form,
        most_bytes=most, axes=axes,
    ).view  # fmt: skip


def _by_world(
    labels_XYZ: npt.NDArray[np.integer], source: VoxelGrid, target: VoxelGrid, policy: Policy
) -> npt.NDArray[np.integer] | None:
    """Return the labels where the mask's header says they lie; None if it says nothing usable."""
    if not source.is_a_place:
        return None
    allowed = allowed_mm(target, policy.tolerance)
    return match_grid(labels_XYZ, source, target, allowed, "nearest")
