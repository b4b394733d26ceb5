"""Which pictures there are, and what makes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pictures import browser, faults, plots, runs, workers

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"


@dataclass(frozen=True)
class Group:
    """Pictures that are made together.

    Attributes
    ----------
    make
        Takes an empty folder to work in, and returns the files by name.
    """

    make: Callable[[Path], Mapping[str, bytes]]
    files: tuple[str, ...]


GROUPS = {
    "segment": Group(runs.segment, ("case.png", "report.png", "terminal.svg")),
    "view": Group(runs.view, ("doubts.png", "review.png", "view.png")),
    "form": Group(browser.form, ("form.png",)),
    "pages": Group(browser.pages, ("run-progress.png", "run-artifacts.png", "run-cancel.png")),
    "check": Group(faults.check, ("faults.png",)),
    "layers": Group(runs.layers, ("network.svg", "features.png")),
    "depths": Group(runs.depths, ("depths.png",)),
    "speed": Group(plots.speed, ("speed.svg",)),
    "cost": Group(plots.cost, ("cost.svg",)),
    "timeline": Group(workers.timeline, ("timeline.svg",)),
}
