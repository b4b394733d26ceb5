"""Every score of a label map against its mask: overlap, and agreement of the surfaces in mm.

Dice and IoU count voxels. The normalised surface Dice (NSD) and the 95 % Hausdorff distance (HD95)
are MONAI's (``monai.metrics``): a surface is the voxels that an erosion takes away, distances are
between voxel centres.

What an absent label counts:

======================  ===========  ====  =====
label is absent from    Dice, IoU    NSD   HD95
======================  ===========  ====  =====
both                    None         None  None
one of the two          0            0     None
======================  ===========  ====  =====
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from numpy.typing import NDArray
from scipy import ndimage

from unet_pipeline.evaluation.metrics import check_shapes

Slices = tuple[slice, ...]
_quiet = Lock()  # filters of warnings belong to the whole process


@dataclass(frozen=True)
class LabelScore:
    """The scores of one label of one case; None where there is nothing to measure.

    Attributes
    ----------
    dice, iou
        Overlap of the voxels, 0 to 1.
    nsd
        Share of both surfaces that lies within the tolerance of the other one, 0 to 1.
    hd95_mm
        The larger of the 95th percentiles of the distances from each surface to the other, in mm.
    """

    dice: float | None = None
    iou: float | None = None
    nsd: float | None = None
    hd95_mm: float | None = None


def score_labels(
    prediction_XYZ: NDArray[Any],
    reference_XYZ: NDArray[Any],
    labels: Sequence[int],
    spacing_mm: Sequence[float],
    tolerance_mm: float,
) -> dict[int, LabelScore]:
    """Score a label map label by label.

    Parameters
    ----------
    prediction_XYZ, reference_XYZ
        Label maps on one grid, integers of 0 or more.
    labels
        Labels to score, 1 or more.
    spacing_mm
        Size of a voxel along each axis.
    tolerance_mm
        Distance up to which the surfaces count as the same.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    check_shapes(prediction_XYZ, reference_XYZ)
    most = max(labels, default=0)
    found = [ndimage.find_objects(array, most) for array in (prediction_XYZ, reference_XYZ)]
    scores = {}
    for label in labels:
        box = _union(found[0][label - 1], found[1][label - 1])
        if box is None:
            scores[label] = LabelScore()
            continue
        predicted, wanted = prediction_XYZ[box] == label, reference_XYZ[box] == label
        scores[label] = _score(predicted, wanted, spacing_mm, tolerance_mm)
    return scores


def _score(
    predicted: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    tolerance_mm: float,
) -> LabelScore:
    sizes = int(np.count_nonzero(predicted)), int(np.count_nonzero(wanted))
    if not min(sizes):
        return LabelScore(0.0, 0.0, 0.0, None)
    shared = int(np.count_nonzero(predicted & wanted))
    # MONAI wants (batch, class, X, Y, Z); a box around both surfaces tells as much as the volume
    y_pred, y = (torch.from_numpy(array[None, None]) for array in (predicted, wanted))
    spacing = tuple(map(float, spacing_mm))
    common: dict[str, Any] = {"include_background": True, "spacing": spacing}
    with _without_deprecations():
        nsd = compute_surface_dice(y_pred, y, [tolerance_mm], **common)
        hd95 = compute_hausdorff_distance(y_pred, y, percentile=95, **common)
    return LabelScore(
        dice=2 * shared / sum(sizes),
        iou=shared / (sum(sizes) - shared),
        nsd=float(nsd),
        hd95_mm=float(hd95),
    )


def _union(one: Slices | None, other: Slices | None) -> Slices | None:
    """Return the box around both; None if there is neither."""
    if one is None or other is None:
        return one or other
    return tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """MONAI 1.6 warns about an argument that it passes itself."""
    with _quiet, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy.*", FutureWarning)
        yield
