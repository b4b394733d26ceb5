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
        Of each case, by the digests of its finished records: when the computation began that the
        record is of, and when the record was first seen (``time.monotonic``).
    """

    output: Path
    cases: int
    finished: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
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
        first = [min(seen for _, seen in of.values()) for of in [*self.finished.values()]]
        later = [one - moment for one in first if one > moment]
        return min(later, default=None)

    @property
    def twice(self) -> list[str]:
        """Cases whose computation began again after their record had said that they are done."""
        found = []
        for name, of in self.finished.items():
            first = min(seen for _, seen in of.values())
            found += [name for began, _ in of.values() if began > first]
        return found

    @property
    def beside(self) -> list[str]:
        """Cases that were begun again while their first computation, cut off, came to its end."""
        again = [name for name, of in self.finished.items() for _ in range(len(of) - 1)]
        for name in self.twice:
            again.remove(name)
        return again

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
                said = json.loads(data)
            except (OSError, ValueError):  # it is being written (by rclone), or replaced
                continue
            self._known[path.name] = there.st_ino, there.st_mtime_ns
            if said.get("state") == "done":
                of = self.finished.setdefault(path.name.removesuffix("_dseg.json"), {})
                now = time.monotonic()
                of.setdefault(sha256(data).hexdigest(), (now - said["seconds"]["total"], now))


def left_behind(output: Path, temporary: Iterable[Path]) -> list[str]:
    """Return leases, signs and unfinished files of an output, and the scratch of some folders."""
    below = [*output.glob(".unet-pipeline/*/*"), *output.glob(".*.part")]
    claims = [str(path.relative_to(output)) for path in below]
    scratch = [path.name for folder in temporary for path in folder.rglob("unet-pipeline-*")]
    return claims + scratch
