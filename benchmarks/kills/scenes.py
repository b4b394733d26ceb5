"""Runs over a cohort, how they are begun, and who is killed meanwhile."""

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from benchmarks.kills import victims
from benchmarks.kills.cohort import MODEL, request_of
from benchmarks.kills.copies import Copy
from benchmarks.kills.site import ENDED, Site, wait_until
from benchmarks.kills.victims import Place, Victim
from unet_pipeline.local.flow_processes import flow_processes


class Runs(Protocol):
    """How runs are begun, one after the other."""

    statuses: list[int]  # exit statuses, where there are some

    def begin(self, output: str) -> None:
        """Begin the next run over an output of the cohort."""

    def end(self) -> str | None:
        """Return how the one that was begun last ended; None while it has not."""

    @property
    def pid(self) -> int | None:
        """Its process."""

    @property
    def said(self) -> str:
        """What it printed, if we can see it."""


class Deployed:
    """Runs of a deployment, which a Prefect worker begins."""

    def __init__(self, site: Site, place: Place) -> None:
        self.site, self.place, self.statuses = site, place, list[int]()
        site.with_worker()

    def begin(self, output: str) -> None:
        """Ask the server for a run, as its page does."""
        settings = _request(self.site, self.place, output)
        of_deployment = self._answer("/deployments/name/segment/on-demand")["id"]
        body = {"parameters": {"settings": settings}, "state": {"type": "SCHEDULED"}}
        made = self._answer(f"/deployments/{of_deployment}/create_flow_run", body)
        self.run, self.state, self.asked = made["id"], "", 0.0

    def _answer(self, path: str, body: Any = None) -> Any:
        return wait_until(lambda: self.site.ask(path, body), tick=self.site.tick)

    def end(self) -> str | None:
        """Return the name of its state, once it has ended."""
        if time.monotonic() > self.asked + 1:
            found = self.site.ask(f"/flow_runs/{self.run}")
            self.asked = time.monotonic()
            if found is not None and found["state_type"] in ENDED:
                self.state = found["state_name"]
        return self.state or None

    @property
    def pid(self) -> int | None:
        """Return the process of the run."""
        return flow_processes(self.site.server.home).get(self.run)

    @property
    def said(self) -> str:
        """Return where to look: in the log of the worker."""
        return (self.site.server.home / "worker.log").read_text()


class ByHand:
    """Flows as plain Python."""

    copy: Copy

    def __init__(self, site: Site, place: Place) -> None:
        self.site, self.place, self.statuses = site, place, list[int]()

    def begin(self, output: str) -> None:
        """Start the flow."""
        request = self.site.copies.folder / f"{uuid4().hex}.json"
        request.write_text(json.dumps(_request(self.site, self.place, output)))
        words, env = ("-m", "unet_pipeline_flows.segment"), {**self.site.env, **self.place.env}
        self.copy, self.counted = self.site.copies.run(*words, str(request), env=env), False

    def end(self) -> str | None:
        """Return ``Completed`` for exit status 0, and the status else."""
        status = self.copy.status
        if status is None:
            return None
        if not self.counted:
            self.statuses.append(status)
            self.counted = True
        return str(status) if status else "Completed"

    @property
    def pid(self) -> int | None:
        """Return the flow."""
        return self.copy.pid

    @property
    def said(self) -> str:
        """Return what the flow printed."""
        return self.copy.said


def _request(site: Site, place: Place, output: str) -> dict[str, object]:
    return request_of(place.root, output, str(site.root / MODEL), **place.cluster)


@dataclass
class Scene:
    """Runs, and who is killed in turn."""

    site: Site
    runs: Runs
    victims: Sequence[Victim]
    kills: int = 0

    @property
    def victim(self) -> Victim:
        """Who is the next."""
        return self.victims[self.kills % len(self.victims)]

    def killed(self) -> None:
        """Let it be looked after, and turn to the next."""
        self.victim.died()
        self.kills += 1

    def tick(self) -> None:
        """Look after all."""
        self.site.tick()
        for one in self.victims:
            one.tick()

    def close(self) -> None:
        """End what victims started."""
        for one in reversed(self.victims):
            one.close()


Begun = Callable[[Site, Place], Runs]
PARTS: Mapping[str, tuple[Begun, type[Victim]]] = {
    "flow": (Deployed, victims.FlowOfWorker),
    "flow-by-hand": (ByHand, victims.FlowByHand),
    "prefect-worker": (Deployed, victims.PrefectWorker),
    "prefect-server": (Deployed, victims.PrefectServer),
    "dask-worker": (ByHand, victims.DaskWorker),
    "dask-scheduler": (ByHand, victims.DaskScheduler),
    "s3": (ByHand, victims.S3),
}


def open_scene(site: Site, rng: random.Random, *names: str) -> Scene:
    """Start what runs need whose parts are killed in turn; they are begun as the first says."""
    place, found = Place(str(site.root)), []
    for name in names:
        found.append(PARTS[name][1](site, rng))
        place = found[-1].open(place)
    return Scene(site, PARTS[names[0]][0](site, place), found)
