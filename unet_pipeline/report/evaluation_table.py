"""An evaluation as tables: CSV for machines; cells for the page, the terminal and Prefect."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unet_pipeline.evaluation.records import METRICS, CandidateResult, Evaluation, Interval, Metric
from unet_pipeline.report.table import as_code, cell_text, digits, escape_markdown, large, name_of
from unet_pipeline.texts import shown

SCORES = 5  # the columns of ``cells`` that come first: the name and the scores; then the costs
CHOSEN = "(chosen)"
_COST = (
    ("parameters", 0),
    ("multiply_adds", 0),
    ("multiply_adds_per_case", 0),
    ("windows", 2),
    ("ms_per_window", 3),
    ("forward_seconds", 4),
    ("seconds", 4),
)
CaseScore = Mapping[str, Any]  # case, candidate, label, and a value or None per metric


def headings(evaluation: Evaluation) -> list[str]:
    """Return the headings of ``cells``; the first is of text, the others of numbers."""
    per = "window" if evaluation.kind == "depths" else "case"
    return [
        "depth" if evaluation.kind == "depths" else "bundle",
        "Dice",
        f"less {evaluation.against}",
        f"NSD at {evaluation.surface_mm:g} mm",
        "HD95 (mm)",
        "parameters",
        f"multiply-adds per {per}",
        "ms per window",
        "s per case",
    ]


def cells(evaluation: Evaluation) -> list[list[str]]:
    """Return what people read of each candidate, a row each."""
    chosen = None if evaluation.choice is None else f"L{evaluation.choice.depth}"
    return [
        [
            f"{result.name} {CHOSEN}" if result.name == chosen else result.name,
            with_interval(result.metrics["dice"], 3),
            with_interval(result.difference, 4, signed=True),
            with_interval(result.metrics["nsd"], 3),
            with_interval(result.metrics["hd95_mm"], 2),
            f"{result.cost.parameters:,}",
            large(_adds(evaluation, result)),
            f"{result.cost.ms_per_window:.1f}",
            f"{result.cost.seconds:.2f}",
        ]
        for result in evaluation.results
    ]


def with_interval(interval: Interval | None, places: int, signed: bool = False) -> str:
    """Return ``0.879 (0.862 to 0.893)``, or nothing where there is no value."""
    if interval is None:
        return ""
    sign = "+" if signed else ""
    value, low, high = (
        f"{v:{sign}.{places}f}" for v in (interval.value, interval.low, interval.high)
    )
    return f"{value} ({low} to {high})"


def headline(evaluation: Evaluation) -> str:
    """Return the result in one sentence."""
    choice = evaluation.choice
    if choice is not None:
        bound = choice.loss_bounds[choice.depth - 1]
        if choice.depth == choice.best:
            return f"L{choice.depth} is the best depth, and no cheaper one is surely good enough"
        return (
            f"L{choice.depth} is enough: at most {max(bound, 0):.4f} Dice below L{choice.best} "
            f"with {choice.confidence:.0%} confidence"
        )
    surely = [c for c in evaluation.comparisons if c.p_holm < 1 - evaluation.confidence]
    if not surely:
        return "No difference that chance could not explain"
    best = max(surely, key=lambda one: abs(one.difference.value))
    word = "better" if best.difference.value > 0 else "worse"
    more = f", and {len(surely) - 1} more differ" if len(surely) > 1 else ""
    return (
        f"{best.candidate} is {word} than {best.against} by {abs(best.difference.value):.4f} Dice"
        f"{more}"
    )


def evaluation_csv(evaluation: Evaluation) -> str:
    """Return one line per candidate as RFC 4180, each mean with its interval, per label too."""
    labels = sorted({k for s in evaluation.results for k in s.labels}, key=int)
    named: list[tuple[Metric, str]] = [(metric, metric) for metric in METRICS]
    called = {label: cell_text(name_of(label, evaluation.names)) for label in labels}
    named += [(metric, f"{metric}_{called[label]}") for label in labels for metric in METRICS]
    spread = [f"{name}{end}" for _, name in named for end in ("", "_low", "_high")]
    lines: list[list[str]] = [
        ["entrant", "chosen", "cases", *spread, "difference", "difference_low",
         "difference_high", *(name for name, _ in _COST)]
    ]  # fmt: skip
    for result in evaluation.results:
        found = [result.metrics.get(metric) for metric in METRICS]
        found += [result.labels.get(k, {}).get(metric) for k in labels for metric in METRICS]
        chosen = evaluation.choice is not None and result.name == f"L{evaluation.choice.depth}"
        lines.append(
            [
                cell_text(result.name),
                "yes" if chosen else "",
                str(evaluation.cases),
                *(part for interval in found for part in _parts(interval)),
                *_parts(result.difference),
                *(digits(getattr(result.cost, name), places) for name, places in _COST),
            ]
        )
    return _csv(lines)


def case_scores_csv(scores: Iterable[CaseScore], names: Mapping[str, str]) -> str:
    """Return one line per case, candidate and label; an empty cell where nothing is to measure."""
    lines = [["case", "entrant", "label", "name", *METRICS]]
    for score in scores:
        numbers = [digits(score[metric], 5) for metric in METRICS]
        label = str(score["label"])
        texts = [cell_text(score["case"]), cell_text(score["entrant"]), label]
        lines.append([*texts, cell_text(name_of(label, names)), *numbers])
    return _csv(lines)


def evaluation_rows(evaluation: Evaluation) -> list[dict[str, str]]:
    """Return one dictionary per candidate, for a table artifact of a run."""
    names = headings(evaluation)
    return [
        {name: shown(text) for name, text in zip(names, row, strict=True)}
        for row in cells(evaluation)
    ]


def evaluation_markdown(evaluation: Evaluation) -> str:
    """Return the result as Markdown: the sentence, the remarks, the table, what was left out."""
    names = headings(evaluation)
    lines = [f"# {escape_markdown(headline(evaluation))}", ""]
    lines += [f"{evaluation.cases} cases, {evaluation.seconds:.0f} s.", ""]
    lines += [f"- {as_code(one.code)} {escape_markdown(one.text)}" for one in evaluation.remarks]
    lines += ["", f"| {' | '.join(names)} |", f"| --- |{' ---: |' * (len(names) - 1)}"]
    lines += [f"| {' | '.join(map(escape_markdown, row))} |" for row in cells(evaluation)]
    if evaluation.comparisons:
        lines += ["", "| Pair | Difference of Dice | p (Holm) |", "| --- | ---: | ---: |"]
        lines += [
            f"| {as_code(one.candidate)} less {as_code(one.against)} | "
            f"{with_interval(one.difference, 4, signed=True)} | {one.p_holm:.3g} |"
            for one in evaluation.comparisons
        ]
    lines += [""] + [f"Left out: {as_code(one.case)} {as_code(one.code)}\n"
                     for one in evaluation.left_out[:50]]  # fmt: skip
    lines += [f"Bundle {as_code(name)}: {as_code(url)}\n" for name, url in
              evaluation.bundles.items()]  # fmt: skip
    return "\n".join(lines) + "\n"


def _adds(evaluation: Evaluation, result: CandidateResult) -> float | None:
    cost = result.cost
    return cost.multiply_adds if evaluation.kind == "depths" else cost.multiply_adds_per_case


def _parts(interval: Interval | None) -> list[str]:
    if interval is None:
        return ["", "", ""]
    return [digits(value, 5) for value in (interval.value, interval.low, interval.high)]


def _csv(lines: Sequence[Sequence[str]]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows(lines)
    return out.getvalue()
