"""What becomes of an output while a run is disturbed: cases that are finished, and how often."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread

EVERY_SECONDS = 0.05  # a finished record lies there for longer before its case could be done again


@dataclass
class Watch:
    """Looks at the records of an output from a thread of its own.

    A record says when its computation was and what it took, so two computations of a case have
    different ones; a record that is only written again has the same bytes.

    Attributes
    ----------
    cases
        How many there are.
    finished
        Of each case: the moments (``time.monotonic``) at which a finished record was first seen,
        by the digests of the records.
    """

    output: Path
    cases: int
    finished: dict[str, dict[str, float]] = field(default_factory=dict)
    _known: dict[str, tuple[int, int]] = field(default_factory=dict)
    _over: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self._thread = Thread(target=self._look_on, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look a last time."""
        self._over.set()
        self._thread.join()
        self._look()

    def next_after(self, moment: float) -> float | None:
        """Return the seconds from a moment to the next case that was finished; None for none."""
        first = [min(times.values()) for times in [*self.finished.values()]]
        later = [one - moment for one in first if one > moment]
        return min(later, default=None)

    @property
    def twice(self) -> list[str]:
        """Cases that were computed again after their record had said that they are done."""
        return [name for name, times in self.finished.items() for _ in range(len(times) - 1)]

    def _look_on(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            self._look()

    def _look(self) -> None:
        for path in self.output.glob("*_dseg.json"):
            try:
                there = path.stat()
                if self._known.get(path.name) == (there.st_ino, there.st_mtime_ns):
                    continue
                data = path.read_bytes()
                state = json.loads(data)["state"]
            except (OSError, ValueError, KeyError):  # it is being written (by rclone), or replaced
                continue
            self._known[path.name] = there.st_ino, there.st_mtime_ns
            if state == "done":
                times = self.finished.setdefault(path.name.removesuffix("_dseg.json"), {})
                times.setdefault(sha256(data).hexdigest(), time.monotonic())


def left_behind(output: Path, temporary: Iterable[Path]) -> list[str]:
    """Return leases, signs and unfinished files of an output, and the scratch of some folders."""
    below = [*output.glob(".unet-pipeline/*/*"), *output.glob(".*.part")]
    claims = [str(path.relative_to(output)) for path in below]
    scratch = [path.name for folder in temporary for path in folder.rglob("unet-pipeline-*")]
    return claims + scratch
