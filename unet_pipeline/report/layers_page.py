"""The report of an inspection of layers as one HTML file."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from markupsafe import Markup

from unet_pipeline.evaluation.layer_records import LayerRecord, LayersSummary
from unet_pipeline.report.html import data_uri, render, started
from unet_pipeline.report.layers_table import deviation, labels_of_layers
from unet_pipeline.report.page import label_shown
from unet_pipeline.report.table import number
from unet_pipeline.report.u_picture import scale_text

MAX_FIGURES = 60


@dataclass(frozen=True)
class _Row:
    """A layer as the table shows it."""

    record: LayerRecord
    scale: str
    lost: float | None
    deviation: float | None


def layers_html(
    summary: LayersSummary,
    layers: Sequence[LayerRecord],
    svg: str,
    figures: Sequence[tuple[str, bytes]],
    context: Mapping[str, str],
) -> str:
    """Return the report of an inspection as one self-contained HTML page.

    Parameters
    ----------
    svg
        The picture of the network.
    figures
        Titles and PNG bytes of feature maps; the first ``MAX_FIGURES`` are shown.
    context
        What was run, as heading and text in the order to show.
    """
    labels = labels_of_layers(layers)
    return render(
        "layers.html.j2",
        summary=summary,
        context=context,
        started=started(summary.run_id),
        table_name=PurePosixPath(summary.table).name or "layers.csv",
        picture=_svg_uri(svg),
        rows=[_Row(one, scale_text(one.scale), _lost(one), deviation(one)) for one in layers],
        labels=[label_shown(label, summary.names) for label in labels],
        dice=[label_shown(label, summary.names, number(v)) for label, v in summary.dice.items()],
        figures=[(title, data_uri(png)) for title, png in figures[:MAX_FIGURES]],
        more_figures=max(len(figures) - MAX_FIGURES, 0),
    )


def _lost(layer: LayerRecord) -> float | None:
    return None if layer.lost is None else round(layer.lost, 4) + 0.0  # never -0.0000


def _svg_uri(svg: str) -> Markup:
    data = base64.b64encode(svg.encode()).decode("ascii")
    return Markup("data:image/svg+xml;base64,") + data
