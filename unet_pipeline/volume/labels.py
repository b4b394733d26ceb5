"""Masks on the grid that the network sees."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.errors import CaseError
from unet_pipeline.tiling.box import Box, Index3, index3
from unet_pipeline.volume.disk_arrays import IN_MEMORY, Room, each_slab, room_of, zeros
from unet_pipeline.volume.steps import MapValues, Prepared
from unet_pipeline.volume.views import ArrayView, View, slabs

NEAR_WHOLE = 1e-3  # tools that write floats leave 0.9999999 and 254.99997
_LARGEST_LABEL = np.iinfo(np.int16).max
_LARGEST_STEP = 0.1  # of stored values that can still be told from fractions


def as_labels(values_XYZ: NDArray[Any]) -> NDArray[Any]:
    """Return the values of a mask as integers: each the nearest whole number."""
    if values_XYZ.dtype.kind in "iu":
        return values_XYZ
    labels_XYZ = zeros(index3(values_XYZ.shape), np.int32, room_of(values_XYZ))
    for part in each_slab(labels_XYZ, values_XYZ):
        with np.errstate(invalid="ignore"):  # values that are no labels are for the gate to refuse
            labels_XYZ[..., part] = np.rint(values_XYZ[..., part])
    return labels_XYZ


def without_steps(values_XYZ: NDArray[Any], step: float) -> NDArray[Any]:
    """Return the values of a mask that was stored as integers times ``step``, its labels whole.

    Floats that nibabel writes into a header of integers are scaled to the largest of them: labels
    1 and 2 become 127 and 255 steps of 2 / 255, and 1 is read as 0.996. So a value that is half a
    step at most from a whole number is that number.
    """
    if not 0 < step <= _LARGEST_STEP:
        return values_XYZ
    whole_XYZ = np.rint(values_XYZ)
    near_XYZ = np.abs(values_XYZ - whole_XYZ) <= 0.5 * step * (1 + 1e-6)
    return np.where(near_XYZ, whole_XYZ, values_XYZ)


def of_one_hot(volumes: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
    """Return the label map of a mask that has a volume of 0 and 1 for each label.

    Where every voxel has a label, the first volume is the background, 0. Otherwise the background
    has none, and the volumes are labels 1, 2 ...

    Raises
    ------
    CaseError
        ``mask_not_one_hot`` for other values than 0 and 1, and for voxels of two labels.
    """
    labels_XYZ = zeros(index3(volumes[0].shape), np.uint8, room_of(volumes[0]))
    for number, values_XYZ in enumerate(volumes, start=1):
        several = False
        for part in each_slab(labels_XYZ, values_XYZ):
            inside, known = _inside(values_XYZ[..., part]), labels_XYZ[..., part]
            if len(volumes) > np.iinfo(np.uint8).max or inside is None:
                raise _not_one_hot("other values than 0 and 1")
            several |= bool(known[inside].any())
            known[inside] = number
        if several:
            raise _not_one_hot("voxels of two labels")
    if all(labels_XYZ[..., part].all() for part in each_slab(labels_XYZ)):
        for part in each_slab(labels_XYZ):
            labels_XYZ[..., part] -= 1
    return labels_XYZ


def _inside(values_XYZ: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return where values are 1; None if some are neither 0 nor 1."""
    inside: NDArray[np.bool_] = np.abs(values_XYZ - 1.0) <= NEAR_WHOLE
    return inside if (inside | (np.abs(values_XYZ) <= NEAR_WHOLE)).all() else None


class LabelMapBuilder:
    """A label map that is put together of masks of one structure each.

    Parameters
    ----------
    shape
        Voxels along each axis of all of them.
    room
        Where it is to lie.
    """

    def __init__(self, shape: Index3, room: Room = IN_MEMORY) -> None:
        self.labels_XYZ: NDArray[np.uint16] = zeros(shape, np.uint16, room)
        self._names: dict[int, str] = {}

    def add(self, label: int, name: str, values_XYZ: NDArray[Any]) -> None:
        """Add the mask of a structure, 1 inside and 0 elsewhere.

        Raises
        ------
        CaseError
            ``mask_not_one_hot`` for other values, ``mask_parts_overlap`` for a voxel that another
            structure has.
        """
        taken = Counter[int]()
        for part in each_slab(self.labels_XYZ, values_XYZ):
            inside, known = _inside(values_XYZ[..., part]), self.labels_XYZ[..., part]
            if inside is None:
                raise _not_one_hot(f"other values than 0 and 1 in {name}")
            taken.update(dict(zip(*map(np.ndarray.tolist, _counted(known[inside])), strict=True)))
            known[inside] = label
        for other, count in sorted(taken.items()):
            if other:
                raise CaseError(
                    "mask_parts_overlap",
                    found=f"mask with {count:,} voxels that are both {self._names[other]} and "
                    f"{name}",
                    wanted="files of structures that do not overlap",
                    remedy="Correct one of the two, or join them into one file as you want them",
                )
        self._names[label] = name


def _counted(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    found, counts = np.unique(values, return_counts=True)
    return found, counts


def _not_one_hot(found: str) -> CaseError:
    return CaseError(
        "mask_not_one_hot",
        found=f"mask of several volumes with {found}",
        wanted="one volume of 0 and 1 for each label, that do not overlap",
        remedy="Write a label map, where each voxel has one number",
    )


def model_labels(mask_XYZ: NDArray[Any], prepared: Prepared) -> NDArray[np.int16]:
    """Bring a mask to the model grid by the geometric steps that its image took.

    Where a step resamples, a voxel gets the label of the largest interpolated share.

    Raises
    ------
    CaseError
        ``labels_out_of_range`` for labels that are no 15-bit numbers.
    """
    labels = [int(label) for label in np.unique(mask_XYZ)]
    if labels[0] < 0 or labels[-1] > _LARGEST_LABEL:
        raise CaseError(
            "labels_out_of_range",
            found=f"labels from {labels[0]} to {labels[-1]}",
            wanted=f"labels from 0 to {_LARGEST_LABEL}",
            remedy="Renumber the labels of the mask",
        )
    geometry = [step for step in prepared.steps if not isinstance(step, MapValues)]
    best_XYZ = np.zeros(prepared.model.shape, np.int16)
    share_XYZ = np.zeros(prepared.model.shape, np.float32)
    for label in labels:
        view: View = ArrayView((mask_XYZ == label)[None])
        for step in geometry:
            view = step.apply(view)
        for box in slabs(view):
            part = box.within(Box.whole(prepared.model.shape))
            candidate_XYZ = view.read(box)[0]
            best_XYZ[part][candidate_XYZ > share_XYZ[part]] = label
            np.maximum(share_XYZ[part], candidate_XYZ, out=share_XYZ[part])
    return best_XYZ
