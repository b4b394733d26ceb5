"""What nnU-Net's second stage sees: the image, and behind it the labels that a first stage found.

A label map goes the way of the image to the model grid (axes, crop, spacing); then each label is a
channel of 0 and 1. Source: nnU-Net 2, its default preprocessor with a segmentation of the previous
stage, and ``convert_labelmap_to_one_hot``.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from unet_pipeline.volume.deskew import ResampleToGrid
from unet_pipeline.volume.label_views import Beside, OneHot, OutsideMarked, label_type
from unet_pipeline.volume.nnunet_steps import Respaced
from unet_pipeline.volume.nnunet_values import Normalised, filled_nonzero
from unet_pipeline.volume.staging import Staged
from unet_pipeline.volume.steps import Identity, Resolved
from unet_pipeline.volume.views import View, materialised


def with_labels(staged: Staged, labels: View, channels: Sequence[int], budget_bytes: int) -> Staged:
    """Put a label map behind what a network sees of an image.

    Parameters
    ----------
    labels
        On the grid of the file.
    channels
        The labels that become a channel each.
    budget_bytes
        What may be held in memory of the label map on the model grid, besides the image; what is
        more is made tile by tile.
    """
    kind = label_type(channels)
    found = _on_model_grid(staged, labels)
    if kind.itemsize * prod(found.shape) <= budget_bytes:
        found = materialised(found, kind)
    return replace(staged, model=Beside((staged.model, OneHot(found, tuple(channels)))))


def _on_model_grid(staged: Staged, labels: View) -> View:
    """Take a label map along the steps of an image, which say where its voxels go."""
    image: View = staged.native
    for step in staged.prepared.steps:
        labels = _after(step, image, labels)
        image = step.apply(image)
    return labels


def _after(step: Resolved, image: View, labels: View) -> View:
    match step:
        case Normalised():
            inside_XYZ = filled_nonzero(image) if step.mask_XYZ is None else step.mask_XYZ
            return labels if np.all(inside_XYZ) else OutsideMarked(labels, inside_XYZ)
        case Identity():
            return labels
        case Respaced() | ResampleToGrid():
            return step.apply_to_labels(labels)
    return step.apply(labels)
