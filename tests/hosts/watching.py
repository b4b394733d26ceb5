"""What a run over hosts comes to: which cases are done, when, and with which bytes."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from hosts import Machines

RECORD, LABELS = "_dseg.json", "_dseg.nii.gz"


def done(folder: Path) -> frozenset[str]:
    """Names of the cases whose records say so."""
    return frozenset(
        path.name.removesuffix(RECORD) for path in folder.glob(f"*{RECORD}") if _is_done(path)
    )


def _is_done(record: Path) -> bool:
    try:
        return bool(json.loads(record.read_text())["state"] == "done")
    except (ValueError, FileNotFoundError):  # it is being written
        return False


def label_maps(folder: Path) -> dict[str, bytes]:
    """Bytes of all label maps, by the names of their cases."""
    found = sorted(folder.glob(f"*{LABELS}"))
    return {path.name.removesuffix(LABELS): path.read_bytes() for path in found}


@dataclass(frozen=True)
class Seen:
    """What was seen of a run after its fault.

    Attributes
    ----------
    next_s
        Seconds until the next case was done.
    let_go_s
        Seconds until the scheduler no longer counted on the host; None if that was never seen.
    longest_s
        The longest time in which no case was done, from the fault on.
    """

    next_s: float
    let_go_s: float | None
    longest_s: float

    def row(self, fault: str, cases: int, lost: int, other: int, seconds: float) -> str:
        """Return a line of the table in docs/reliability.md."""
        let_go = "-" if self.let_go_s is None else f"{self.let_go_s:.1f}"
        numbers = f"{self.next_s:.1f} | {self.longest_s:.1f} | {let_go} | {seconds:.0f}"
        return f"| {fault} | {cases} | {lost} | {other} | {numbers} |"


def watch(machines: Machines, folder: Path, n_cases: int, host: str | None, most_s: float) -> Seen:
    """Look at a run from its fault to its last case."""
    begin = last = time.monotonic()
    before = done(folder)
    next_s = let_go_s = None
    longest_s = 0.0
    while len(before) < n_cases:
        now = time.monotonic()
        assert now - begin < most_s, f"{len(before)} of {n_cases} cases after {most_s} s"
        longest_s = max(longest_s, now - last)
        if (found := done(folder)) != before:
            before, last = found, now
            next_s = next_s or now - begin
        if host is not None and let_go_s is None and host not in machines.workers().values():
            let_go_s = now - begin
        time.sleep(0.2)
    return Seen(next_s or 0.0, let_go_s, longest_s)
