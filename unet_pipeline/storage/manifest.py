"""Cohorts written down as a table: CSV or JSON lines with the columns ``case,image,mask``.

``image`` holds the channels of a case, separated by ``;``. ``mask`` may be empty or absent, and so
may ``split`` and ``fold``, which say what training does with a case, ``sex`` and ``age``, and
``priority``, a number: cases with a higher one come first in a run, those without have 0. Relative
paths start at the manifest's folder. Other columns are ignored. In manifests that are written here,
a path is relative where it lies below that folder, and else whole: so it means the same wherever it
is read from.
"""

import csv
import io
import json
import math
import posixpath
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, NoReturn

from unet_pipeline.errors import CaseError, RequestError, has_secret
from unet_pipeline.records import Case, json_text
from unet_pipeline.storage.names import escaped, is_safe, without_ending
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.survey import AllowedFolders
from unet_pipeline.storage.urls import (
    LOCAL,
    canonical,
    is_below,
    parent,
    protocol_of,
    redact,
    relative_to,
)

MOST_BYTES = 256 * 2**20  # more than a million cases
_COLUMNS = ("case", "image", "mask", "split", "fold", "sex", "age", "priority")
_MOST_OF_A_NOTE = 32  # characters
_SUFFIX_ENDS = {".nii", ".hdr", ".img"}
_NO_NAMES = {"", ".", ".."}
_Cells = tuple[Any, ...]  # of one row, in the order of _COLUMNS


def is_manifest(url: str) -> bool:
    """Say whether ``url`` names a manifest."""
    return url.lower().endswith((".csv", ".jsonl"))


def read_manifest(store: Store, url: str) -> tuple[Case, ...]:
    """Return the cases of a manifest, in its order.

    Raises
    ------
    RequestError
        ``manifest_missing``; ``manifest_too_large``; ``manifest_invalid``, which names line and
        column;
        ``manifest_outside`` for URLs that the request does not allow; and what
        ``Store.check_reachable`` raises.
    """
    store.check_reachable(parent(url))
    try:
        data = store.read_at_most(url, MOST_BYTES)
    except CaseError as error:
        raise RequestError(
            "manifest_too_large" if error.code == "file_too_large" else "manifest_missing",
            subject=redact(url),
            found=error.found,
            wanted=f"a manifest (.csv or .jsonl) of at most {MOST_BYTES // 2**20} MiB",
            remedy="Correct its path, or cut it into several",
        ) from error
    cases = parse_manifest(data, url)
    _check_inside(cases, url, store.options.allowed)
    return cases


def manifest_bytes(cases: Iterable[Case], url: str) -> bytes:
    """Return JSON lines that mean these cases when they are read as the manifest at ``url``."""
    folder = parent(url)
    lines = []
    for case in cases:
        row = {"case": case.name, "image": ";".join(_written(one, folder) for one in case.images)}
        if case.mask is not None:
            row["mask"] = _written(case.mask, folder)
        row.update({key: word for key in _COLUMNS[3:] if (word := getattr(case, key))})
        lines.append(json_text(row) + "\n")
    return "".join(lines).encode()


def _written(url: str, folder: str) -> str:
    whole = canonical(url)
    if not is_below(whole, folder) or ".." in whole.split("/"):
        return whole
    return f"./{relative_to(whole, folder)}"  # so that no first character has a meaning


def outside(cases: Sequence[Case], url: str) -> tuple[str, ...]:
    """Return the prefixes that must be allowed to read the manifest at ``url`` of these cases.

    They are the deepest folders that hold all images, and all masks, that lie elsewhere.
    """
    images = [one for case in cases for one in case.images]
    masks = [case.mask for case in cases if case.mask is not None]
    found = {
        prefix
        for group in (images, masks)
        for prefix in _common([parent(one) for one in group if not is_below(one, parent(url))])
    }
    return tuple(
        sorted(one for one in found if not any(one != o and is_below(one, o) for o in found))
    )


def _common(folders: Sequence[str]) -> set[str]:
    """Return the folder that all lie in, for each store and bucket; never a whole file system."""
    by_root: dict[str, list[str]] = {}
    for folder in folders:
        head, separator, rest = folder.rpartition("://")
        root = f"{head}{separator}{_bucket(rest)}"
        by_root.setdefault(root, []).append(rest)
    found = set()
    for root, paths in by_root.items():
        start = root[: len(root) - len(_bucket(paths[0]))]
        common = posixpath.commonpath(paths)
        found |= {f"{start}{path}" for path in (paths if common in ("", "/") else [common])}
    return found


