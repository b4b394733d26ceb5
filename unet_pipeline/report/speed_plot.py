"""The picture of speed against Dice: what is up and to the right is better and faster."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFont

from unet_pipeline.evaluation.records import Evaluation, Interval
from unet_pipeline.report.axes import Axis

WIDTH, HEIGHT = 960, 560
_SCALE = 2  # drawn larger and reduced, for smooth lines
_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 40, 96, 72
_LINE = 19  # of text, in pixels
_INK, _SOFT, _GRID, _PAPER = (26, 29, 33), (86, 93, 102), (226, 229, 233), (255, 255, 255)
_POINT, _CHOSEN, _BAND = (43, 108, 176), (190, 70, 10), (253, 236, 222)
_TICKS = 6  # parts of an axis, at most

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Point:
    """A candidate: its speed in cases per minute, and its Dice."""

    name: str
    speed: float
    dice: Interval
    chosen: bool = False


@dataclass(frozen=True)
class _Place:
    """Where a name stands: its middle, and half its width, in pixels."""

    x: float
    y: float
    half: float

    def overlaps(self, other: "_Place") -> bool:
        """Say whether two names would be drawn over each other."""
        beside = abs(self.x - other.x) < self.half + other.half + 6
        return beside and abs(self.y - other.y) < _LINE


def speed_plot(evaluation: Evaluation) -> bytes | None:
    """Return the picture of an evaluation as PNG, or None if no candidate has a Dice."""
    choice = evaluation.choice
    points = []
    for result in evaluation.results:
        dice, seconds = result.metrics["dice"], result.cost.forward_seconds
        if dice is not None and seconds > 0:
            chosen = choice is not None and result.name == f"L{choice.depth}"
            points.append(Point(result.name, 60 / seconds, dice, chosen))
    if not points:
        return None
    allowed = None
    if choice is not None:
        best = next(point.dice.value for point in points if point.name == f"L{choice.best}")
        allowed = (best - choice.tolerance, best)
    bars = f"Bars: {evaluation.confidence:.0%} confidence over {evaluation.cases} cases."
    if choice is not None:
        bars += f"  Band: within {choice.tolerance:g} of L{choice.best}."
    return draw_speed(points, allowed, bars)


def draw_speed(
    points: Sequence[Point], allowed: tuple[float, float] | None = None, caption: str = ""
) -> bytes:
    """Draw candidates by speed and Dice.

    Parameters
    ----------
    allowed
        Range of Dice that is shaded.
    caption
        A line above the axes.

    Returns
    -------
    bytes
        PNG of ``WIDTH`` x ``HEIGHT``.
    """
    image = Image.new("RGB", (WIDTH * _SCALE, HEIGHT * _SCALE), _PAPER)
    draw = ImageDraw.Draw(image)
    lowest, highest = _dice_range(points, allowed)
    fastest = 1.15 * max(point.speed for point in points)
    x = Axis(0.0, fastest, _LEFT, WIDTH - _RIGHT)
    y = Axis(lowest, highest, HEIGHT - _BOTTOM, _TOP)
    if allowed is not None:
        corners = (x.start, y.pixel(allowed[1]), x.end, y.pixel(allowed[0]))
        draw.rectangle([_SCALE * value for value in corners], fill=_BAND)
    _grid(draw, x, y)
    _text(draw, (_LEFT, 26), caption, 15, _SOFT, "lm")
    placed: list[_Place] = []
    for point in sorted(points, key=lambda one: one.chosen):
        _point(draw, point, x, y)
    for point in points:
        placed.append(_name(draw, point, points, x, y, placed))
    small = image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "PNG", optimize=True)
    return out.getvalue()


def _dice_range(
    points: Sequence[Point], allowed: tuple[float, float] | None
) -> tuple[float, float]:
    ends = [end for point in points for end in (point.dice.low, point.dice.high)]
    low, high = min([*ends, *(allowed or ())]), max([*ends, *(allowed or ())])
    margin = max(0.08 * (high - low), 0.002)
    return low - margin, high + margin


def _grid(draw: ImageDraw.ImageDraw, x: Axis, y: Axis) -> None:
    places = max(0, -math.floor(math.log10(y.tick_step(_TICKS)) + 1e-9))
    for value in y.ticks(_TICKS):
        _line(draw, (x.start, y.pixel(value)), (x.end, y.pixel(value)), _GRID)
        _text(draw, (x.start - 10, y.pixel(value)), f"{value:.{places}f}", 15, _SOFT, "rm")
    for value in x.ticks(_TICKS):
        _line(draw, (x.pixel(value), y.start), (x.pixel(value), y.end), _GRID)
        _text(draw, (x.pixel(value), y.start + 16), f"{value:,.4g}", 15, _SOFT, "mm")
    _line(draw, (x.start, y.start), (x.end, y.start), _SOFT)
    _line(draw, (x.start, y.start), (x.start, y.end), _SOFT)
    middle = (x.start + x.end) / 2
    _text(draw, (middle, HEIGHT - 24), "cases per minute in the network", 16, _INK, "mm")
    _text(draw, (14, 26), "Dice", 16, _INK, "lm")


def _point(draw: ImageDraw.ImageDraw, point: Point, x: Axis, y: Axis) -> None:
    colour = _CHOSEN if point.chosen else _POINT
    across, middle = x.pixel(point.speed), y.pixel(point.dice.value)
    for end in (point.dice.low, point.dice.high):
        _line(draw, (across, middle), (across, y.pixel(end)), colour, 2)
        _line(draw, (across - 5, y.pixel(end)), (across + 5, y.pixel(end)), colour, 2)
    radius = 8 if point.chosen else 6
    box = (across - radius, middle - radius, across + radius, middle + radius)
    draw.ellipse([_SCALE * value for value in box], fill=colour, outline=_PAPER, width=_SCALE)


def _name(
    draw: ImageDraw.ImageDraw,
    point: Point,
    points: Sequence[Point],
    x: Axis,
    y: Axis,
    placed: Sequence[_Place],
) -> _Place:
    """Write a name above the bars around it, higher up where another name stands already."""
    text = f"{point.name} (chosen)" if point.chosen else point.name
    half = draw.textlength(text, font=_font(16)) / _SCALE / 2
    middle = min(max(x.pixel(point.speed), half + 4), WIDTH - half - 4)
    near = [one.dice.high for one in points if abs(x.pixel(one.speed) - middle) < half + 6]
    place = _Place(middle, y.pixel(max(near)) - 14, half)
    while any(place.overlaps(other) for other in placed):
        place = replace(place, y=place.y - _LINE)
    _text(draw, (place.x, place.y), text, 16, _CHOSEN if point.chosen else _INK, "mm")
    return place


def _line(
    draw: ImageDraw.ImageDraw,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: tuple[int, int, int],
    width: int = 1,
) -> None:
    draw.line([_SCALE * value for value in (*start, *end)], fill=colour, width=_SCALE * width)


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, int, int],
    anchor: str,
) -> None:
    x, y = place
    draw.text((_SCALE * x, _SCALE * y), text, fill=colour, font=_font(size), anchor=anchor)


def _font(size: int) -> Font:
    return ImageFont.load_default(_SCALE * size)
