"""The course of a training as one picture: loss on the left, Dice on the right.

Pixel coordinates are (x, y) from the top left; values have y upwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from unet_pipeline.report.axes import Axis
from unet_pipeline.report.palette import PALETTE, Colour

WIDTH, HEIGHT = 900, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 34, 44
_BACKGROUND, _INK, _GRID = (255, 255, 255), (40, 40, 40), (226, 226, 226)
_SMOOTHED_OVER = 50  # a window of one such part of the steps
_TICKS = 5
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes
    ----------
    name
        What the legend says; empty for a line that is not in it.
    points
        (x, y) in the chart's units, by rising x.
    dots
        Whether each point is marked.
    """

    name: str
    points: Sequence[Point]
    colour: Colour
    dots: bool = False


def training_curves_png(
    losses: Sequence[float],
    dice: Sequence[tuple[int, Mapping[int, float | None]]],
    names: Mapping[int, str],
    best: int | None = None,
) -> bytes:
    """Draw a training as a PNG.

    Parameters
    ----------
    losses
        Loss of each step.
    dice
        For each validation the step it followed, and the Dice per label.
    names
        Name of each label, for the legend.
    best
        The step of the best validation, which is marked.
    """
    canvas = Image.new("RGB", (WIDTH, HEIGHT), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    steps = max(len(losses), 1)
    _chart(draw, 0, f"Loss after {len(losses)} steps", _loss_lines(losses), steps, None, None)
    title = "Dice of the cases kept aside"
    _chart(draw, WIDTH // 2, title, _dice_lines(dice, names), steps, (0.0, 1.0), best)
    return _png(canvas)


def smoothed(values: Sequence[float], width: int) -> list[float]:
    """Return the mean of each value and of up to ``width - 1`` before it."""
    means, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - width] if index >= width else 0.0)
        means.append(total / min(index + 1, width))
    return means


def _loss_lines(losses: Sequence[float]) -> list[Line]:
    numbered = list(enumerate(losses, start=1))
    mean = enumerate(smoothed(losses, max(1, len(losses) // _SMOOTHED_OVER)), start=1)
    return [
        Line("each step", numbered, (190, 205, 220)),
        Line("running mean", list(mean), PALETTE[6]),
    ]


def _dice_lines(
    dice: Sequence[tuple[int, Mapping[int, float | None]]], names: Mapping[int, str]
) -> list[Line]:
    labels = sorted({label for _, values in dice for label in values})
    points = {
        label: [(step, value) for step, values in dice if (value := values.get(label)) is not None]
        for label in labels
    }
    return [
        Line(names.get(label, str(label)), points[label], PALETTE[index % len(PALETTE)], dots=True)
        for index, label in enumerate(labels)
    ]


def _chart(
    draw: ImageDraw.ImageDraw,
    left: int,
    title: str,
    lines: Sequence[Line],
    steps: int,
    limits: tuple[float, float] | None,
    mark: int | None,
) -> None:
    values = [value for line in lines for _, value in line.points]
    low, high = limits or _limits(values)
    across = Axis(0, steps, left + _LEFT, left + WIDTH // 2 - _RIGHT)
    upward = Axis(low, high, HEIGHT - _BOTTOM, _TOP)
    draw.text((left + _LEFT, 10), title, fill=_INK, font=_font(15))
    _ticks(draw, across, upward)
    if mark is not None:
        x = across.pixel(mark)
        draw.line([(x, upward.start), (x, upward.end)], fill=(150, 150, 150))
    for line in lines:
        _draw_line(draw, line, across, upward)
    _legend(draw, lines, across.start)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _ticks(draw: ImageDraw.ImageDraw, across: Axis, upward: Axis) -> None:
    for value in upward.ticks(_TICKS):
        y = upward.pixel(value)
        draw.line([(across.start, y), (across.end, y)], fill=_GRID)
        draw.text((across.start - 6, y), f"{value:g}"[:6], fill=_INK, font=_font(12), anchor="rm")
    for value in across.ticks(_TICKS):
        draw.text(
            (across.pixel(value), upward.start + 6), f"{value:g}", fill=_INK, font=_font(12),
            anchor="ma",
        )  # fmt: skip
    draw.line(
        [(across.start, upward.end), (across.start, upward.start), (across.end, upward.start)],
        fill=_INK,
    )


def _draw_line(draw: ImageDraw.ImageDraw, line: Line, across: Axis, upward: Axis) -> None:
    pixels = [(across.pixel(x), upward.pixel(y)) for x, y in line.points]
    if len(pixels) > 1:
        draw.line(pixels, fill=line.colour, width=2, joint="curve")
    for x, y in pixels if line.dots else ():
        draw.ellipse([(x - 3, y - 3), (x + 3, y + 3)], fill=line.colour)


def _legend(draw: ImageDraw.ImageDraw, lines: Sequence[Line], left: float) -> None:
    x, y, end = left, HEIGHT - 12, left + WIDTH // 2 - _LEFT - 70
    for index, line in enumerate(lines):
        if x > end:
            draw.text((x, y), f"+ {len(lines) - index}", fill=_INK, font=_font(13), anchor="lm")
            return
        draw.rectangle([(x, y - 5), (x + 10, y + 5)], fill=line.colour)
        draw.text((x + 15, y), line.name, fill=_INK, font=_font(13), anchor="lm")
        x += 30 + draw.textlength(line.name, font=_font(13))


@cache
def _font(size: int) -> _Font:
    return ImageFont.load_default(size)


def _png(canvas: Image.Image) -> bytes:
    buffer = BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()
