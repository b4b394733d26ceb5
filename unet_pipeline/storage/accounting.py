"""What each listed file was taken for, and why: nothing below a prefix goes unsaid."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from unet_pipeline.records import Case

Kind = Literal["image", "mask", "ours", "ignored"]
_HINT = " ("  # begins what is particular to one file, within its reason


@dataclass(frozen=True)
class ClassifiedFile:
    """One file, what it was taken for, and why."""

    file: str
    kind: Kind
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types. One line of ``--list --json``."""
        return asdict(self)


@dataclass(frozen=True)
class Accounting:
    """What became of all files of a cohort.

    Attributes
    ----------
    cases
        Cases, those at fault by their files included.
    with_mask
        Cases that have a mask; None if no masks were asked for.
    images, masks, ours
        Files.
    ignored
        Number of files by the reason.
    hint
        What to do about the first file that could be read if it were allowed; or empty.
    """

    cases: int
    with_mask: int | None
    images: int
    masks: int
    ours: int
    ignored: Mapping[str, int]
    hint: str = ""

    def __str__(self) -> str:
        parts = [f"{_number(self.cases, 'case')} in {_number(self.images, 'file')}"]
        if self.with_mask is not None:
            parts.append(f"masks for {self.with_mask:,} of {self.cases:,}")
        if self.masks:
            parts.append(_number(self.masks, "mask file"))
        if self.ours:
            parts.append(f"{_number(self.ours, 'file')} of ours")
        if self.ignored:
            reasons = (f"{count:,} {reason}" for reason, count in self.ignored.items())
            parts.append(f"{sum(self.ignored.values()):,} ignored: {', '.join(reasons)}{self.hint}")
        return "; ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**asdict(self), "ignored": dict(self.ignored)}


def accounted(
    files: Iterable[ClassifiedFile], cases: int, with_mask: int | None = None
) -> Accounting:
    """Count what files were taken for."""
    kinds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    hint = ""
    for one in files:
        kinds[one.kind] += 1
        if one.kind == "ignored":
            reason, begins, rest = one.why.partition(_HINT)
            reasons[reason] += 1
            hint = hint or (f"{begins}{rest}" if "--allow" in rest else "")
    return Accounting(
        cases, with_mask, kinds["image"], kinds["mask"], kinds["ours"],
        dict(reasons.most_common()), hint,
    )  # fmt: skip


def files_of_cases(cases: Iterable[Case]) -> Iterator[ClassifiedFile]:
    """Yield the files that cases name: what a manifest was taken for."""
    for case in cases:
        for url in case.images:
            yield ClassifiedFile(url, "image", f"case {case.name}")
        if case.mask is not None:
            yield ClassifiedFile(case.mask, "mask", f"of {case.name}")


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
