"""The layers of an inspection as tables: CSV for machines, rows and Markdown for the run's page."""

import csv
import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from unet_pipeline.evaluation.layer_records import LayerRecord
from unet_pipeline.report.table import Cell, as_code, cell_text, digits, label_order, name_of
from unet_pipeline.report.u_picture import scale_text
from unet_pipeline.texts import shown


def labels_of_layers(layers: Sequence[LayerRecord]) -> list[str]:
    """Return the labels that any probe was scored on, in numeric order."""
    return sorted({label for one in layers for label in one.probe_dice}, key=label_order)


def layers_csv(
    layers: Sequence[LayerRecord], names: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return one line per layer, in order of execution, as RFC 4180.

    The columns are ``layer, kind, side, shape, scale, parameters, multiply_adds, dice_lost,
    dice_lost_deviation``, the mean ``probe_dice``, then ``probe_dice_<label>``,
    ``probe_iou_<label>`` and ``dice_lost_<label>`` for each label, and ``dice_lost_groups``, one
    number for each channel group, separated by spaces. Labels are called by ``names``.
    """
    labels = labels_of_layers(layers)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(
        ["layer", "kind", "side", "shape", "scale", "parameters", "multiply_adds"]
        + ["dice_lost", "dice_lost_deviation", "probe_dice"]
        + [
            f"{name}_{cell_text(name_of(label, names))}"
            for name in ("probe_dice", "probe_iou", "dice_lost")
            for label in labels
        ]
        + ["dice_lost_groups"]
    )
    for one in layers:
        per_label = [
            digits(values.get(label), 4)
            for values in (one.probe_dice, one.probe_iou, one.lost_labels)
            for label in labels
        ]
        writer.writerow(
            [
                cell_text(one.layer),
                one.kind,
                one.side,
                " ".join(map(str, one.shape)),
                scale_text(one.scale),
                one.parameters,
                one.multiply_adds,
                digits(one.lost, 4),
                digits(deviation(one), 4),
                digits(one.mean_probe_dice, 4),
                *per_label,
                " ".join(digits(value, 4) for value in one.lost_groups),
            ]
        )
    return out.getvalue()


def layers_rows(
    layers: Sequence[LayerRecord], names: Mapping[str, str] = MappingProxyType({})
) -> list[dict[str, Cell]]:
    """Return one dictionary of JSON types per layer, for a table artifact of a run."""
    labels = labels_of_layers(layers)
    return [
        {
            "layer": shown(one.layer),
            "side": one.side,
            "scale": scale_text(one.scale),
            "parameters": one.parameters,
            "multiply_adds": one.multiply_adds,
            "dice_lost": _rounded(one.lost),
            "probe_dice": _rounded(one.mean_probe_dice),
            **{
                f"probe_dice_{name_of(label, names)}": _rounded(one.probe_dice.get(label))
                for label in labels
            },
        }
        for one in layers
    ]


def layers_markdown(layers: Sequence[LayerRecord]) -> str:
    """Return a Markdown table of the layers."""
    lines = [
        "| Layer | Side | Scale | Parameters | Probe Dice | Dice lost |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {as_code(one.layer)} | {one.side} | {scale_text(one.scale)} | {one.parameters:,} "
        f"| {digits(one.mean_probe_dice, 3)} | {digits(one.lost, 3)} |"
        for one in layers
    ]
    return "\n".join(lines) + "\n"


def deviation(layer: LayerRecord) -> float | None:
    """Return the standard deviation over cases of the Dice lost; None of fewer than two."""
    values = layer.lost_cases
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
