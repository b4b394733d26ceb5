"""Cohorts written down as a table: CSV or JSON lines with the columns ``case,image,mask``.

``image`` holds the channels of a case, separated by ``;``. ``mask`` may be empty or absent, and so
may ``split`` and ``fold``, which say what training does with a case. Relative paths start at the
manifest's folder. Other columns are ignored.
"""

import csv
import io
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from unet_pipeline.errors import CaseError, RequestError, has_secret
from unet_pipeline.records import Case
from unet_pipeline.storage.names import escaped, is_safe, without_nifti_suffix
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.urls import LOCAL, canonical, is_below, parent, protocol_of, redact

MOST_BYTES = 256 * 2**20  # more than a million cases
_Row = Mapping[str, Any]


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


def _check_inside(cases: Sequence[Case], url: str, allowed: Sequence[str]) -> None:
    """Refuse a manifest that leads anywhere but where the request allows it to."""
    prefixes = (parent(url), *allowed)
    for case in cases:
        for found in (*case.images, *([case.mask] if case.mask else ())):
            if not any(is_below(found, prefix) for prefix in prefixes):
                raise RequestError(
                    "manifest_outside",
                    subject=f"{redact(url)}, case {case.name}",
                    found=redact(found),
                    wanted=f"a place in {', '.join(map(redact, prefixes))}",
                    remedy="Allow its prefix (--allow) if the run may read it",
                )


def parse_manifest(data: bytes, url: str) -> tuple[Case, ...]:
    """Return the cases of the manifest ``data`` that was read from ``url``."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        _refuse(url, line, found="bytes that are not UTF-8", wanted="UTF-8 text")
    rows = _json_rows if url.lower().endswith(".jsonl") else _csv_rows
    lines_by_name: dict[str, int] = {}
    cases = []
    for line, row in rows(text, url):
        case = _case(row, url, line)
        first = lines_by_name.setdefault(case.name, line)
        if first != line:
            _refuse(
                url, line, "case", f"{case.name} again, first in line {first}", "each case once"
            )
        cases.append(case)
    return tuple(cases)


def _csv_rows(text: str, url: str) -> Iterator[tuple[int, _Row]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [(name or "").strip().lower() for name in reader.fieldnames or []]
        for wanted in ("case", "image"):
            if columns.count(wanted) != 1:
                found = f"{columns.count(wanted)} columns of that name"
                _refuse(url, 1, wanted, found, "a first line like case,image,mask")
        reader.fieldnames = columns
        for row in reader:
            if None in row:
                _refuse(
                    url,
                    reader.line_num,
                    found=f"more than {len(columns)} fields",
                    wanted="one field per column (channels are separated by ;)",
                )
            yield reader.line_num, row
    except csv.Error as error:
        _refuse(url, reader.line_num + 1, found=f"a line that is not CSV ({error})", wanted="CSV")


def _json_rows(text: str, url: str) -> Iterator[tuple[int, _Row]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError):
            _refuse(url, line, found="a line that is not JSON", wanted="one JSON object per line")
        if not isinstance(row, dict):
            _refuse(url, line, found=f"a JSON {type(row).__name__}", wanted="a JSON object")
        yield line, row


def _case(row: _Row, url: str, line: int) -> Case:
    name = _cell(row, "case", url, line)
    name = without_nifti_suffix(name) or name
    if not is_safe(name):
        _refuse(
            url,
            line,
            "case",
            escaped(name) if name else "nothing",
            "a relative path without .., backslash, control characters or empty parts",
        )
    channels = _cell(row, "image", url, line).split(";")
    images = tuple(_resolve(channel.strip(), "image", url, line) for channel in channels)
    mask = _cell(row, "mask", url, line)
    return Case(
        name,
        images,
        _resolve(mask, "mask", url, line) if mask else None,
        split=_word(row, "split", url, line),
        fold=_word(row, "fold", url, line),
    )


def _word(row: _Row, column: str, url: str, line: int) -> str:
    """Return a cell that may be a whole number, too, as JSON lines would have it."""
    value = row.get(column)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if whole else _cell(row, column, url, line).lower()


def _cell(row: _Row, column: str, url: str, line: int) -> str:
    value = row.get(column)
    if value is not None and not isinstance(value, str):
        _refuse(url, line, column, f"a value of type {type(value).__name__}", "text")
    return (value or "").strip()


def _resolve(path: str, column: str, url: str, line: int) -> str:
    """Return the URL that ``path`` means in the manifest at ``url``."""
    if not path:
        _refuse(url, line, column, "nothing", "a path or URL, or several separated by ;")
    if has_secret(path):
        found = "a URL that carries a password or a signature"
        _refuse(url, line, column, found, "plain URLs: keys come from AWS variables or a profile")
    if "://" in path or path.startswith(("/", "~")):
        return canonical(path)
    head, separator, folder = parent(url).rpartition("://")
    resolved = posixpath.normpath(posixpath.join(folder, path))
    has_bucket = protocol_of(url) not in {LOCAL, "memory"}
    if resolved.startswith("..") or (has_bucket and _bucket(resolved) != _bucket(folder)):
        _refuse(url, line, column, f"{path}, which leads out of the bucket", "a path inside it")
    return f"{head}{separator}{resolved}"


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
