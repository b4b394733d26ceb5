"""What the command line prints for people: tables, progress, one-line errors."""

import logging
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from unet_pipeline import logs
from unet_pipeline.errors import PipelineError
from unet_pipeline.records import CaseRecord, CheckRecord, CheckSummary, RunSummary
from unet_pipeline.report.cost import cost_sentence
from unet_pipeline.report.quantities import bytes_text
from unet_pipeline.report.table import attention_order, dice_sentence
from unet_pipeline.storage.accounting import Accounting, ClassifiedFile
from unet_pipeline.storage.links import command_for
from unet_pipeline.texts import shown

if TYPE_CHECKING:  # training imports torch, which takes seconds
    from unet_pipeline.networks.depth import AdaptiveRule
    from unet_pipeline.training.fit import OnHistory, OnStep
    from unet_pipeline.training.history import History
    from unet_pipeline.training.report import TrainReport


log = logging.getLogger(__name__)


class _Terminal(Console):
    """The border to the terminal: no text of a file, a bundle or a store is obeyed by it.

    Square brackets are no markup, and what a terminal would obey is shown as in ``shown``; lines
    end where we end them, and where a cell is folded.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks; nobody does where what goes to stderr are lines of JSON."""
        return super().is_terminal and not self._is_log

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, or log what would be printed between lines of JSON."""
        if not self._is_log:
            super().print(*objects, **options)
        for one in objects if self._is_log else ():
            log.info("%s", one)

    @property
    def _is_log(self) -> bool:
        return self.stderr and logs.in_json()

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Return the segments of what is printed, their texts showable."""
        for text, style, control in super().render(renderable, options):
            plain = text if control else "\n".join(shown(line, None) for line in text.split("\n"))
            yield Segment(plain, style, control)


out = _Terminal()
err = _Terminal(stderr=True)

STATUS_STYLE = {"done": "green", "skipped": "cyan", "quarantined": "red"}
VERDICT_STYLE = {"pass": "green", "warn": "yellow", "fail": "red"}
MAX_ROWS = 60
MOST_CHANGES = 12


def say_error(error: PipelineError) -> None:
    """Print an error in one sentence, and its reason code."""
    if logs.in_json():
        log.error("[%s] %s", error.code, error)
        return
    line = Text("error ", style="bold red") + Text(f"[{error.code}] {error}", style="")
    err.print(line, soft_wrap=True)


def say_stopped(sentence: str) -> None:
    """Print why a run did not come to its end."""
    if logs.in_json():
        log.error("stopped: %s", sentence)
        return
    line = Text("stopped ", style="bold red") + Text(sentence, style="")
    err.print(line, soft_wrap=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say what is being waited for, on a terminal."""
    if not err.is_terminal:
        yield
        return
    with err.status(what):
        yield


@contextmanager
def step_progress(steps: int) -> "Iterator[tuple[OnStep, OnHistory]]":
    """Show a bar over the steps of a training, with a running mean of the loss and the Dice."""
    with case_progress(steps, "Training") as progress:
        smooth: list[float] = []
        dice = ""

        def after_step(step: int, loss: float) -> None:
            smooth.append(loss)
            mean = sum(smooth[-20:]) / len(smooth[-20:])
            last = f"loss {mean:.3f}{dice}"
            progress.update(progress.task_ids[0], completed=step, last=last)

        def so_far(history: "History") -> None:
            nonlocal dice
            if history.validations:
                now = history.validations[-1].mean
                dice = f", Dice {now:.3f}, best {history.best.mean if history.best else now:.3f}"
            progress.update(progress.task_ids[0], completed=len(history.losses))

        yield after_step, so_far


def print_training(report: "TrainReport") -> None:
    """Print what a training did."""
    for case, error in report.faults:
        out.print(Text("left out ", style="yellow") + Text(f"{case}: {error}"), soft_wrap=True)
    out.print(
        f"Trained on {len(report.training)} cases in {report.seconds:.0f} s, "
        f"{len(report.history.losses)} steps",
        highlight=False,
    )
    if report.spread:
        out.print(_spread_table(report))
    out.print(Text(f"Curves  {report.curves}"), soft_wrap=True)
    out.print(Text(f"Bundle  {report.bundle}"), soft_wrap=True)


def _spread_table(report: "TrainReport") -> Table:
    table = Table(title=f"Dice on {len(report.held_out)} cases kept aside", title_justify="left")
    for name in ("label", "cases", "mean", "deviation", "lowest", "highest"):
        table.add_column(name, justify="right")
    for label, one in report.spread.items():
        numbers = (one.mean, one.deviation, one.low, one.high)
        cells = ["" if value is None else f"{value:.3f}" for value in numbers]
        table.add_row(Text(report.names.get(label, str(label))), str(one.cases), *cells)
    return table


@contextmanager
def case_progress(total: int, what: str) -> Iterator[Progress]:
    """Show a bar over the cases of a run; on something that is no terminal, nothing."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[last]}", style="dim", markup=False),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        progress.add_task(what, total=total, last="")
        yield progress


