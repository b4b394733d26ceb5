"""The table of the results, for the terminal and for the page."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

HEADS = (
    "as",
    "contender",
    "work s",
    "wall s",
    "forward s",
    "share",
    "windows",
    "peak GB",
    "work / floor",
    "peer / ours",
    "wall: peer / ours",
    "peak / peer's",
    "differs from peer",
    "from our first row",
)
_MODELS = {"monai": "MONAI", "nnunet": "nnU-Net", "cohort": "MONAI"}
_NOT_SAID = ""


def rich_tables(results: dict[str, Any]) -> Iterator[Table]:
    """Yield a table for each case."""
    for name, case in results["cases"].items():
        table = Table(title=title_of(name, case), title_justify="left")
        for index, head in enumerate(HEADS):
            table.add_column(head, justify="left" if index < 2 else "right")
        for row in case["rows"]:
            table.add_row(*cells_of(row))
        yield table


def markdown(results: dict[str, Any]) -> str:
    """Return all tables in Markdown, with the machine above them."""
    lines = [machine_line(results["machine"])]
    for name, case in results["cases"].items():
        rows = [HEADS, tuple("---" for _ in HEADS), *map(cells_of, case["rows"])]
        lines += ["", f"**{title_of(name, case)}**", ""]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def machine_line(machine: dict[str, Any]) -> str:
    """Return a sentence about the machine."""
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v)
    return (
        f"{machine['name']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{machine['memory_gb']} GB, {machine['device']}; Python {machine['python']}, {versions}."
    )


def title_of(name: str, case: dict[str, Any]) -> str:
    """Return the heading of a case."""
    repeats = f"median of {case['repeats']}" if case["repeats"] > 1 else "one run"
    return f"{name}: {case['about']} ({repeats}, {case['measured_at']}, {case['commit']})"


def cells_of(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the texts of a row, in order of ``HEADS``."""
    engine = row.get("engine_used", row["engine"])
    name = row["name"] if engine == row["engine"] else f"{row['name']} ({engine})"
    first = (_MODELS[row["model"]], name)
    if row["failure"]:
        return (*first, row["failure"], *[_NOT_SAID] * 4, _number(row, "peak_gb"), *[_NOT_SAID] * 6)
    return (
        *first,
        _number(row, "work_seconds"),
        _number(row, "wall_seconds"),
        _number(row, "forward_seconds"),
        f"{100 * row['forward_share']:.0f} %",
        _windows(row),
        _number(row, "peak_gb"),
        _number(row, "work_over_floor"),
        _number(row, "times_faster_work"),
        _number(row, "times_faster_wall"),
        _number(row, "peak_of_peer"),
        _agreement(row, "peer"),
        _agreement(row, "first row"),
    )


def _windows(row: dict[str, Any]) -> str:
    planned = row.get("windows_planned", row["windows"])
    return f"{row['windows']}" if planned == row["windows"] else f"{row['windows']} of {planned}"


def _agreement(row: dict[str, Any], reference: str) -> str:
    """Return the share of voxels that differ, and the largest and the median margin of those."""
    found = next((one for one in row["agreements"] if one["reference"] == reference), None)
    if found is None:
        return _NOT_SAID
    if not found["differing"]:
        return "no"
    said = f"{found['differing']:.1e}"
    if found["margin_largest"] is None:
        return said
    return f"{said} (up to {found['margin_largest']:.1e}, median {found['margin_median']:.1e})"


def _number(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    return _NOT_SAID if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
