"""Run a case: all contenders in turn, as often as asked, then hold their label maps together."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.agreement import Agreement, compare
from benchmarks.speed.cases import Case, Files, write_files
from benchmarks.speed.contenders import Contender, Equipment, command_of
from benchmarks.speed.measure import Measurement, run_measured


@dataclass(frozen=True)
class Measured:
    """A contender and what it took each time."""

    contender: Contender
    times: tuple[Measurement, ...]
    agreements: tuple[Agreement, ...] = ()

    @property
    def failure(self) -> str:
        """Why some run of it failed, or empty."""
        return next((one.failure for one in self.times if one.failure), "")

    @property
    def label_map(self) -> Path | None:
        """The last label map, if there is one."""
        last = self.times[-1].found
        return None if self.failure else Path(last["label_map"])


def run_case(
    case: Case,
    contenders: Sequence[Contender],
    equipment: Equipment,
    folder: Path,
    *,
    repeats: int,
    limit_seconds: float,
    say: Callable[[str], None],
) -> list[Measured]:
    """Measure all contenders alternately, so that a busy minute of the machine hits all.

    A contender that failed once is not run again.
    """
    files = write_files(case, folder / case.name)
    runner = _Runner(files, equipment, folder / case.name, limit_seconds)
    for contender in contenders:
        if contender.engine not in ("", "eager") and contender.cluster == "local":
            runner.run(contender, prepare=True)  # the choice of an engine is made once a machine
    times: dict[Contender, list[Measurement]] = {contender: [] for contender in contenders}
    for repeat in range(repeats):
        for contender, before in times.items():
            if any(one.failure for one in before):
                continue
            before.append(runner.run(contender))
            say(_line(case, contender, repeat, before[-1]))
    measured = [Measured(contender, tuple(found)) for contender, found in times.items()]
    return measured if case.is_cohort else [*_with_agreements(measured, runner)]


@dataclass(frozen=True)
class _Runner:
    files: Files
    equipment: Equipment
    folder: Path
    limit_seconds: float

    def run(self, contender: Contender, **more: Any) -> Measurement:
        """Run a contender; what it wrote the last time is removed."""
        output = self.folder / "-".join((contender.slug, *more))
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        return run_measured(
            command_of(contender, self.files, self.equipment, output, **more),
            environment={
                **self.equipment.environment,
                "UNET_PIPELINE_CACHE": str(self.folder / "cache"),
            },
            log=output.with_suffix(".log"),
            limit_seconds=self.limit_seconds,
        )

    def margins(self, peer: Contender) -> "np.ndarray[Any, Any] | None":
        """Run a peer once more, unmeasured, for the margins of its scores; None if it fails."""
        path = self.folder / f"{peer.slug}.npy"
        failure = self.run(peer, margins=str(path)).failure
        return None if failure else np.load(path, mmap_mode="r")


def _line(case: Case, contender: Contender, repeat: int, one: Measurement) -> str:
    said = one.failure or f"{one.found['work_seconds']:.1f} s of {one.wall_seconds:.1f} s"
    memory = f"{one.peak_bytes / 1e9:.2f} GB"
    return f"{case.name}  {repeat + 1}  {contender.model:7} {contender.name:22} {said}  {memory}"


def _with_agreements(measured: Sequence[Measured], runner: _Runner) -> Iterator[Measured]:
    """Hold each label map of ours against the peer's, and against that of our first row."""
    for model in dict.fromkeys(one.contender.model for one in measured):
        rows = [one for one in measured if one.contender.model == model]
        peer = next((one for one in rows if one.contender.kind != "ours"), None)
        references = {"peer": peer and peer.label_map, "first row": rows[0].label_map}
        margins_XYZ = None
        if peer is not None and peer.label_map and _any_differs(rows):
            margins_XYZ = runner.margins(peer.contender)
        for one in rows:
            found = tuple(
                compare(one.label_map, label_map, reference, margins_XYZ)
                for reference, label_map in references.items()
                if one is not peer and one.label_map and label_map not in (None, one.label_map)
            )
            yield Measured(one.contender, one.times, found)


def _any_differs(rows: Sequence[Measured]) -> bool:
    first, *others = (one.label_map for one in rows if one.label_map)
    return any(compare(other, first, "", None).differing > 0 for other in others)
