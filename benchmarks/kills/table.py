"""Kills as a table in Markdown, for docs/reliability.md."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

HEADS = (
    "killed", "times", "cases", "label maps lost", "other bytes", "done twice", "left",
    "s until the next case: median, 95 %, most", "runs ended",
)  # fmt: skip


def read_rounds(path: Path) -> list[dict[str, Any]]:
    """Return the rounds of a file; a last line that was cut short is none."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def table(rounds: Iterable[dict[str, Any]], names: Sequence[str]) -> str:
    """Return a row for each part that was killed, and one of sums."""
    every = list(rounds)
    rows = [_row(name, of) for name in names if (of := [r for r in every if r["part"] == name])]
    rows += [_row("all", every)]
    return "\n".join([_line(HEADS), _line(["---"] * len(HEADS)), *rows])


def _row(name: str, rounds: Sequence[dict[str, Any]]) -> str:
    def total(key: str) -> int:
        return sum(len(one[key]) for one in rounds)

    seconds = sorted(
        kill["seconds"] for one in rounds for kill in one["kills"] if kill["seconds"] is not None
    )
    spans = ""
    if seconds:
        high = seconds[min(int(0.95 * len(seconds)), len(seconds) - 1)]
        spans = f"{median(seconds):.1f}, {high:.1f}, {seconds[-1]:.1f}"
    ends: Counter[str] = Counter()
    for one in rounds:
        for key, number in one["states"].items():
            ends[key] += number
        for key, number in one["statuses"].items():
            ends[f"exit {key}"] += number
    said = ", ".join(f"{number} {key}" for key, number in sorted(ends.items()))
    cases = sum(one["cases"] for one in rounds)
    sums = [total(key) for key in ("lost", "different", "twice", "left")]
    return _line([name, total("kills"), cases, *sums, spans, said])


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
