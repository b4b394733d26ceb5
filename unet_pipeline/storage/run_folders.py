"""Folders of runs below an output: which there are, when each began, and what lies in it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from unet_pipeline.storage.local import is_part
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import canonical, relative_to

_RUN_ID = re.compile(r"(\d{8}T\d{6})Z-[0-9a-f]{4,8}")
_MARKS = frozenset({"run.json", "check.json", "statistics.json", "differences.json"})
_WRITTEN = _MARKS | {
    "report.html", "cases.csv", "cases.json", "cost.json", "methods.txt", "archive.json",
    "review.csv", "statistics.csv", "statistics.parquet", "statistics.html", "check.html",
    "check.csv",
    "differences.html", "differences.csv",
}  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """A folder of a run.

    Attributes
    ----------
    sizes
        Bytes of each file, by its name below the folder.
    """

    run_id: str
    url: str
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def began(self) -> datetime:
        """When the run began, as its name says: times of files do not survive a copy."""
        return datetime.strptime(self.run_id.partition("Z")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)

    @property
    def is_ours(self) -> bool:
        """Whether all that lies there is the report of a run, and nothing else."""
        names = {name for name in self.sizes if not is_part(name)}
        return names <= _WRITTEN and not names.isdisjoint(_MARKS)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())

    def remove(self, store: Store) -> None:
        """Remove what lies there; what says that it is ours goes last, should that be cut short."""
        for name in sorted(self.sizes, key=lambda one: (one in _MARKS, one)):
            store.remove(join(self.url, name))
        store.prune(self.url)


def list_run_folders(store: Store, output: str) -> list[RunFolder]:
    """Return the folders of ``<output>/runs`` that are named like runs, the newest first.

    A link to a folder elsewhere is none.
    """
    runs = canonical(join(output, "runs"))
    sizes: dict[str, dict[str, int]] = {}
    for url, version in store.versions_below(runs, lambda _: True).items():
        run_id, _, name = relative_to(url, runs).partition("/")
        if name and _is_run_id(run_id):
            sizes.setdefault(run_id, {})[name] = version.size
    newest_first = sorted(sizes, reverse=True)
    return [RunFolder(run_id, join(runs, run_id), sizes[run_id]) for run_id in newest_first]


def _is_run_id(name: str) -> bool:
    try:
        return bool(_RUN_ID.fullmatch(name) and RunFolder(name, "").began)
    except ValueError:  # no such day
        return False