def _check_inside(cases: Sequence[Case], url: str, allowed: Sequence[str]) -> None:
    """Refuse a manifest that leads anywhere but where the request allows it to, links followed."""
    prefixes = (parent(url), *allowed)
    folders = AllowedFolders(prefixes)
    inside = cache(lambda folder: any_below(folder, prefixes))
    for case in cases:
        for found in case.images if case.mask is None else (*case.images, case.mask):
            is_local = found.startswith("/")
            if is_local:
                if folders.allows(found):
                    continue
            else:
                folder, _, name = found.rpartition("/")
                if (name != ".." and inside(folder)) or any_below(found, prefixes):
                    continue
            leads = f", a link to {folders.real(found)}" if any_below(found, prefixes) else ""
            raise RequestError(
                "manifest_outside",
                subject=f"{redact(url)}, case {case.name}",
                found=f"{redact(found)}{leads}",
                wanted=f"a place in {', '.join(map(redact, prefixes))}, links followed",
                remedy="Allow its prefix (--allow) if the run may read it",
            )


def any_below(url: str, prefixes: Sequence[str]) -> bool:
    """Say whether a URL lies in one of some prefixes, with every ``..`` followed."""
    return any(is_below(url, prefix) for prefix in prefixes)


def parse_manifest(data: bytes, url: str) -> tuple[Case, ...]:
    """Return the cases of the manifest ``data`` that was read from ``url``.

    Rows without any value, as spreadsheets leave them, are passed over, and so is a row that says
    again what another says.
    """
    rows = _json_rows if url.lower().endswith(".jsonl") else _csv_rows
    row_of: dict[str, int] = {}
    lines = array("Q")
    cases: list[Case] = []
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")
    try:
        for line, cells in rows(text, url):
            case = _case(cells, url, line)
            first = row_of.setdefault(case.name, len(cases))
            if first == len(cases):
                cases.append(case)
                lines.append(line)
            elif case != cases[first]:
                found = f"{case.name} again, first in line {lines[first]}"
                _refuse(url, line, "case", found, "each case once")
    except UnicodeDecodeError:
        _refuse(url, _line_that_is_no_text(data), found="bytes that are not UTF-8", wanted="UTF-8")
    return tuple(cases)


def _line_that_is_no_text(data: bytes) -> int:
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return data[: error.start].count(b"\n") + 1
    return data.count(b"\n")


def _csv_rows(text: io.TextIOWrapper, url: str) -> Iterator[tuple[int, _Cells]]:
    head = text.readline()
    separator = _separator(head)
    reader = csv.reader(chain([head], text), delimiter=separator, strict=True)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        for wanted in ("case", "image"):
            if columns.count(wanted) != 1:
                found = f"{columns.count(wanted)} columns of that name"
                _refuse(url, 1, wanted, found, "a first line like case,image,mask")
        # a column that is not there is looked for in an empty cell behind the row
        places = [columns.index(name) if name in columns else -1 for name in _COLUMNS]
        pick = itemgetter(*places)
        width = len(columns)
        for row in reader:
            if not any(map(str.strip, row)):
                continue
            if len(row) != width and any(map(str.strip, row[width:])):
                quoted = "; channels between quotes" if separator == ";" else ""
                _refuse(
                    url,
                    reader.line_num,
                    found=f"{len(row)} fields, and {width} columns",
                    wanted=f"one field per column (channels are separated by ;{quoted})",
                )
            row = row[:width] + [""] * (width + 1 - len(row))
            yield reader.line_num, pick(row)
    except csv.Error as error:
        _refuse(url, reader.line_num, found=f"a line that is not CSV ({error})", wanted="CSV")


def _separator(head: str) -> str:
    """Return what separates the columns: a comma, or what Excel writes where that is decimal."""
    for separator in (",", ";", "\t"):
        names = [name.strip(' "\r\n').lower() for name in head.split(separator)]
        if {"case", "image"} <= set(names):
            return separator
    return ","


