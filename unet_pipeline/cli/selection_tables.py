"""What ``depths`` and ``compare`` print for people."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from unet_pipeline.console import out
from unet_pipeline.evaluation.records import Comparison, DepthChoice, Disagreement, Evaluation
from unet_pipeline.report.evaluation_table import (
    CHOSEN,
    SCORES,
    cells,
    headings,
    headline,
    with_interval,
)

MAX_DISAGREEMENTS = 8


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the table, what follows from it, what to know before acting, and where it all lies."""
    for table in _results(evaluation):
        out.print(table)
    if evaluation.choice is not None:
        out.print(_choice(evaluation.choice))
    if evaluation.comparisons:
        out.print(_tests(evaluation.comparisons))
    if evaluation.disagreements:
        out.print(_disagreements(evaluation.disagreements[:MAX_DISAGREEMENTS]))
    for one in evaluation.left_out:
        out.print(Text("left out ", style="red") + Text(one.message), soft_wrap=True)
    for remark in evaluation.remarks:
        out.print(Text("note ", style="yellow") + Text(remark.text), soft_wrap=True)
    out.print(Text(headline(evaluation), style="bold"), soft_wrap=True)
    for name, url in evaluation.bundles.items():
        out.print(Text(f"Bundle  {name}: {url}"), soft_wrap=True)
    out.print(Text(f"Report  {evaluation.report}"), soft_wrap=True)
    out.print(Text(f"Table   {evaluation.table}"), soft_wrap=True)


def _results(evaluation: Evaluation) -> Iterator[Table]:
    """Yield the scores, and what they cost: two tables, for narrow terminals."""
    title = f"{evaluation.cases} cases, and below each mean {evaluation.confidence:.0%} confidence"
    names = headings(evaluation)
    for heading, columns in ((title, range(SCORES)), ("Costs", (0, *range(SCORES, len(names))))):
        table = _table(heading, *(names[column] for column in columns))
        for row in cells(evaluation):
            lines = [Text(row[column].replace(" (", "\n").rstrip(")")) for column in columns]
            table.add_row(*lines, style="bold" if row[0].endswith(CHOSEN) else "")
        yield table


def _choice(choice: DepthChoice) -> Table:
    table = _table(
        f"Loss of Dice against L{choice.best}, {choice.tolerance:g} allowed",
        "depth",
        f"{choice.confidence:.0%} bound",
        "chosen on",
    )
    for depth, (bound, share) in enumerate(
        zip(choice.loss_bounds, choice.shares, strict=True), start=1
    ):
        style = "bold" if depth == choice.depth else ""
        table.add_row(f"L{depth}", f"{bound:.4f}", f"{share:.0%}", style=style)
    table.caption = "chosen on: share of resampled cohorts"
    return table


def _tests(comparisons: tuple[Comparison, ...]) -> Table:
    table = _table("Paired tests of Dice (Wilcoxon)", "pair", "difference", "p", "p (Holm)")
    for one in comparisons:
        difference = with_interval(one.difference, 4, signed=True)
        pair = Text(f"{one.candidate} less {one.against}")
        table.add_row(pair, difference, f"{one.p:.3g}", f"{one.p_holm:.3g}")
    return table


def _disagreements(disagreements: tuple[Disagreement, ...]) -> Table:
    table = _table("Where they differ most", "case", "pair", "Dice", "difference")
    for one in disagreements:
        both = f"{one.dice:.4f}, {one.dice_against:.4f}"
        pair = Text(f"{one.candidate}, {one.against}")
        table.add_row(Text(one.case), pair, both, f"{one.difference:+.4f}")
    return table


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for index, name in enumerate(names):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    return table
