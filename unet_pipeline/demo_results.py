"""What the demo leaves, and what it says of it: the sights of a run without looking for them."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from unet_pipeline.config import DifferencesSettings
from unet_pipeline.console import STATUS_STYLE, out
from unet_pipeline.evaluation.differences import sentence_of
from unet_pipeline.evaluation.review import review
from unet_pipeline.jobs.differences import close_differences, open_differences, run_differences
from unet_pipeline.records import CaseRecord
from unet_pipeline.report.label_sizes import label_sizes
from unet_pipeline.report.review_table import reasons
from unet_pipeline.report.table import name_of
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.sidecar import read_sidecar
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import parent, relative_to

LOGS = ("flow.log", "server.log")
RUN = "runs/demo"
ROWS = 6  # of the table of cases
_OF_RUN = ("report.html", "cases.csv", "cases.json", "run.json", "statistics.csv", "review.csv")
_OF_CASE = ("_dseg.nii.gz", "_dseg.json", "_dseg.png")


def copies_of(models: Sequence[str], cases: Sequence[str]) -> list[str]:
    """Return the paths of all that the demo may leave in its folder."""
    of_models = [
        f"{model}/{path}"
        for model in models
        for path in (
            *(f"{RUN}/{name}" for name in _OF_RUN),
            *(f"{case}{ending}" for case in cases for ending in _OF_CASE),
        )
    ]
    return [*LOGS, *(f"images/{case}.nii.gz" for case in cases), *of_models]


def copy_results(
    store: Store, bucket: str, models: Sequence[str], cases: Sequence[str], copies: OwnFiles
) -> None:
    """Copy images and results out of the bucket, so that all of it can be looked at afterwards."""
    scans, root = join(bucket, "scans"), join(bucket, "segmentations")
    files = {f"images/{case}.nii.gz": store.read(join(scans, "images", f"{case}.nii.gz"))
             for case in cases}  # fmt: skip
    there, here = join(scans, "images").encode(), f"{Path(copies.folder).resolve()}/images".encode()
    wanted = set(copies_of(models, cases))
    for model in models:
        (said,) = store.list_files(join(root, model, "runs", "*", "run.json"))
        run = parent(said)
        for url in store.list_files(join(root, model)):
            path = f"{model}/{relative_to(url, join(root, model))}"
            path = path.replace(f"{model}/{relative_to(run, join(root, model))}", f"{model}/{RUN}")
            if path in wanted:
                files[path] = store.read(url).replace(there, here)
    copies.write(files)


def print_results(
    output: Path, models: Sequence[str], seconds: float
) -> dict[str, Mapping[str, int]]:
    """Print what became of the cases, and return how many ended how, by model."""
    first, second = models
    runs = {model: json.loads((output / model / RUN / "run.json").read_bytes()) for model in models}
    names: dict[str, str] = runs[first]["labels"]
    records = _records(output / first)
    _print_cases(output / first, first)
    _print_labels(records, names)
    _print_review(records, names)
    _print_differences(output / first, output / second)
    out.print(Text(f"Report  {(output / first / RUN / 'report.html').resolve()}"), soft_wrap=True)
    out.print(Text(f"View    unet-pipeline view {output / first}"), soft_wrap=True)
    out.print(f"{seconds:.0f} s; the servers are stopped.", highlight=False)
    return {model: run["counts"] for model, run in runs.items()}


def _records(folder: Path) -> list[CaseRecord]:
    """Return the records of the finished cases in a folder."""
    found = []
    for path in sorted(folder.glob("*_dseg.json")):
        sidecar = read_sidecar(path.read_bytes())
        if sidecar is not None:
            label_map = str(path).replace(".json", ".nii.gz")
            found.append(sidecar.record("done", label_map, str(path).replace(".json", ".png")))
    return found


def _print_cases(folder: Path, model: str) -> None:
    with (folder / RUN / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows.sort(key=lambda row: (row["status"] != "quarantined", float(row["mean_dice"] or 0)))
    table = _table(f"Cohort of phantoms, by {model}", "case", "status", "Dice", "reason")
    for row in rows[:ROWS]:
        dice = f"{float(row['mean_dice']):.3f}" if row["mean_dice"] else ""
        reason = f"{row['code']}: {row['message']}" if row["code"] else ""
        state = Text(row["status"], style=STATUS_STYLE[row["status"]])
        table.add_row(Text(row["case"]), state, dice, Text(reason))
    table.caption = f"{len(rows) - ROWS} more, all with a higher Dice"
    out.print(table)


def _print_labels(records: Sequence[CaseRecord], names: Mapping[str, str]) -> None:
    headings = ("label", "cases", "median", "5 % to 95 %", "in parts", "cut")
    table = _table("How large each structure is", *headings)
    for one in label_sizes(records):
        if one.median_ml is None:
            continue
        spread = f"{one.low_ml:.1f} to {one.high_ml:.1f} ml"
        counts = (str(one.in_parts), str(one.cut))
        middle = f"{one.median_ml:.1f} ml"
        table.add_row(name_of(one.label, names), str(one.present), middle, spread, *counts)
    out.print(table)


def _print_review(records: Sequence[CaseRecord], names: Mapping[str, str]) -> None:
    by_case = {record.case: record for record in records}
    table = _table("To look at first, found without masks", "case", "Dice", "why")
    for one in review(records, names):
        dice = by_case[one.case].mean_dice
        table.add_row(one.case, "" if dice is None else f"{dice:.3f}", reasons(one, names)[0])
    out.print(table)


def _print_differences(old: Path, new: Path) -> None:
    run = open_differences(DifferencesSettings(old=str(old), new=str(new)))
    summary = close_differences(run, list(run_differences(run)))
    out.print(Text(f"{old.name} and {new.name}, which has a fraction of its parameters:"))
    for one in summary.agreements:
        sentence = sentence_of(one, name_of(one.label, summary.labels))
        out.print(Text(f"  {sentence}"), soft_wrap=True)


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
