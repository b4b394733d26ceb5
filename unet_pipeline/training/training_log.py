"""What a training leaves to look at while it runs: curves, numbers, TensorBoard events.

::

    <output>/training/curves.png                           loss and Dice
    <output>/training/history.json                         the same in numbers
    <output>/training/events.out.tfevents.<step>           for TensorBoard
    <output>/training/checkpoint.pt                        until the bundle is written
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unet_pipeline.records import json_bytes
from unet_pipeline.report.curves import training_curves_png
from unet_pipeline.report.tensorboard import Scalars, event_file
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.outage import with_retries
from unet_pipeline.storage.store import Store, basename, join
from unet_pipeline.training.checkpoint import FOLDER
from unet_pipeline.training.history import History

CURVES, HISTORY = "curves.png", "history.json"
_EVENTS = "events.out.tfevents."


@dataclass
class TrainingLog:
    """Writes what was seen of a training, as often as it is told.

    Attributes
    ----------
    names
        Name of each label.
    """

    store: Store
    output: str
    names: Mapping[int, str]
    _written: int | None = None  # steps whose events are stored; None before the first call

    @property
    def curves_url(self) -> str:
        """The picture."""
        return join(self.output, FOLDER, CURVES)

    def write(self, history: History) -> None:
        """Store picture and numbers, and the events since the last time.

        The first call is that of a training that begins, or goes on from a checkpoint, whose events
        are stored already. Each further call adds a file of events: stores cannot append, and
        TensorBoard reads one file after the other.
        """
        done, before = len(history.losses), self._written
        self._written = done
        if not done:
            return self.remove()  # of a training before this one
        folder = join(self.output, FOLDER)
        files = {
            CURVES: curves_of(history, self.names),
            HISTORY: json_bytes(history.as_dict()),
        }
        if before is not None and before < done:
            files[f"{_EVENTS}{done:010d}"] = event_file(self._events(history, before))
        with_retries(lambda: OwnFiles(self.store, folder).write(files))
        return None

    def remove(self) -> None:
        """Remove all of it that is ours."""
        folder = join(self.output, FOLDER)
        names = (basename(url) for url in self.store.list_files(folder))
        OwnFiles(self.store, folder).remove(
            [name for name in names if name.startswith((_EVENTS, CURVES, HISTORY))]
        )

    def _events(self, history: History, before: int) -> Iterator[Scalars]:
        now = time.time()
        dice = {one.step: one for one in history.validations}
        for step in range(before + 1, len(history.losses) + 1):
            values = {"loss": history.losses[step - 1], "learning_rate": history.rates[step - 1]}
            if step in dice:
                found = dice[step].dice.items()
                values |= {f"dice/{self.names[k]}": v for k, v in found if v is not None}
                values["dice/mean"] = dice[step].mean
            yield Scalars(step, now, values)


def curves_of(history: History, names: Mapping[int, str]) -> bytes:
    """Draw a history as a PNG."""
    dice = [(one.step, one.dice) for one in history.validations]
    best = history.best
    return training_curves_png(history.losses, dice, names, best.step if best else None)
