"""What each worker did when: recorded by Dask's scheduler, drawn as SVG.

    python -m benchmarks.large_volumes --sizes 512 --timeline timeline.svg

Dask loads this module in the scheduler of a run (``distributed.scheduler.preload``). It writes a
line for each call that has ended to the file that ``CALLS`` names.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

CALLS = "UNET_PIPELINE_BENCHMARK_CALLS"
WIDTH, LEFT, LANE, GAP, TOP = 1200, 90, 16, 10, 64
INK, SOFT = "#1a1d21", "#565d66"
KINDS = {
    "read, preprocess": (
        "read_case",
        "look_in",
        "stage_volume",
        "stage_resolved",
        "look_at_case",
        "prepared_of",
    ),
    "tiles: network, labels": ("score_tile", "label_tile"),
    "seams: merge, labels": ("merge_tile",),
    "join, measure, write": ("finish_case",),
    "move, spill": ("transfer", "disk-read", "disk-write", "deserialize"),
    "other": (),
}
COLOURS = ("#e0a458", "#2b6cb0", "#7fb3e0", "#5f7f3a", "#b13c68", "#b9bec5")


@dataclass(frozen=True)
class Span:
    """What a worker did from ``start`` to ``stop`` (s)."""

    worker: str
    kind: str
    start: float
    stop: float


def dask_setup(scheduler: Scheduler) -> None:
    """Record the calls of this scheduler; Dask calls it."""
    scheduler.add_plugin(Recorder(Path(os.environ[CALLS])))


class Recorder(SchedulerPlugin):
    """Writes a line for each call that has ended."""

    name = "unet-pipeline-timeline"

    def __init__(self, path: Path) -> None:
        self.path = path

    def transition(self, key: Any, start: Any, finish: Any, *_: Any, **more: Any) -> None:
        """Take what the worker says of a call."""
        if start == "processing" and finish == "memory" and more.get("startstops"):
            line = {"key": str(key), "worker": more["worker"], "spans": more["startstops"]}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def read_spans(path: Path) -> list[Span]:
    """Return what was recorded, in the order of its beginning; the first begins at 0."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    spans = [
        Span(line["worker"], _kind_of(line["key"], one["action"]), one["start"], one["stop"])
        for line in lines
        for one in line["spans"]
    ]
    begin = min(span.start for span in spans)
    moved = [Span(s.worker, s.kind, s.start - begin, s.stop - begin) for s in spans]
    return sorted(moved, key=lambda span: span.start)


def busy_shares(spans: Sequence[Span]) -> dict[str, float]:
    """Return for each worker the share of the time between the first and the last call of all."""
    end = max(span.stop for span in spans)
    busy: dict[str, float] = defaultdict(float)
    reached: dict[str, float] = defaultdict(float)
    for span in spans:
        busy[span.worker] += max(0.0, span.stop - max(span.start, reached[span.worker]))
        reached[span.worker] = max(reached[span.worker], span.stop)
    return {worker: seconds / end for worker, seconds in sorted(busy.items())}


def drawn(spans: Sequence[Span], title: str) -> str:
    """Return an SVG: a group of lanes for each worker, one lane for each call at a time."""
    end, shares = max(span.stop for span in spans), busy_shares(spans)
    parts, top = [_text(12, 24, title, INK, 16), *_legend()], TOP
    for number, (worker, share) in enumerate(shares.items()):
        lanes = _lanes([span for span in spans if span.worker == worker])
        parts.append(_text(12, top + 12, f"worker {number + 1}", INK))
        parts.append(_text(12, top + 26, f"busy {100 * share:.0f} %", SOFT))
        for row, lane in enumerate(lanes):
            parts += [_box(span, top + row * LANE, end) for span in lane]
        top += max(len(lanes), 2) * LANE + GAP
    for second in _ticks(end):
        parts.append(_text(_x(second, end), top + 12, f"{second:.0f} s", SOFT))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 22}"'
    style = 'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
    return f"{head} {style}{''.join(parts)}</svg>\n"


def _kind_of(key: str, action: str) -> str:
    name = key.rpartition("-")[0] if action == "compute" else action
    return next((kind for kind, names in KINDS.items() if name.startswith(names)), "other")


def _lanes(spans: Sequence[Span]) -> list[list[Span]]:
    """Put each span into the first lane that is free."""
    lanes: list[list[Span]] = []
    for span in spans:
        free = next((lane for lane in lanes if lane[-1].stop <= span.start), None)
        if free is None:
            lanes.append(free := [])
        free.append(span)
    return lanes


def _legend() -> Iterator[str]:
    x = LEFT
    for kind, colour in _colours().items():
        yield f'<rect x="{x}" y="38" width="12" height="12" fill="{colour}"/>'
        yield _text(x + 17, 48, kind, SOFT)
        x += 40 + 7 * len(kind)


def _colours() -> Mapping[str, str]:
    return dict(zip(KINDS, COLOURS, strict=True))


def _box(span: Span, top: float, end: float) -> str:
    x, width = _x(span.start, end), max(0.3, _x(span.stop, end) - _x(span.start, end))
    colour = _colours()[span.kind]
    return f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{LANE - 2}" fill="{colour}"/>'


def _x(second: float, end: float) -> float:
    return LEFT + (WIDTH - LEFT - 40) * second / end


def _ticks(end: float) -> Iterator[float]:
    step = next(one for one in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if end / one <= 10)
    yield from (step * n for n in range(int(end / step) + 1))


def _text(x: float, y: float, text: str, colour: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y}" fill="{colour}" font-size="{size}">{escape(text)}</text>'
