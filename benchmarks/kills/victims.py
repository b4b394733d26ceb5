"""What is killed: which process it is, and what whoever looks after it does then."""

import random
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from socket import socket
from tempfile import mkdtemp

import psutil

from benchmarks.kills.copies import Copy
from benchmarks.kills.site import BUCKET, Site, wait_until
from unet_pipeline.local.flow_processes import lives
from unet_pipeline.local.s3_server import S3Server, serve_s3


@dataclass(frozen=True)
class Place:
    """Where runs read, write and compute.

    Attributes
    ----------
    root
        URL of the folder of the cohort.
    """

    root: str
    cluster: Mapping[str, object] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


class Victim:
    """A process that is killed; by itself, that of a flow run.

    Attributes
    ----------
    spread
        It is killed within so many seconds after it is there.
    """

    spread = 10.0

    def __init__(self, site: Site, rng: random.Random) -> None:
        self.site, self.rng = site, rng

    def open(self, place: Place) -> Place:
        """Start what runs need; return where they work then."""
        return place

    def pid(self, flow: int | None) -> int | None:
        """Return the process to kill, if it is there; that of the run is known."""
        return flow

    def died(self) -> None:
        """Do what whoever looks after it does when it has died."""

    def tick(self) -> None:
        """Do what is done again and again."""

    def close(self) -> None:
        """End what was started."""


class FlowOfWorker(Victim):
    """The process of a flow run that a Prefect worker began."""

    spread = 30.0  # half of it imports on a busy machine


class FlowByHand(Victim):
    """The process of a flow that was started by hand."""

    spread = 8.0


class PrefectWorker(Victim):
    """The worker that begins flow runs, and looks after them."""

    def pid(self, flow: int | None) -> int | None:
        """Return the worker, as soon as it starts."""
        worker = self.site.with_worker().worker
        return worker.pid if worker.poll() is None else None


class PrefectServer(Victim):
    """The server that knows of runs."""

    ready = False

    def pid(self, flow: int | None) -> int | None:
        """Return the server, once it answers."""
        self.ready = self.ready or self.site.server.is_ready()
        return self.site.server.process.pid if self.ready else None

    def died(self) -> None:
        """Wait for the next one."""
        self.ready = False


class DaskWorker(Victim):
    """A worker of ``--cluster local``, which its nanny starts again."""

    spread = 5.0

    def open(self, place: Place) -> Place:
        """Have two of them."""
        return replace(place, cluster={"kind": "local", "workers": 2})

    def pid(self, flow: int | None) -> int | None:
        """Return one of the copies of the process that has imported (``cluster/forking.py``)."""
        with suppress(psutil.Error):
            for source in psutil.Process(flow).children() if flow else ():
                if "forkserver" in " ".join(source.cmdline()):
                    found = sorted(one.pid for one in source.children())
                    return self.rng.choice(found) if found else None
        return None


class DaskScheduler(Victim):
    """A scheduler that somebody else runs, and starts again at the same address."""

    def open(self, place: Place) -> Place:
        """Start it, and a worker; runs wait for both for some seconds."""
        self.env = {**self.site.env, **place.env}
        self.folder = mkdtemp(prefix="dask-", dir=self.site.temporary)
        with socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        self._start()
        return replace(place, cluster={"kind": self.address, "wait_minutes": 0.25})

    def died(self) -> None:
        """Start it again, and a worker in the place of the one that ends with it."""
        wait_until(lambda: self.scheduler.status is not None)
        self._start()

    def _start(self) -> None:
        port = self.address.rpartition(":")[2]
        self.scheduler = self._dask("scheduler", "--host", "127.0.0.1", "--port", port)
        self.worker = self._dask(
            "worker", self.address, "--nthreads", "2", "--no-nanny",
            "--local-directory", self.folder,
        )  # fmt: skip

    def _dask(self, kind: str, *words: str) -> Copy:
        command = ("-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *words)
        return self.site.copies.run(*command, env=self.env)

    def pid(self, flow: int | None) -> int | None:
        """Return the scheduler, once its worker is there."""
        return self.scheduler.pid if "Registered to" in self.worker.said else None

    def close(self) -> None:
        """End both."""
        self.worker.end(gently=True)
        self.scheduler.end(gently=True)


class S3(Victim):
    """The S3 server that images come from and label maps go to; it is away for up to 3 s."""

    spread, away = 6.0, 3.0

    def open(self, place: Place) -> Place:
        """Serve the cohort."""
        self.server, self.due = self._serve(0), 0.0
        return replace(place, root=f"s3://{BUCKET}", env=self.server.environment())

    def _serve(self, port: int) -> S3Server:
        self.stack = ExitStack()
        keys = {"key": "kills-0001", "secret": "kills-secret-0001"}
        return self.stack.enter_context(serve_s3(self.site.root.parent, **keys, port=port))

    def pid(self, flow: int | None) -> int | None:
        """Return the server, if it is there."""
        return None if self.due or not lives(self.server.pid) else self.server.pid

    def died(self) -> None:
        """Start it again in a moment."""
        self.due = time.monotonic() + self.rng.uniform(0, self.away)

    def tick(self) -> None:
        """Start it again at its own address, when it is time."""
        if self.due and time.monotonic() >= self.due:
            port = int(self.server.endpoint_url.rpartition(":")[2])
            self.stack.close()
            self.server, self.due = self._serve(port), 0.0

    def close(self) -> None:
        """Serve no longer."""
        self.stack.close()
