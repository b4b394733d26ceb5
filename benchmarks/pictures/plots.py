"""Plots of measured results, ``benchmarks/results/speed-*.json``, as SVG on white."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results" / "speed-amd-epyc-2-cores.json"
WIDTH, LEFT, RIGHT, BAR, GAP, HEAD, TOP = 960, 190, 70, 20, 6, 34, 76
INK, SOFT = "#1a1d21", "#565d66"
OURS, PEER = "ours, auto, Dask", {"monai": "MONAI's script", "nnunet": "nnU-Net's predictor"}
CASES = ("own-2", "respaced-2", "own-25", "respaced-25", "full-104")
STAGES = {
    "network": ("forward",), "adding scores": ("rest",), "deciding labels": ("merge",),
    "reading, resampling": ("gate", "read", "preprocess", "look", "load"),
    "writing, picture": ("evaluate", "draw", "write"), "waiting": ("wait",),
}  # fmt: skip
COLOURS = ("#2b6cb0", "#7fb3e0", "#be460a", "#e0a458", "#5f7f3a", "#b9bec5")


@dataclass(frozen=True)
class Bar:
    """A bar of several parts (s), with its name before it and a word behind it."""

    name: str
    parts: tuple[float, ...]
    colours: tuple[str, ...]
    behind: str


def speed(_: Path) -> Mapping[str, bytes]:
    """Return seconds of each contender, those in the network dark."""
    groups = {}
    for name in CASES:
        case = _measured()[name]
        groups[case["about"]] = [
            _contender(row, model)
            for model, peer in PEER.items()
            for row in case["rows"]
            if row["model"] == model and row["name"] in (OURS, peer)
        ]
    legend = {"ours, in the network": "#2b6cb0", "the rest": "#a5c8ea",
              "peer, in the network": "#565d66", "the rest ": "#c6cbd1"}  # fmt: skip
    title = "Seconds of work for one CT, two CPU cores (shorter is better)"
    return {"speed.svg": _bars(title, groups, legend)}


def cost(_: Path) -> Mapping[str, bytes]:
    """Return where the seconds of a case go, by stage."""
    bars = []
    for name in CASES:
        case = _measured()[name]
        row = next(r for r in case["rows"] if r["name"] == OURS)
        stages = {**row["stages"], "rest": row["stages"]["infer"] - row["stages"]["forward"]}
        parts = tuple(sum(stages[key] for key in keys) for keys in STAGES.values())
        _, classes, spacing = case["about"].split(", ")
        at = "1.5 mm" if "1.5" in spacing else "as in the file"
        bars.append(Bar(f"{classes}, {at}", parts, COLOURS, f"{sum(parts):.1f} s"))
    title = "Where the seconds of one CT go (two CPU cores, OpenVINO)"
    legend = dict(zip(STAGES, COLOURS, strict=True))
    return {"cost.svg": _bars(title, {"": bars}, legend)}


def _measured() -> Mapping[str, Any]:
    measured: Mapping[str, Any] = json.loads(RESULTS.read_text())["cases"]
    return measured


def _contender(row: Mapping[str, Any], model: str) -> Bar:
    ours = row["name"] == OURS
    name = f"ours, as {'MONAI' if model == 'monai' else 'nnU-Net'}" if ours else row["name"]
    parts = (row["forward_seconds"], row["work_seconds"] - row["forward_seconds"])
    colours = ("#2b6cb0", "#a5c8ea") if ours else ("#565d66", "#c6cbd1")
    return Bar(name, parts, colours, f"{row['work_seconds']:.3g} s")


def _bars(title: str, groups: Mapping[str, Sequence[Bar]], legend: Mapping[str, str]) -> bytes:
    longest = max(sum(bar.parts) for bars in groups.values() for bar in bars)
    scale = (WIDTH - LEFT - RIGHT) / longest
    lines, y = [], float(TOP)
    for name, bars in groups.items():
        if name:
            lines.append(_text(16, y + 20, name, weight="600"))
            y += HEAD
        for bar in bars:
            lines += _bar(bar, y, scale)
            y += BAR + GAP
        y += GAP
    height = round(y + 10)
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="15">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 28, title, size=18, weight="600"),
        *_legend(legend),
    ]
    return "\n".join([*head, *lines, "</svg>\n"]).encode()


def _bar(bar: Bar, y: float, scale: float) -> Iterator[str]:
    yield _text(LEFT - 10, y + 15, bar.name, colour=SOFT, anchor="end")
    x = float(LEFT)
    for seconds, colour in zip(bar.parts, bar.colours, strict=True):
        width = seconds * scale
        yield f'<rect x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'
        x += width
    yield _text(x + 8, y + 15, bar.behind)


def _legend(entries: Mapping[str, str]) -> Iterator[str]:
    x = 16.0
    for name, colour in entries.items():
        yield f'<rect x="{x:.0f}" y="46" width="14" height="14" fill="{colour}"/>'
        yield _text(x + 20, 58, name.strip(), colour=SOFT)
        x += 44 + 7.4 * len(name.strip())


def _text(
    x: float, y: float, words: str, *, size: int = 15, colour: str = INK, weight: str = "400",
    anchor: str = "start",
) -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'
    )
