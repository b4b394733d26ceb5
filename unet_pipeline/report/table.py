"""The cases of a run as tables: CSV for machines, Markdown and rows for the run's web page."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from unet_pipeline.cost import shares_of_price
from unet_pipeline.records import CaseRecord, lowest_confidence
from unet_pipeline.texts import shown

Cell = str | float | None

STAGES = (
    *("gate", "read", "preprocess", "look", "load", "infer", "forward"),
    *("merge", "postprocess", "evaluate", "draw", "write"),
)
_LAST = ("wait", "total")
# A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV Injection").
_FORMULA_STARTS = (
    *("=", "\N{FULLWIDTH EQUALS SIGN}", "+", "\N{FULLWIDTH PLUS SIGN}"),
    *("-", "\N{FULLWIDTH HYPHEN-MINUS}", "@", "\N{FULLWIDTH COMMERCIAL AT}"),
)
_MARKUP = frozenset("\\`*_[]()<>&|#!~")


def attention_order(records: Iterable[CaseRecord]) -> list[CaseRecord]:
    """Return the records a person should look at first.

    Quarantined, then those that the gate warns about, those whose mask is at fault, and worst mean
    Dice.
    """

    def key(record: CaseRecord) -> tuple[bool, bool, bool, bool, float, bool, str]:
        mean = number(record.mean_dice)
        calm = record.status != "quarantined"
        skipped = record.status == "skipped"
        sound_mask = record.mask_code in {"", "mask_missing"}
        return calm, not record.code, sound_mask, mean is None, mean or 0.0, skipped, record.case

    return sorted(records, key=key)


def labels_of(records: Iterable[CaseRecord]) -> list[str]:
    """Return the labels that any record has a Dice for, numbers in numeric order, then names."""
    labels = {label for record in records for label in record.dice or {}}
    return sorted(labels, key=label_order)


def label_order(label: str) -> tuple[bool, int, str]:
    """Sort key of labels: numbers in numeric order, then names."""
    is_number = label.isascii() and label.isdigit()
    return not is_number, int(label) if is_number else 0, label


def name_of(label: str, names: Mapping[str, str]) -> str:
    """Return the name of a label; with its number where another has the same, or it has none."""
    name = shown(names.get(label, ""))
    if not name:
        return shown(label)
    return name if list(names.values()).count(names[label]) == 1 else f"{name} ({label})"


def dice_sentence(mean_dice: Mapping[str, float], names: Mapping[str, str]) -> str:
    """Return the mean Dice of each label by its name, as ``spleen: 0.912, label 7: 0.500``."""
    named = ((name_of(label, names), label, value) for label, value in mean_dice.items())
    return ", ".join(
        f"{'label ' if name == label else ''}{name}: {value:.3f}" for name, label, value in named
    )


def stages_of(records: Iterable[CaseRecord]) -> list[str]:
    """Return the stages that any record has seconds for, in the order of the pipeline."""
    stages = {stage for record in records for stage in record.seconds}
    known = [stage for stage in STAGES if stage in stages]
    others = sorted(stages - {*STAGES, *_LAST})
    return [*known, *others, *(stage for stage in _LAST if stage in stages)]


def number(value: float | None) -> float | None:
    """Return a plain finite float, or None."""
    return float(value) if value is not None and math.isfinite(value) else None


def large(count: float | None) -> str:
    """Return a large number for people: ``7.37 G``."""
    if count is None:
        return "unknown"
    for unit in ("", " k", " M", " G"):
        if count < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:,.3g} T"


def cases_csv(
    records: Sequence[CaseRecord],
    price: float | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return one line per case, in the order given, as RFC 4180 (comma, CRLF, quotes doubled).

    The columns are ``case, status, code, message, output, windows, mean_dice``, then
    ``dice_<label>``, by name, and ``seconds_<stage>`` for what any record has, then ``bytes_read``,
    ``bytes_written``, ``figure``, ``mask_code``, ``mask_message`` and ``confidence``, the lowest of
    all labels. Where the run has a price,
    the last column is each case's share of it, by seconds in the network. An empty cell means that
    there is no value. A text cell that a spreadsheet would run as a formula is prefixed with an
    apostrophe.
    """
    labels, stages = labels_of(records), stages_of(records)
    shares = {} if price is None else shares_of_price(records, price)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(
        ["case", "status", "code", "message", "output", "windows", "mean_dice"]
        + [f"dice_{cell_text(name_of(label, names))}" for label in labels]
        + [f"seconds_{cell_text(stage)}" for stage in stages]
        + ["bytes_read", "bytes_written", "figure", "mask_code", "mask_message", "confidence"]
        + ["price"] * (price is not None)
    )
    for record in records:
        dice = record.dice or {}
        writer.writerow(
            [
                *map(
                    cell_text,
                    (record.case, record.status, record.code, record.message, record.output),
                )
            ]
            + [str(record.windows), digits(record.mean_dice, 4)]
            + [digits(dice.get(label), 4) for label in labels]
            + [digits(record.seconds.get(stage), 3) for stage in stages]
            + [str(record.bytes_read), str(record.bytes_written), cell_text(record.figure)]
            + [cell_text(record.mask_code), cell_text(record.mask_message)]
            + [digits(lowest_confidence(record.statistics), 4)]
            + [digits(shares.get(record.case), 6)] * (price is not None)
        )
    return out.getvalue()


