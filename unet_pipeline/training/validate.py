"""The Dice of a network that is being trained, as ``segment`` would find it.

Windows, fixed-point sums, interpolation to the native grid and decision are those of the product.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.choices import Confidence
from unet_pipeline.deciding import TileLabels
from unet_pipeline.evaluation.confidence import confidence_of, sums_of
from unet_pipeline.evaluation.metrics import dice_per_label
from unet_pipeline.inference.predictor import Predictor
from unet_pipeline.tiles import streamed_labels
from unet_pipeline.tiling.planning import make_plan
from unet_pipeline.training.cases import LoadedCase
from unet_pipeline.volume.steps import covered_box
from unet_pipeline.volume.views import ArrayView, read_with_margin

Validated = tuple[dict[int, float | None], dict[str, dict[str, float]]]  # Dice and confidence


def validate(
    predictor: Predictor, cases: Iterable[LoadedCase], overlap: float
) -> list[dict[int, float | None]]:
    """Return the Dice per label of each case, on its native grid, at the deepest head."""
    labels = range(1, predictor.classes)
    return [
        dice_per_label(segmented(predictor, case, overlap), case.mask_XYZ, labels) for case in cases
    ]


def validate_with_confidence(
    predictor: Predictor, cases: Iterable[LoadedCase], overlap: float
) -> list[Validated]:
    """Return the Dice per label of each case as ``validate``, and how sure the network is."""
    labels, scored = range(1, predictor.classes), []
    for case in cases:
        found = _labelled(predictor, case, overlap, "numbers")
        assert found.confidence is not None  # noqa: S101  it was asked for
        sums_L5 = sums_of(found.labels_XYZ, [found.confidence])
        dice = dice_per_label(found.labels_XYZ, case.mask_XYZ, labels)
        scored.append((dice, confidence_of(sums_L5, labels)))
    return scored


def segmented(predictor: Predictor, case: LoadedCase, overlap: float) -> npt.NDArray[Any]:
    """Return the label map of a case that is in memory, on its native grid."""
    return _labelled(predictor, case, overlap, "none").labels_XYZ


def _labelled(
    predictor: Predictor, case: LoadedCase, overlap: float, confidence: Confidence
) -> TileLabels:
    prepared, image_CXYZ = case.prepared, np.asarray(case.sample.image_CXYZ)
    plan = make_plan(
        native_shape=prepared.native.shape,
        model_shape=prepared.model.shape,
        needs=lambda box: covered_box(prepared, box),
        roi_size=predictor.roi_size,
        overlap=overlap,
        channels=len(image_CXYZ),
        classes=predictor.classes,
        tile_shape=prepared.native.shape,
    )
    (tile,) = plan.tiles
    read_box = plan.cover_box(tile)
    values_CXYZ = read_with_margin(ArrayView(image_CXYZ), read_box)
    labels, _ = streamed_labels(predictor, values_CXYZ, read_box, tile, prepared, confidence)
    return labels
