"""The change of a label's volume against its size (Bland and Altman), as a PNG."""

from collections.abc import Sequence
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from unet_pipeline.evaluation.differences import Agreement, CaseDifference
from unet_pipeline.report.axes import Axis
from unet_pipeline.report.palette import PALETTE, colour_of

WIDTH, HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 16, 40
_INK, _GRID = (40, 40, 40), (226, 226, 226)


def agreement_png(agreement: Agreement, cases: Sequence[CaseDifference]) -> bytes | None:
    """Draw each case as a dot: mean of both volumes (ml) across, change (%) upwards.

    The lines are the mean change and its limits of agreement. None below two cases.
    """
    low, high, mean = agreement.low_percent, agreement.high_percent, agreement.percent
    if low is None or high is None or mean is None:
        return None
    found = [one.labels[agreement.label] for one in cases if agreement.label in one.labels]
    dots = [((one.old_ml + one.new_ml) / 2, p) for one in found if (p := one.percent) is not None]
    most = max(ml for ml, _ in dots)
    span = max(abs(low), abs(high), *(abs(p) for _, p in dots), 0.1) * 1.1
    across = Axis(0.0, most * 1.05, _LEFT, WIDTH - _RIGHT)
    upward = Axis(-span, span, HEIGHT - _BOTTOM, _TOP)
    canvas = Image.new("RGB", (WIDTH, HEIGHT), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    _frame(draw, across, upward)
    for value, colour in ((low, PALETTE[5]), (mean, PALETTE[6]), (high, PALETTE[5])):
        y = upward.pixel(value)
        draw.line([(across.start, y), (across.end, y)], fill=colour, width=2)
    number = int(agreement.label) if agreement.label.isdigit() else 1
    for ml, percent in dots:
        x, y = across.pixel(ml), upward.pixel(percent)
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour_of(number), outline=_INK)
    data = BytesIO()
    canvas.save(data, "PNG")
    return data.getvalue()


def _frame(draw: ImageDraw.ImageDraw, across: Axis, upward: Axis) -> None:
    font = ImageFont.load_default(12)
    for value in upward.ticks(5):
        y = upward.pixel(value)
        draw.line([(across.start, y), (across.end, y)], fill=_GRID)
        draw.text(
            (across.start - 6, y),
            f"{value:+g}%" if value else "0%",
            fill=_INK,
            font=font,
            anchor="rm",
        )
    for value in across.ticks(5):
        draw.text((across.pixel(value), upward.start + 6), f"{value:g}", fill=_INK, font=font,
                  anchor="ma")  # fmt: skip
    draw.text((across.end, HEIGHT - 4), "mean of both, ml", fill=_INK, font=font, anchor="rs")
    draw.line([(across.start, upward.end), (across.start, upward.start),
               (across.end, upward.start)], fill=_INK)  # fmt: skip