def table_rows(
    records: Sequence[CaseRecord], names: Mapping[str, str] = MappingProxyType({})
) -> list[dict[str, Cell]]:
    """Return one dictionary per case, quarantined first, then worst Dice; all have the same keys.

    The values are JSON types, so that the rows can be a table artifact of a run.
    """
    labels = labels_of(records)
    return [
        {
            "case": shown(record.case),
            "status": record.status,
            "code": shown(record.code),
            "mean_dice": _rounded(record.mean_dice, 4),
            **{
                f"dice_{name_of(label, names)}": _rounded((record.dice or {}).get(label), 4)
                for label in labels
            },
            "seconds": _rounded(record.seconds.get("total"), 2),
            "output": None if record.output is None else shown(record.output),
            "message": shown(record.message),
            "mask": shown(record.mask_code),
        }
        for record in attention_order(records)
    ]


def markdown_table(records: Sequence[CaseRecord], limit: int = 100) -> str:
    """Return a Markdown table of at most ``limit`` cases, quarantined first, then worst Dice."""
    lines = [
        "| Case | Status | Mean Dice | Seconds | Label map, or reason |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for record in attention_order(records)[:limit]:
        message = record.message.removeprefix(f"{record.case}: ")
        reason = f"{as_code(record.code)} {escape_markdown(message)}".strip()
        cells = (
            as_code(record.case),
            record.status,
            digits(record.mean_dice, 3) or as_code(record.mask_code),
            digits(record.seconds.get("total"), 1),
            as_code(record.output) if record.output else reason,
        )
        lines.append(f"| {' | '.join(cells)} |")
    if len(records) > limit:
        lines += ["", f"{len(records) - limit:,} more cases are in `cases.csv`."]
    return "\n".join(lines) + "\n"


def cell_text(value: str | None) -> str:
    """Return a text cell of one line that no spreadsheet takes for a formula."""
    text = shown(value or "")
    return f"'{text}" if is_formula(text) else text


def is_formula(text: str) -> bool:
    """Say whether a spreadsheet would take a cell for a formula."""
    return text.startswith(_FORMULA_STARTS)


def _rounded(value: float | None, places: int) -> float | None:
    finite = number(value)
    return None if finite is None else round(finite, places)


def digits(value: float | None, places: int) -> str:
    """Return a number with so many decimals, or nothing where there is none."""
    finite = number(value)
    return "" if finite is None else f"{finite:.{places}f}"


def escape_markdown(text: str) -> str:
    """Return text on one line, with all that Markdown or HTML could take for markup escaped."""
    line = shown(text)
    return "".join(f"\\{char}" if char in _MARKUP else char for char in line)


def as_code(text: str) -> str:
    """Return a name or URL as inline code, which is also readable where it is not rendered."""
    line = shown(text).strip()
    return escape_markdown(line) if not line or set(line) & set("`\\|") else f"`{line}`"
