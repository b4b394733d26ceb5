"""A round: runs over one output until all cases are done, and a part that is killed meanwhile."""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.kills.cohort import label_maps
from benchmarks.kills.scenes import Scene
from benchmarks.kills.site import wait_until
from benchmarks.kills.watch import Watch, left_behind

STUCK_SECONDS = 900.0  # without a finished case, or an end
SETTLE_SECONDS = 10.0  # in which workers of others remove their scratch
PAUSE_SECONDS = 0.05
MOST_IN_VAIN = 3  # kills in a row between which no case is finished
MOST_UNEXPLAINED = 3  # runs in a row that end badly where nothing was killed


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes
    ----------
    moment
        Seconds since the victim was there.
    done
        Cases that were finished then.
    seconds
        Until the next case was finished; None if none was left.
    """

    moment: float
    done: int
    seconds: float | None


@dataclass
class Round:
    """What a round came to.

    Attributes
    ----------
    lost, different
        Cases without a label map at the end, and with other bytes than of an undisturbed run.
    twice
        Cases that were computed again after they had been done.
    beside
        Cases that were begun again while the computation that a kill cut off came to its end.
    left
        Leases, signs and scratch at the end.
    states, statuses
        How the runs ended: states in Prefect, and exit statuses of those by hand, with how many.
    """

    kills: list[Kill] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    cases: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return asdict(self)


def play(scene: Scene, rng: random.Random, most: int) -> Round:
    """Run over the cohort until all is done, and kill a part up to ``most`` times."""
    before = set(left_behind(Path(), [scene.site.temporary]))
    output, begin = f"out-{uuid4().hex[:8]}", time.monotonic()
    watch = Watch(scene.site.root / output, len(scene.site.wanted))
    try:
        moments = _disturb(scene, rng, most, output, watch)
    finally:
        watch.close()
    folder, site = scene.site.root / output, scene.site
    maps, wanted = label_maps(folder), site.wanted
    kills = [Kill(round(at, 2), done, watch.next_after(when)) for at, when, done in moments]
    with suppress(TimeoutError):
        wait_until(lambda: before >= {*left_behind(folder, [site.temporary])}, SETTLE_SECONDS)
    return Round(
        kills=kills,
        lost=sorted(wanted.keys() - maps.keys()),
        different=sorted(name for name in maps if maps[name] != wanted.get(name)),
        twice=watch.twice,
        beside=watch.beside,
        left=sorted({*left_behind(folder, [site.temporary])} - before),
        states=dict(site.states()),
        statuses=_counted(scene),
        cases=len(wanted),
        seconds=round(time.monotonic() - begin, 1),
    )


def _counted(scene: Scene) -> dict[str, int]:
    found = scene.runs.statuses
    return {str(one): found.count(one) for one in sorted(set(found), key=str)}


def _disturb(
    scene: Scene, rng: random.Random, most: int, output: str, watch: Watch
) -> list[tuple[float, float, int]]:
    """Return of each kill: seconds since the victim was there, the moment, cases done."""
    kills: list[tuple[float, float, int]] = []
    wait, since, due, counted, unexplained = _patience(watch), 0.0, 0.0, 0, 0
    scene.runs.begin(output)
    while True:
        wait()
        scene.tick()
        if (end := scene.runs.end()) is not None:
            if end == "Completed" and len(watch.finished) == len(scene.site.wanted):
                return kills
            unexplained = 0 if len(kills) > counted else unexplained + 1
            if unexplained > MOST_UNEXPLAINED:
                raise RuntimeError(
                    f"a run ended with {end}, and nothing was killed\n{scene.runs.said}"
                )
            counted, due = len(kills), 0.0
            scene.runs.begin(output)
        elif _may_kill(kills, most, watch) and (pid := scene.victim.pid(scene.runs.pid)):
            now = time.monotonic()
            if not due:
                since, due = now, now + rng.uniform(0, scene.victim.spread)
            elif now >= due:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills.append((now - since, time.monotonic(), len(watch.finished)))
                scene.killed()
                due = 0.0
        else:
            due = 0.0


def _may_kill(kills: Sequence[tuple[float, float, int]], most: int, watch: Watch) -> bool:
    """Say whether to kill on: a run that is never let come to a case never comes to its end."""
    last = kills[-MOST_IN_VAIN:]
    in_vain = len(last) == MOST_IN_VAIN and last[0][2] == len(watch.finished) < watch.cases
    return len(kills) < most and not in_vain


def _patience(watch: Watch) -> Callable[[], None]:
    """Return what pauses for a moment, and fails where nothing goes on."""
    state = {"done": 0, "since": time.monotonic()}

    def wait() -> None:
        time.sleep(PAUSE_SECONDS)
        if len(watch.finished) != state["done"]:
            state.update(done=len(watch.finished), since=time.monotonic())
        elif time.monotonic() - state["since"] > STUCK_SECONDS:
            raise TimeoutError(f"nothing went on for {STUCK_SECONDS:g} s: {watch.output}")

    return wait
