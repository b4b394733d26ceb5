"""How large each label is over the cases of a run: what a night without masks shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unet_pipeline.evaluation.confidence import CONFIDENCE
from unet_pipeline.evaluation.prediction import PREDICTED
from unet_pipeline.records import CaseRecord
from unet_pipeline.report.spreads import Spread, spread_of
from unet_pipeline.report.table import label_order


@dataclass(frozen=True)
class LabelSize:
    """A label over all cases that have statistics.

    Attributes
    ----------
    label
        Its number, as text.
    cases, present
        Cases that were counted, and those that have the label.
    low_ml, median_ml, high_ml
        Volume over the cases that have it: 5 %, median and 95 %. None without any.
    in_parts, cut
        Cases in which it has more than one part; in which it touches a side of the volume.
    spread
        Of its volume in ml over the cases that have it: of this run against earlier ones, if any.
    confidence, predicted_dice
        Medians over the cases that say so; None without any.
    """

    label: str
    cases: int
    present: int
    low_ml: float | None
    median_ml: float | None
    high_ml: float | None
    in_parts: int
    cut: int
    spread: Spread | None = None
    confidence: float | None = None
    predicted_dice: float | None = None


def label_sizes(records: Sequence[CaseRecord], *, of_run: bool = False) -> list[LabelSize]:
    """Return the size of each label that any record has statistics of, in numeric order.

    Parameters
    ----------
    of_run
        Whether cases that are done are of this run, and those that were skipped of earlier ones.
    """
    labels = {label for record in records for label in record.statistics}
    return [_size(label, records, of_run) for label in sorted(labels, key=label_order)]


def _size(label: str, records: Sequence[CaseRecord], of_run: bool) -> LabelSize:
    every = [(one.statistics[label], one.status) for one in records if label in one.statistics]
    there = [one for one, _ in every if one.get("voxels")]
    volumes_ml = [_number(one, "volume_ml", 0.0) for one in there]
    before, now = (
        [_number(one, "volume_ml", 0.0) for one, status in every
         if one.get("voxels") and (status == "done") is is_now]
        for is_now in (False, True)
    )  # fmt: skip
    low, median, high = np.percentile(volumes_ml, (5, 50, 95)) if there else (None,) * 3
    return LabelSize(
        label,
        len(every),
        len(there),
        low,
        median,
        high,
        sum(_number(one, "parts", 1.0) > 1 for one in there),
        sum(bool(one.get("cut")) for one in there),
        spread_of(before, now) if before and of_run else spread_of(volumes_ml, ()),
        _median(there, CONFIDENCE[0]),
        _median(there, PREDICTED[0]),
    )


def _median(values: Sequence[Mapping[str, float | str]], name: str) -> float | None:
    found = (one.get(name) for one in values)
    known = [float(value) for value in found if isinstance(value, int | float)]
    return float(np.median(known)) if known else None


def _number(values: Mapping[str, float | str], name: str, default: float) -> float:
    value = values.get(name, default)
    return default if isinstance(value, str) else float(value)
