"""``tidy``: old folders of runs, scratch of killed ones, old flow runs. Says what, and removes it.

Label maps and their records are results and never touched, and so is the index of finished cases.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from unet_pipeline.archive import needed_runs
from unet_pipeline.config import TidySettings
from unet_pipeline.durations import seconds_of
from unet_pipeline.local.arrivals import server_to_tell
from unet_pipeline.local.old_flow_runs import OldRun, ended_runs, remove_run
from unet_pipeline.local.prefect_api import PrefectApi
from unet_pipeline.local.up_state import DEFAULT_HOME
from unet_pipeline.scratch import find_abandoned, remove_abandoned
from unet_pipeline.storage.run_folders import RunFolder, list_run_folders
from unet_pipeline.storage.store import Store, join
from unet_pipeline.stores import open_store

Reason = Literal["newest", "younger", "needed", "not ours"]
_CASES = "cases.json"  # what ``view`` opens the latest of


@dataclass(frozen=True)
class Tidied:
    """What is removed, or would be: a folder, and how much lies in it; or a flow run."""

    kind: Literal["run", "scratch", "flow run"]
    place: str
    files: int
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class TidyRun:
    """A checked request for ``tidy``.

    Attributes
    ----------
    old
        Run folders to remove, the newest first.
    kept
        Number of run folders that stay, by the reason.
    scratch
        Folder of scratch; left in it by killed processes: ``abandoned``.
    server, flow_runs
        Prefect's server, and its old runs; None where they were not asked for.
    """

    settings: TidySettings
    store: Store
    old: tuple[RunFolder, ...]
    kept: Mapping[Reason, int]
    scratch: Path
    abandoned: tuple[Path, ...]
    server: PrefectApi | None = None
    flow_runs: tuple[OldRun, ...] = ()


@dataclass(frozen=True)
class TidySummary:
    """What was removed, or would be.

    Attributes
    ----------
    is_done
        Whether it was removed.
    kept
        Number of run folders that stay, by the reason: one of the ``newest``; ``younger``;
        ``needed``, for a table in it has cases that no later one has, or it is the latest list of
        cases; ``not ours``, for something else lies there, too.
    """

    is_done: bool
    found: tuple[Tidied, ...]
    bytes: int
    kept: Mapping[Reason, int]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def open_tidy(settings: TidySettings) -> TidyRun:
    """List run folders and scratch, and decide what is to go.

    Raises
    ------
    RequestError
        For storage that cannot be reached, and ``prefect_failed`` for such a server.
    """
    store = open_store(settings.storage)
    store.check_reachable(settings.output)
    folders = list_run_folders(store, settings.output)
    needed = needed_runs(store, join(settings.output, "runs"))
    needed |= {next((one.run_id for one in folders if _CASES in one.sizes), "")}
    before = datetime.now(UTC) - timedelta(seconds=seconds_of(settings.older_than))
    old, kept = [], Counter[Reason]()
    for place, folder in enumerate(folders):
        if (reason := _why_kept(folder, place, settings.keep, before, needed)) is None:
            old.append(folder)
        else:
            kept[reason] += 1
    scratch = Path(settings.scratch or tempfile.gettempdir())
    server, runs = None, list[OldRun]()
    if settings.flow_runs:
        server = server_to_tell(DEFAULT_HOME)
        runs = ended_runs(server, before, settings.keep)
    found = tuple(find_abandoned(scratch))
    return TidyRun(settings, store, tuple(old), kept, scratch, found, server, tuple(runs))


def run_tidy(run: TidyRun) -> Iterator[Tidied]:
    """Yield what would be removed or, where that is asked for, what is, after it is."""
    for folder in run.old:
        found = Tidied("run", folder.url, len(folder.sizes), folder.bytes)
        if run.settings.yes:
            folder.remove(run.store)
        yield found
    sizes = {path: _sizes_in(path) for path in run.abandoned}
    gone = remove_abandoned(run.scratch) if run.settings.yes else run.abandoned
    for path in gone:
        of_files = sizes.get(path, [])
        yield Tidied("scratch", str(path), len(of_files), sum(of_files))
    if run.server is None:
        return
    for one in run.flow_runs:
        if not run.settings.yes or remove_run(run.server, one):
            yield Tidied("flow run", f"{run.server.url}/runs/flow-run/{one.id}", 0, 0)


def close_tidy(run: TidyRun, found: Iterable[Tidied]) -> TidySummary:
    """Return what it came to."""
    found = tuple(found)
    total = sum(one.bytes for one in found)
    return TidySummary(run.settings.yes, found, total, dict(run.kept))


def _why_kept(
    folder: RunFolder, place: int, keep: int, before: datetime, needed: frozenset[str]
) -> Reason | None:
    if place < keep:
        return "newest"
    if folder.began >= before:
        return "younger"
    if folder.run_id in needed:
        return "needed"
    return None if folder.is_ours else "not ours"


def _sizes_in(folder: Path) -> list[int]:
    """Return the bytes of each file below a folder; another process may remove it meanwhile."""
    try:
        return [path.lstat().st_size for path in folder.rglob("*") if path.is_file()]
    except OSError:
        return []
