"""The index of finished cases: what their records say, in one object for all of them.

It lies at ``runs/finished.jsonl.gz`` of an output. Whether a case is done is still what its record
says: a line of the index stands for a record as long as the marks of the record, of the label map
and of all inputs are those of today's listings. What is lost or damaged costs time and nothing
else, for then the records are read.
"""

import gzip
import io
import json
import logging
import random
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from time import sleep
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.sidecar import FORMAT, MADE_BY, Code, Dice, Name, Seconds, Text
from unet_pipeline.storage.store import Store, join

log = logging.getLogger(__name__)

NAME = "runs/finished.jsonl.gz"
_MOST_BYTES = 2**30  # of an index, packed
_MOST_OF_LINE = 2**20
_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds, where other runs end at the same time
_Mark = Annotated[str, Field(max_length=256)]


@dataclass(frozen=True, slots=True)
class Line:
    """A case as the last run over it left it.

    Attributes
    ----------
    image
        URL of its first channel.
    made_with
        Digest of all that decides whether its label map is what a run would write: weights,
        settings, and what the gate allows. Empty for a case that was quarantined.
    inputs, label_map, record
        Marks, those of inputs by their roles.
    run_id
        The run that has the case in its table of statistics.
    code
        Of a quarantined case, and of one that the gate warns about.
    message ... mask_message
        As in ``CaseRecord``.
    """

    case: Text
    image: Text = ""
    made_with: Text = ""
    inputs: Mapping[Text, _Mark] = field(default_factory=dict)
    label_map: _Mark = ""
    record: _Mark = ""
    run_id: Text = ""
    code: Code | Annotated[str, Field(max_length=0)] = ""
    message: Text = ""
    windows: int = 0
    dice: Mapping[Name, Dice | None] | None = None
    seconds: Mapping[Name, Seconds] = field(default_factory=dict)
    mask_code: Text = ""
    mask_message: Text = ""


def read_index(store: Store, output: str) -> Iterator[tuple[Line, bytes]]:
    """Yield the lines of the index of an output, also as they lie there.

    Nothing where there is none; what is damaged ends it.
    """
    url = join(output, NAME)
    try:
        if (there := store.find(url)) is None or there.size > _MOST_BYTES:
            return
        with store.open(url) as packed, gzip.open(packed) as lines:
            if json.loads(lines.readline(_MOST_OF_LINE)) != _header():
                return
            while line := lines.readline(_MOST_OF_LINE):
                yield _types().validate_json(line), line
    except (CaseError, OSError, EOFError, zlib.error, ValueError, ValidationError) as error:
        log.warning("the index of finished cases is damaged: %s", type(error).__name__)


def change_index(store: Store, output: str, cases: Container[str], lines: Sequence[Line]) -> None:
    """Put new lines of some cases into the index of an output; those of others stay.

    Runs that end at once change it one after the other: none writes over what it has not read.

    Raises
    ------
    CaseError
        As ``Store.put``.
    """
    url = join(output, NAME)
    for pause in (*_PAUSES, None):
        before = store.find(url)
        kept = (text for line, text in read_index(store, output) if line.case not in cases)
        data = _packed(kept, lines)
        try:
            if store.find(url) == before:  # not all stores hold a write against this themselves
                store.put(url, data, before)
                return
        except CaseError as error:
            if error.code != "output_changed" or pause is None:
                raise
        if pause is not None:
            sleep(random.uniform(0.5, 1.5) * pause)  # noqa: S311
    log.warning("the index of finished cases is not written: other runs change it all the time")


def _packed(kept: Iterable[bytes], new: Iterable[Line]) -> bytes:
    """Return an index: lines as they were read, then new ones."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=3, mtime=0) as file:
        file.write(_line(_header()))
        file.writelines(kept)
        file.writelines(_line(asdict(line)) for line in new)
    return packed.getvalue()


def _header() -> dict[str, Any]:
    return {"made_by": MADE_BY, "finished": FORMAT}


def _line(value: Mapping[str, Any]) -> bytes:
    kept = {key: one for key, one in value.items() if one not in ("", None, {})}
    return json.dumps(kept, allow_nan=False).encode() + b"\n"


@cache
def _types() -> TypeAdapter[Line]:
    return TypeAdapter(Line)