def advance(progress: Progress, record: CaseRecord) -> None:
    """Count a finished case on the bar; say aloud which one is quarantined, and why."""
    progress.update(progress.task_ids[0], advance=1, last=f"{record.case} {record.status}")
    with logs.about(logs.about_now().run, record.case):
        _print_fault(progress, record)


def _print_fault(progress: Progress, record: CaseRecord) -> None:
    if record.status == "quarantined":
        progress.console.print(
            Text("quarantined ", style="red") + Text(f"[{record.code}] {record.message}", style="")
        )
    elif record.mask_code not in {"", "mask_missing"}:
        progress.console.print(
            Text("no Dice ", style="yellow") + Text(f"[{record.mask_code}] {record.mask_message}")
        )


def cases_table(records: Sequence[CaseRecord], model: str = "") -> Table:
    """Return a table of cases: those that want a look first, at most ``MAX_ROWS``."""
    title = f"Cases by {shown(model)}" if model else "Cases"
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in ("case", "status", "Dice", "windows", "seconds", "label map, or reason"):
        table.add_column(name, overflow="fold", justify="right" if name in _RIGHT else "left")
    for record in attention_order(records)[:MAX_ROWS]:
        dice = "" if record.mean_dice is None else f"{record.mean_dice:.3f}"
        table.add_row(
            Text(record.case),
            Text(record.status, style=STATUS_STYLE[record.status]),
            dice,
            str(record.windows or ""),
            f"{record.seconds.get('total', 0):.1f}" if record.status == "done" else "",
            Text(_outcome(record)),
        )
    if len(records) > MAX_ROWS:
        table.caption = f"{len(records) - MAX_ROWS} more in the table of the run"
    return table


def _outcome(record: CaseRecord) -> str:
    """Return the label map, the warning about it if there is one, or why there is none."""
    reason = f"{record.code}: {record.message}" if record.code else ""
    is_told = record.mask_code not in {"", "mask_missing"}  # those are counted below
    of_mask = f"{record.mask_code}: {record.mask_message}" if is_told else ""
    return "\n".join(filter(None, (record.output, reason, of_mask)))


_RIGHT = {"Dice", "windows", "seconds"}


def print_accounting(accounting: Accounting | None) -> None:
    """Print in one line what all listed files were taken for."""
    if accounting is not None:
        out.print(Text(f"Files   {accounting}"), soft_wrap=True)


def print_file(file: ClassifiedFile) -> None:
    """Print what a file was taken for, and why."""
    style = {"image": "green", "mask": "cyan", "ours": "dim", "ignored": "yellow"}[file.kind]
    line = Text(f"{file.kind:7} ", style) + Text(f"{file.file}  ") + Text(file.why, "dim")
    out.print(line, soft_wrap=True)


def print_summary(summary: RunSummary) -> None:
    """Print the run in a few lines, and where its report lies."""
    out.print(_counts(summary.counts, STATUS_STYLE) + Text(f" in {summary.seconds:.1f} s"))
    if summary.mean_dice:
        dice = dice_sentence(summary.mean_dice, summary.labels)
        out.print(Text(f"Mean Dice  {dice}"), soft_wrap=True)
    if summary.mask_faults:
        codes = ", ".join(f"{count} {code}" for code, count in summary.mask_faults.items())
        out.print(f"No Dice    {codes}")
    if summary.to_review:
        out.print(f"To look at first  {summary.to_review} label maps that are unlike the others")
    for line in summary.changes[:MOST_CHANGES]:
        out.print(Text(f"Changed  {line}"), soft_wrap=True)
    if summary.counts["done"]:
        out.print(f"Cost  {cost_sentence(summary.cost)}")
    out.print(Text(f"Report  {summary.report}"), soft_wrap=True)
    out.print(Text(f"Table   {summary.table}"), soft_wrap=True)
    if summary.differences:
        out.print(Text(f"Differences  {summary.differences}"), soft_wrap=True)
    if summary.counts["done"] or summary.counts["skipped"]:
        out.print(Text(f"View    {command_for(summary.report)}"), soft_wrap=True)


