"""Records of cases as tables that a notebook shows."""

import io
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from unet_pipeline.jobs.plan import CasePlan
from unet_pipeline.records import CaseRecord, CheckRecord
from unet_pipeline.report.check_table import attention_order
from unet_pipeline.report.quantities import bytes_text
from unet_pipeline.report.table import label_order, name_of

MOST_ROWS = 50


def html_of(table: RenderableType) -> str:
    """Return a table of the terminal as HTML."""
    page = Console(record=True, file=io.StringIO(), width=120)
    page.print(table)
    return page.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def checks_table(records: Sequence[CheckRecord]) -> Table:
    """Return verdicts and reasons; those that want a look come first."""
    rows = (
        (one.case, one.verdict, ", ".join(one.codes), one.message)
        for one in attention_order(records)
    )
    return _table("Checks", ("case", "verdict", "codes", "reason"), rows, len(records))


def plans_table(plans: Sequence[CasePlan]) -> Table:
    """Return what each case asks of a run."""
    rows = (
        (one.case, f"{one.windows:,}", f"{one.tiles:,}", bytes_text(one.peak_bytes))
        for one in plans
    )
    return _table("Plan", ("case", "windows", "tiles", "peak memory"), rows, len(plans))


def statistics_table(records: Sequence[CaseRecord], names: Mapping[str, str]) -> Table:
    """Return the size of each label of each label map that has it."""
    rows = [
        (one.case, name_of(label, names), *_size(one.statistics[label]))
        for one in records
        for label in sorted(one.statistics, key=label_order)
        if one.statistics[label].get("voxels")
    ]
    headings = ("case", "label", "volume, ml", "surface, mm2", "parts", "cut")
    return _table("Label maps", headings, rows, len(rows))


def _size(values: Mapping[str, float | str]) -> tuple[str, ...]:
    return tuple(
        value if isinstance(value, str) else f"{value:.6g}"
        for value in (values.get(name, "") for name in ("volume_ml", "surface_mm2", "parts", "cut"))
    )


def _table(title: str, names: Sequence[str], rows: Iterable[tuple[str, ...]], count: int) -> Table:
    table = Table(*names, title=title, title_justify="left", header_style="bold")
    for row, _ in zip(rows, range(MOST_ROWS), strict=False):
        table.add_row(*map(Text, row))
    if count > MOST_ROWS:
        table.caption = f"{count - MOST_ROWS} more"
    return table
