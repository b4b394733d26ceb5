"""The list of a run's cases that its viewer goes by: ``cases.json`` in the folder of the run.

It names the images, which no sidecar does, and says which cases want a look. What lies there is
read as a stranger's file.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from unet_pipeline.errors import RequestError
from unet_pipeline.evaluation.review import Review
from unet_pipeline.records import Case, CaseRecord, json_text
from unet_pipeline.report.review_table import reasons
from unet_pipeline.report.table import attention_order
from unet_pipeline.storage.urls import relative_to

NAME = "cases.json"
MOST_BYTES = 256 * 2**20
_Text = Annotated[str, Field(max_length=2**14)]  # a bound also refuses half a surrogate pair
_Place = Annotated[_Text, Field(min_length=1)]


@dataclass(frozen=True)
class IndexedCase:
    """A case that has a label map.

    Attributes
    ----------
    images
        URL of each image of the case, by channel.
    labels, figure
        Where label map and picture lie below the output.
    doubts
        Number of the label that each reason is about.
    """

    case: _Text
    images: tuple[_Place, ...]
    labels: _Place
    figure: _Place
    dice: float | None = None
    reasons: tuple[_Text, ...] = ()
    doubts: tuple[_Text, ...] = ()

    def __post_init__(self) -> None:
        for place in (self.labels, self.figure):
            if place.startswith("/") or "://" in place or ".." in place.split("/"):
                raise ValueError(f"IndexedCase has files below the output, got {place!r}")


@dataclass(frozen=True)
class RunIndex:
    """The cases of a run in the order in which they want a look.

    Attributes
    ----------
    names
        Name of each label, by its number as text.
    """

    run_id: _Text
    model: _Text
    cases: tuple[IndexedCase, ...]
    names: Mapping[str, _Text] = field(default_factory=dict)


def index_of(
    run_id: str,
    model: str,
    output: str,
    cases: Sequence[Case],
    records: Sequence[CaseRecord],
    reviews: Sequence[Review],
    names: Mapping[str, str],
) -> RunIndex:
    """Return the list of a run: doubtful cases first, then as in the report."""
    images = {case.name: case.images for case in cases}
    place = {one.case: index for index, one in enumerate(reviews)}
    ordered = attention_order(record for record in records if record.output and record.figure)
    ordered.sort(key=lambda record: place.get(record.case, len(place)))
    found = []
    for record in ordered:
        review = reviews[place[record.case]] if record.case in place else None
        with suppress(ValueError):  # a label map that does not lie below the output
            found.append(
                IndexedCase(
                    record.case,
                    images.get(record.case, ()),
                    relative_to(record.output or "", output),
                    relative_to(record.figure or "", output),
                    record.mean_dice,
                    () if review is None else tuple(reasons(review, names)),
                    () if review is None else tuple(doubt.label for doubt in review.doubts),
                )
            )
    return RunIndex(run_id, model, tuple(found), dict(names))


def index_bytes(index: RunIndex) -> bytes:
    """Return the list as it is stored."""
    return (json_text(asdict(index)) + "\n").encode("utf-8", "backslashreplace")


def read_index(data: bytes, subject: str) -> RunIndex:
    """Return the list that is stored.

    Raises
    ------
    RequestError
        ``run_unreadable``.
    """
    try:
        return _types().validate_json(data)
    except ValidationError as error:
        raise RequestError(
            "run_unreadable",
            subject=subject,
            found="a list of cases that is not as a run of segment writes it",
            wanted=f"{NAME} as it was written",
            remedy="Run segment again: what is done is skipped, and the list is written anew",
        ) from error


@cache
def _types() -> TypeAdapter[RunIndex]:
    return TypeAdapter(RunIndex)