def _counts(counts: Mapping[str, int], styles: Mapping[str, str]) -> Text:
    """Return ``3 done, 1 quarantined`` in colours."""
    return Text(", ").join(Text(f"{n} {what}", styles[what]) for what, n in counts.items())


def advance_check(progress: Progress, records: Sequence[CheckRecord], seconds: float) -> None:
    """Count a checked case on the bar, with the rate and the bytes read so far."""
    read = sum(record.bytes_read for record in records[-1:])
    total = progress.tasks[0].fields.get("bytes", 0) + read
    rate = len(records) / seconds if seconds else 0.0
    progress.update(
        progress.task_ids[0],
        advance=1,
        bytes=total,
        last=f"{rate:.1f} cases/s, {bytes_text(total)} read",
    )


def print_check(progress: Progress, record: CheckRecord) -> None:
    """Print the verdict on a case that fails or warns, in sentences."""
    line = Text(f"{record.verdict:5}", VERDICT_STYLE[record.verdict]) + Text(f"{record.case}")
    codes = [f["code"] for f in record.findings if f["severity"] != "pass"]
    line += Text(f" [{', '.join(dict.fromkeys(codes))}] {record.message}")
    (progress.console if err.is_terminal else out).print(line, soft_wrap=True)


def print_check_summary(summary: CheckSummary) -> None:
    """Print a check in a few lines, and where its report lies."""
    rate = f"{summary.cases_per_second:.1f} cases per second"
    out.print(
        _counts(summary.counts, VERDICT_STYLE)
        + Text(f" in {summary.seconds:.1f} s: {rate}, {bytes_text(summary.bytes_read)} read")
    )
    if summary.codes:
        codes = ", ".join(f"{code} {count}" for code, count in summary.codes.items())
        out.print(f"Reasons  {codes}")
    if summary.report:
        out.print(Text(f"Report  {summary.report}"), soft_wrap=True)
        out.print(Text(f"Table   {summary.table}"), soft_wrap=True)
    if summary.manifest:
        allow = "".join(f" --allow {shlex.quote(prefix)}" for prefix in summary.outside)
        words = f"{shlex.quote(summary.manifest)}{allow}"
        out.print(Text(f"Sound   unet-pipeline segment {words} ..."), soft_wrap=True)


def pairs_table(title: str, values: Mapping[str, object]) -> Table:
    """Return names and values as a table."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in values.items():
        table.add_row(name, Text(_shown(value)))
    return table


def costs_table(rows: Sequence[Mapping[str, Any]], summaries: Mapping[str, str]) -> Table:
    """Return what networks cost as a table, one row per depth."""
    table = Table(title="Networks", title_justify="left", header_style="bold")
    table.add_column("network")
    for name in ("depth", "parameters", "multiply-adds\nper voxel", "activations\nMB per window"):
        table.add_column(name, justify="right")
    table.add_column("windows\nper second", justify="right")
    table.add_column("what it is", overflow="fold")
    before = None
    for row in rows:
        first = row["network"] != before
        before = row["network"]
        rate = row["windows_per_second"]
        table.add_row(
            row["network"] if first else "",
            "" if row["depth"] is None else str(row["depth"]),
            f"{row['parameters']:,}",
            f"{row['multiply_adds_per_voxel']:,.0f}",
            f"{row['activation_mb_per_window']:,.1f}",
            "" if rate is None else f"{rate:,.2f}",
            summaries[row["network"]] if first else "",
        )
    return table


def print_rule(rule: "AdaptiveRule") -> None:
    """Print the curve of adaptive depth, and the limit that was chosen."""
    table = Table(title="Adaptive depth", title_justify="left", header_style="bold")
    for name in ("limit", "Dice", "loss", "loss, 95% bound", "mean depth", "multiply-adds"):
        table.add_column(name, justify="right")
    for point in rule.curve:
        table.add_row(
            f"{point['limit']:g}",
            f"{point['dice']:.4f}",
            f"{point['loss']:.4f}",
            f"{point['loss_bound']:.4f}",
            f"{point['mean_depth']:.2f}",
            f"{point['multiply_adds_share']:.0%}",
            style="bold" if point["limit"] == rule.limit else "",
        )
    out.print(table)
    out.print(f"Limit {rule.limit:g} keeps the promise of {rule.promised_loss:g}")


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else "none" if value is None else str(value)
