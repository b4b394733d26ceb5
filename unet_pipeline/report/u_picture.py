"""The picture of a network: every block at its scale, coloured by the Dice that is lost without it.

An SVG file that needs nothing but itself and follows the light or dark theme of whoever shows it.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from math import prod

from unet_pipeline.evaluation.layer_records import LayerRecord

# Lower limits of the classes of Dice lost, and their colours: one hue, light to dark.
_LIMITS = (-1.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
_FILLS = ("#eff3ff", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#084594")
_DARK_INK, _LIGHT_INK, _FIRST_LIGHT = "#0b1f33", "#ffffff", 5

_WIDTH, _HEIGHT = 122, 52
_ROW, _LEFT, _TOP, _LEGEND = 92, 76, 26, 84
_STYLE = (
    ".paper{fill:#ffffff}text{font:12px system-ui,sans-serif;fill:#1a1d21}.soft{fill:#565d66}"
    ".name{font-weight:600}.edge{fill:none;stroke:#8a929b;stroke-width:1.2}"
    ".node{stroke:#565d66;stroke-width:1}"
    "@media (prefers-color-scheme:dark){.paper{fill:#14171a}text{fill:#e7eaed}.soft{fill:#a6aeb7}"
    ".edge{stroke:#6b747d}.node{stroke:#a6aeb7}}"
)
_NESTED = re.compile(r"(conv|upcat|final_conv)_(\d+)_(\d+)")


def u_picture(blocks: Sequence[LayerRecord], numbers: Mapping[str, int]) -> str:
    """Return the picture of a network as SVG.

    Parameters
    ----------
    blocks
        Blocks with a place, in order of execution; those that were not measured stay empty.
    numbers
        The number that a block has in the table beside the picture.
    """
    placed = [block for block in blocks if block.place is not None]
    canvas = _Canvas(placed)
    parts = [canvas.row_label(row, text) for row, text in _rows(placed).items()]
    parts += [canvas.edge(one.layer, target) for one in placed for target in one.feeds]
    parts += [canvas.node(one, numbers.get(one.layer)) for one in placed]
    parts.append(_legend(canvas.height - _LEGEND + 40))
    size = f'width="{canvas.width:.0f}" height="{canvas.height:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
        f'viewBox="0 0 {canvas.width:.0f} {canvas.height:.0f}" role="img">'
        f"<title>Blocks of the network, coloured by the Dice lost without each</title>"
        f"<style>{_STYLE}</style>"
        f'<rect class="paper" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def short_name(layer: str) -> str:
    """Return a name that fits into a box: X i,j for the nodes of a nested network."""
    found = _NESTED.fullmatch(layer)
    if found:
        kind, level, step = found.groups()
        return f"head {step}" if kind == "final_conv" else f"X {level},{step}"
    return layer if len(layer) <= 12 else f"\N{HORIZONTAL ELLIPSIS}{layer[-11:]}"


def scale_text(scale: Sequence[float]) -> str:
    """Return a scale for people: 1/2, or 1/2 x 1/2 x 1 where the axes differ."""
    texts = [f"1/{round(1 / s)}" if s < 1 and abs(1 / s - round(1 / s)) < 0.01 else f"{s:.3g}"
             for s in scale]  # fmt: skip
    return texts[0] if len(set(texts)) == 1 else " x ".join(texts)


class _Canvas:
    """Turns places into pixels."""

    def __init__(self, placed: Sequence[LayerRecord]) -> None:
        self.places = {b.layer: b.place for b in placed if b.place is not None}
        columns = [column for column, _ in self.places.values()]
        self.rows = [row for _, row in self.places.values()]
        self.step = max((_WIDTH + 12) / _closest(list(self.places.values())), 60.0)
        self.top = _TOP + (0 if min(self.rows, default=0) < 0 else _arc_room(placed))
        self.width = max(_LEFT + max(columns, default=0) * self.step + _WIDTH + 12, 640)
        span = max(self.rows, default=0) - min(self.rows, default=0)
        self.height = self.top + span * _ROW + _HEIGHT + _LEGEND

    def corner(self, layer: str) -> tuple[float, float]:
        column, row = self.places[layer]
        return _LEFT + column * self.step, self._y(row)

    def row_label(self, row: float, text: str) -> str:
        return f'<text class="soft" x="8" y="{self._y(row) + _HEIGHT / 2 + 4:.1f}">{text}</text>'

    def node(self, block: LayerRecord, number: int | None) -> str:
        x, y = self.corner(block.layer)
        fill, ink = _colours(block.lost)
        lines = [f"{number or ''} {short_name(block.layer)}".strip()]
        if block.lost is not None:
            lines.append(f"lost {round(block.lost, 3) + 0.0:.3f}")  # no -0.000
        if block.mean_probe_dice is not None:
            lines.append(f"probe {block.mean_probe_dice:.3f}")
        centre = x + _WIDTH / 2
        texts = "".join(
            f'<text x="{centre:.1f}" y="{y + 16 + 15 * index}" text-anchor="middle"{ink}'
            f"{_NAME if not index else ''}>{escape(line)}</text>"
            for index, line in enumerate(lines)
        )
        box = f'x="{x:.1f}" y="{y:.1f}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"'
        title = f"<title>{escape(block.layer)} ({escape(block.side)})</title>"
        return f'<g>{title}<rect class="node" {box} fill="{fill}"/>{texts}</g>'

    def edge(self, source: str, target: str) -> str:
        (x1, y1), (x2, y2) = self.corner(source), self.corner(target)
        x1, x2 = x1 + _WIDTH / 2, x2 + _WIDTH / 2
        if y1 == y2 and self._between(source, target):
            lift = y1 - 10 - 0.055 * abs(x2 - x1)
            bend = f"C{x1 + 20:.1f} {lift:.1f} {x2 - 20:.1f} {lift:.1f} {x2:.1f} {y2:.1f}"
            return f'<path class="edge" d="M{x1:.1f} {y1:.1f}{bend}"/>'
        y1, y2 = y1 + _HEIGHT / 2, y2 + _HEIGHT / 2
        return f'<path class="edge" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'

    def _between(self, source: str, target: str) -> bool:
        (first, row), (last, _) = self.places[source], self.places[target]
        return any(r == row and first < column < last for column, r in self.places.values())

    def _y(self, row: float) -> float:
        return self.top + (row - min(self.rows, default=0)) * _ROW


_NAME = ' class="name"'


def _closest(places: Sequence[tuple[float, float]]) -> float:
    """Return the smallest distance of two blocks of one row, in columns."""
    rows: dict[float, list[float]] = {}
    for column, row in places:
        rows.setdefault(row, []).append(column)
    gaps = [b - a for columns in rows.values() for a, b in pairwise(sorted(columns))]
    return min(gaps, default=1.0)


def _arc_room(placed: Sequence[LayerRecord]) -> float:
    return min(60.0, 4.0 * len(placed))


def _rows(placed: Sequence[LayerRecord]) -> dict[float, str]:
    """Return the label of each row: its scale."""
    rows: dict[float, str] = {}
    for block in sorted(placed, key=lambda b: -prod(b.scale)):
        if block.place is not None:
            heads = block.place[1] < 0
            rows.setdefault(block.place[1], "heads" if heads else scale_text(block.scale))
    return rows


def _colours(lost: float | None) -> tuple[str, str]:
    """Return the fill of a block and the attribute of its text's colour."""
    if lost is None:
        return "none", ""
    index = max(i for i, limit in enumerate(_LIMITS) if lost >= limit or i == 0)
    ink = _LIGHT_INK if index >= _FIRST_LIGHT else _DARK_INK
    return _FILLS[index], f' style="fill:{ink}"'


def _legend(y: float) -> str:
    title = "Mean Dice lost if the block is replaced by its mean"
    parts = [f'<text class="soft" x="8" y="{y:.0f}">{title}</text>']
    for index, fill in enumerate(_FILLS):
        x = 8 + index * 88
        text = (
            f"&lt; {_LIMITS[1]:g}"
            if index == 0
            else f"\N{GREATER-THAN OR EQUAL TO} {_LIMITS[index]:g}"
        )
        box = f'x="{x}" y="{y + 10:.0f}" width="18" height="14"'
        parts.append(f'<rect class="node" {box} fill="{fill}"/>')
        parts.append(f'<text x="{x + 24}" y="{y + 21.5:.0f}">{text}</text>')
    return "".join(parts)
