"""``view``: the cases of a run in a browser of this machine, the doubtful ones first."""

from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_urlsafe

from unet_pipeline.config import ViewSettings
from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import basename, canonical, parent
from unet_pipeline.stores import open_store
from unet_pipeline.viewing.app import Viewer
from unet_pipeline.viewing.index import MOST_BYTES, NAME, RunIndex, read_index
from unet_pipeline.viewing.server import serve

RUNS = "runs"


@dataclass(frozen=True)
class ViewRun:
    """A checked request for ``view``.

    Attributes
    ----------
    folder
        URL of the folder of the run.
    """

    settings: ViewSettings
    store: Store
    folder: str
    index: RunIndex

    @property
    def output(self) -> str:
        """URL of what the run wrote to: its folder is ``<output>/runs/<run id>``."""
        return parent(parent(self.folder))


def open_view(settings: ViewSettings) -> ViewRun:
    """Find the run, and read the list of its cases.

    Raises
    ------
    RequestError
        ``run_missing`` if there is no list; ``run_unreadable``; for storage that cannot be reached.
    """
    store = open_store(settings.storage)
    store.check_reachable(settings.run)
    folder = canonical(settings.run)
    if basename(parent(folder)) != RUNS:
        folder = _latest(store, folder)
    try:
        data = store.read_at_most(join(folder, NAME), MOST_BYTES)
    except CaseError as error:
        if error.code != "file_missing":
            raise
        raise _missing(settings.run, f"no {NAME}") from error
    return ViewRun(settings, store, folder, read_index(data, folder))


def run_view(run: ViewRun, ready: Callable[[str], None]) -> None:
    """Serve the page until a signal comes; ``ready`` is called with its address."""
    viewer = Viewer(run.store, run.output, run.folder, run.index, token_urlsafe(16))
    serve(viewer, run.settings.port, ready)


def _latest(store: Store, output: str) -> str:
    """Return the folder of the latest run of an output that has a list of cases."""
    lists = [
        url for url in store.list_files(join(output, RUNS, "*", NAME)) if basename(url) == NAME
    ]
    if not lists:
        raise _missing(output, f"no run with {NAME}")
    return parent(max(lists))


def _missing(subject: str, found: str) -> RequestError:
    return RequestError(
        "run_missing",
        subject=subject,
        found=found,
        wanted="the folder of a run of segment, or the output that it wrote to",
        remedy="Run segment, also again: what is done is skipped, and the list of cases is written",
    )
