"""Masks on the grid that the network sees."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.errors import CaseError
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.steps import Change, Prepared
from unet_pipeline.volume.views import ArrayView, View, slabs

_LARGEST_LABEL = np.iinfo(np.int16).max


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
    geometry = [step for step in prepared.steps if not isinstance(step, Change)]
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
