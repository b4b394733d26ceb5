"""The report of ``differences`` as one HTML file that needs nothing but itself."""

from collections.abc import Mapping
from types import MappingProxyType

from unet_pipeline.evaluation.differences import DifferencesSummary, sentence_of
from unet_pipeline.report import overlay
from unet_pipeline.report.agreement_plot import HEIGHT, WIDTH
from unet_pipeline.report.html import data_uri, render, started
from unet_pipeline.report.small_pictures import smaller
from unet_pipeline.report.table import name_of

MAX_LEFT_OUT, MAX_LINES = 100, 12


def differences_html(
    summary: DifferencesSummary,
    run_id: str,
    plots: Mapping[str, bytes | None],
    context: Mapping[str, str],
    pictures: Mapping[str, bytes] = MappingProxyType({}),
) -> str:
    """Return the report.

    Parameters
    ----------
    plots
        PNG bytes of each label, by its number as text.
    context
        What was compared, as heading and text.
    pictures
        PNG bytes of both label maps of a case, by case name.
    """
    names = summary.labels
    changed = []
    for one in summary.changed_most:
        labels = {k: v for k, v in one.labels.items() if v.dice is not None}
        if labels and one.least_dice < 1:
            worst = min(labels, key=lambda label: labels[label].dice or 0.0)
            changed.append((one.case, name_of(worst, names), labels[worst]))
    return render(
        "differences.html.j2",
        summary=summary,
        context=context,
        started=started(run_id),
        run_id=run_id,
        rows=[(name_of(one.label, names), one) for one in summary.agreements],
        plots=[(name_of(k, names), data_uri(png)) for k, png in plots.items() if png is not None],
        plot_size=(WIDTH, HEIGHT),
        lines=[
            sentence_of(one, name_of(one.label, names)) for one in summary.agreements[:MAX_LINES]
        ],
        changed=changed,
        pictures=[(case, data_uri(*smaller(png))) for case, png in pictures.items()],
        picture_size=(overlay.WIDTH, overlay.HEIGHT),
        left_out=summary.left_out[:MAX_LEFT_OUT],
        more_left_out=max(len(summary.left_out) - MAX_LEFT_OUT, 0),
    )
