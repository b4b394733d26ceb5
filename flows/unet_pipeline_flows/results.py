"""What a run of segment shows on its page at the end: tables, summary, links, pictures."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from unet_pipeline.errors import PipelineError
from unet_pipeline.records import CaseRecord, RunSummary
from unet_pipeline.report.cost import cost_markdown, cost_sentence
from unet_pipeline.report.table import (
    Cell,
    as_code,
    attention_order,
    dice_sentence,
    escape_markdown,
    markdown_table,
    table_rows,
)
from unet_pipeline.storage.filesystems import StorageOptions
from unet_pipeline.storage.links import Links, command_for
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import parent
from unet_pipeline.viewing.app import MOST_PICTURE
from unet_pipeline.viewing.index import MOST_BYTES, NAME, read_index
from unet_pipeline_flows.links import show_link, show_picture
from unet_pipeline_flows.page import TABLE_ROWS

LINKED_ROWS = 100  # of the table; signed addresses are long, and the server's database keeps them
PICTURES = "UNET_PIPELINE_PAGE_PICTURES"
MOST_PICTURES = 3  # where nobody says how many; 0 for none


def publish(summary: RunSummary, records: Sequence[CaseRecord], store: Store) -> None:
    """Show table, summary, cost, links and pictures of what one model did."""
    ordered, behind = attention_order(records)[:TABLE_ROWS], _key(summary.model)
    of_model = f" by {summary.model}" if summary.model else ""
    create_table_artifact(
        table=_with_links(table_rows(ordered, summary.labels), ordered, store.options),
        key=f"cases{behind}",
        description=f"Cases of run {summary.run_id}{of_model}",
    )
    text = _headline(summary) + markdown_table(ordered, 50)
    create_markdown_artifact(text, key=f"summary{behind}", description=counts_of(summary))
    cost, sentence = cost_markdown(summary.cost), escape_markdown(cost_sentence(summary.cost))
    create_markdown_artifact(cost, key=f"cost{behind}", description=sentence)
    shown, command = f"Report of the run{of_model}", command_for(summary.report)
    show_link(summary.report, shown, store.options, f"report{behind}", command)
    if summary.differences:
        what = f"What changed{of_model}"
        show_link(summary.differences, what, store.options, f"differences{behind}")
    _show_doubtful(summary, store, behind)


def _with_links(
    rows: list[dict[str, Cell]], ordered: Sequence[CaseRecord], options: StorageOptions
) -> list[dict[str, Cell]]:
    """Return the rows with a link to the picture of each case that wants a look most."""
    links = Links.from_environment()
    addresses = {
        record.case: links.address(record.figure, options)
        for record in ordered[:LINKED_ROWS]
        if record.figure is not None
    }
    if not any(addresses.values()):
        return rows
    of_rows = (addresses.get(record.case) for record in ordered)
    cells = ("" if address is None else f"[open](<{address}>)" for address in of_rows)
    return [
        {"case": row["case"], "picture": cell, **row} for row, cell in zip(rows, cells, strict=True)
    ]


def _show_doubtful(summary: RunSummary, store: Store, behind: str) -> None:
    """Show the label maps that are least like the others; where a browser reaches them, by link."""
    most = int(os.environ.get(PICTURES, MOST_PICTURES))
    if not summary.to_review or most <= 0:
        return
    folder = parent(summary.report)
    links, output = Links.from_environment(), parent(parent(folder))
    with suppress(PipelineError):  # a page without pictures is better than none
        index = read_index(store.read_at_most(join(folder, NAME), MOST_BYTES), folder)
        doubtful = [one for one in index.cases if one.reasons][:most]
        for number, one in enumerate(doubtful, 1):
            figure = join(output, one.figure)
            said = f"{as_code(one.case)}: {escape_markdown('; '.join(one.reasons))}"
            key = f"look-at-{number}{behind}"
            if (address := links.address(figure, store.options)) is not None:
                create_image_artifact(address, key=key, description=said)
            else:
                show_picture(store.read_at_most(figure, MOST_PICTURE), key, said)


def _key(model: str) -> str:
    """Return what the keys of a model's artifacts end with: Prefect takes small letters only."""
    name = re.sub("[^a-z0-9]+", "-", model.lower()).strip("-")
    return f"-{name}" if name else ""


def _headline(summary: RunSummary) -> str:
    dice = escape_markdown(dice_sentence(summary.mean_dice, summary.labels))
    lines = [f"# {counts_of(summary)}"]
    lines += [f"{summary.seconds:.0f} s, {summary.cases_per_minute:.1f} per minute."]
    lines += [f"Mean Dice: {dice}."] if dice else []
    if summary.mask_faults:
        codes = ", ".join(f"{count} `{code}`" for code, count in summary.mask_faults.items())
        lines.append(f"No Dice: {codes}.")
    if summary.to_review:
        lines.append(f"{summary.to_review} label maps are unlike the others: see the report.")
    lines += [f"Changed: {escape_markdown(line)}." for line in summary.changes[:TABLE_ROWS]]
    lines += [f"Cost: {cost_sentence(summary.cost)}"] if summary.counts["done"] else []
    return "\n\n".join([*lines, f"Report: {as_code(summary.report)}", ""]) + "\n"


def counts_of(summary: RunSummary) -> str:
    """Say how many cases came to what, as ``3 done, 0 skipped, 1 quarantined``."""
    counts = ", ".join(f"{count} {status}" for status, count in summary.counts.items())
    counts += f", {summary.to_review} to look at" if summary.to_review else ""
    return f"{summary.model}: {counts}" if summary.model else counts