def _json_rows(text: io.TextIOWrapper, url: str) -> Iterator[tuple[int, _Cells]]:
    for line, content in enumerate(text, start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError):
            _refuse(url, line, found="a line that is not JSON", wanted="one JSON object per line")
        if not isinstance(row, dict):
            _refuse(url, line, found=f"a JSON {type(row).__name__}", wanted="a JSON object")
        cells = tuple(row.get(name) for name in _COLUMNS)
        if any(cell is not None and cell != "" for cell in cells):
            yield line, cells


def _case(cells: _Cells, url: str, line: int) -> Case:
    case, image, mask, split, fold, sex, age, priority = cells
    name = _cell(case, "case", url, line)
    if name[-4:].lower() in _SUFFIX_ENDS or name[-3:].lower() == ".gz":
        name = without_ending(name) or name
    if not is_safe(name):
        _refuse(
            url,
            line,
            "case",
            escaped(name) if name else "nothing",
            "a relative path without .., backslash, control characters or empty parts",
        )
    channels = _cell(image, "image", url, line).split(";")
    of_mask = _cell(mask, "mask", url, line)
    return Case(
        name,
        tuple([_resolve(channel.strip(), "image", url, line) for channel in channels]),
        _resolve(of_mask, "mask", url, line) if of_mask else None,
        split=_word(split, "split", url, line) if split else "",
        fold=_word(fold, "fold", url, line) if fold not in (None, "") else "",
        sex=_note(sex),
        age=_note(age),
        priority=_number(priority, "priority", url, line) if priority not in (None, "") else 0.0,
    )


def _number(value: Any, column: str, url: str, line: int) -> float:
    """Return a cell that says a number; its text is not repeated, for it may be anything."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        _refuse(url, line, column, "what is no number", "a number such as 10; higher comes first")
    return number


def _note(value: Any) -> str:
    """Return a cell that nothing depends on: empty for what is neither text nor a number."""
    known = isinstance(value, str | int | float) and not isinstance(value, bool)
    return str(value).strip()[:_MOST_OF_A_NOTE] if known else ""


def _word(value: Any, column: str, url: str, line: int) -> str:
    """Return a cell that may be a whole number, too, as JSON lines would have it."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if whole else _cell(value, column, url, line).lower()


def _cell(value: Any, column: str, url: str, line: int) -> str:
    if value.__class__ is str:
        return str(value.strip())
    if value is not None:
        _refuse(url, line, column, f"a value of type {type(value).__name__}", "text")
    return ""


def _resolve(path: str, column: str, url: str, line: int) -> str:
    """Return the URL that ``path`` means in the manifest at ``url``."""
    if not path:
        _refuse(url, line, column, "nothing", "a path or URL, or several separated by ;")
    if ("://" in path or "%" in path) and has_secret(path):
        found = "a URL that carries a password or a signature"
        wanted = "plain URLs: keys come from AWS variables or a profile"
        _refuse(url, line, column, found, wanted)
    if "://" in path:
        return canonical(path)
    folder, slash, name = path.rpartition("/")
    if name in _NO_NAMES:
        folder, name = path, ""
    if folder.startswith("~") or (slash and not folder):
        return canonical(path)
    place = _place(url, folder)
    if place is None:
        _refuse(url, line, column, f"{path}, which leads out of the bucket", "a path inside it")
    return f"{place}{name}" if name else place.rstrip("/")


@lru_cache(maxsize=2**16)
def _place(url: str, folder: str) -> str | None:
    """Return the URL of a folder in the manifest at ``url``, with a slash at its end.

    None if it leads out of the bucket.
    """
    if folder.startswith("/"):
        return f"{canonical(folder).rstrip('/')}/"
    head, separator, start = parent(url).rpartition("://")
    resolved = posixpath.normpath(posixpath.join(start, folder))
    has_bucket = protocol_of(url) not in {LOCAL, "memory"}
    if resolved.startswith("..") or (has_bucket and _bucket(resolved) != _bucket(start)):
        return None
    return f"{head}{separator}{'' if resolved == '.' else resolved.rstrip('/')}/"


def _bucket(path: str) -> str:
    return path.partition("/")[0]


def _refuse(url: str, line: int, column: str = "", found: str = "", wanted: str = "") -> NoReturn:
    where = f"line {line}, column {column}" if column else f"line {line}"
    raise RequestError(
        "manifest_invalid",
        subject=f"{redact(url)}, {where}",
        found=found,
        wanted=wanted,
        remedy="Correct that line of the manifest",
    )
