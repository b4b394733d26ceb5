"""The parts that are killed: how a run is begun, who the victim is, who starts it again."""

import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from socket import socket
from typing import Any
from uuid import uuid4

import psutil

from benchmarks.kills.cohort import request_of
from benchmarks.kills.copies import Copy
from benchmarks.kills.site import BUCKET, ENDED, Site, wait_until
from unet_pipeline.local.flow_processes import flow_processes, lives
from unet_pipeline.local.s3_server import S3Server, serve_s3

Cluster = dict[str, object]


class Part:
    """A part of the system that dies; by itself, runs of the worker's deployment.

    Attributes
    ----------
    spread
        A part is killed within so many seconds after it is there.
    """

    spread = 10.0

    def __init__(self, site: Site, rng: random.Random) -> None:
        self.site, self.rng = site, rng
        self.statuses: list[int | str] = []  # exit statuses of runs by hand
        self.open()

    def open(self) -> None:
        """Start what runs need beside the server."""
        self.keeper = self.site.with_worker()

    def close(self) -> None:
        """End it."""

    def begin(self, output: str) -> None:
        """Start the next run over an output of the cohort."""
        settings = request_of(str(self.site.root / "images"), str(self.site.root / output))
        of_deployment = self._answer("/deployments/name/segment/on-demand")["id"]
        body = {"parameters": {"settings": settings}, "state": {"type": "SCHEDULED"}}
        made = self._answer(f"/deployments/{of_deployment}/create_flow_run", body)
        self.run, self.state, self.asked = made["id"], "", 0.0

    def _answer(self, path: str, body: Any = None) -> Any:
        return wait_until(lambda: self.site.ask(path, body), tick=self.tick)

    def end(self) -> str | None:
        """Return how the run that was begun last ended; None while it has not."""
        if time.monotonic() > self.asked + 1:
            found = self.site.ask(f"/flow_runs/{self.run}")
            self.asked = time.monotonic()
            if found is not None and found["state_type"] in ENDED:
                self.state = found["state_name"]
        return self.state or None

    def victim(self) -> int | None:
        """Return the process to kill, if it is there."""
        raise NotImplementedError

    def killed(self) -> None:
        """Do what whoever looks after the victim does when it has died."""

    def tick(self) -> None:
        """Look after what was killed."""
        self.site.tick()

    def said(self) -> str:
        """Return what the run that was begun last printed, if we can see it."""
        return ""

    def outputs(self) -> str:
        """Return a name of an output that is new."""
        return f"out-{uuid4().hex[:8]}"


class OfWorker(Part):
    """The process of a flow run that a Prefect worker began."""

    spread = 30.0  # half of it imports on a busy machine

    def victim(self) -> int | None:
        """Return the process of the run."""
        return flow_processes(self.site.server.home).get(self.run)


class PrefectWorker(Part):
    """The worker that begins flow runs, and looks after them."""

    def victim(self) -> int | None:
        """Return the worker, as soon as it starts."""
        worker = self.keeper.worker
        return worker.pid if worker.poll() is None else None


class PrefectServer(Part):
    """The server that knows of runs."""

    ready = False

    def victim(self) -> int | None:
        """Return the server, once it answers."""
        self.ready = self.ready or self.site.server.is_ready()
        return self.site.server.process.pid if self.ready else None

    def killed(self) -> None:
        """Wait for the next one."""
        self.ready = False


class ByHand(Part):
    """A flow as plain Python, whose process is killed."""

    spread = 8.0

    def open(self) -> None:
        """Need nothing but the server."""
        self.copy: Copy | None = None

    def settings(self, output: str) -> dict[str, object]:
        """Return the request of a run."""
        return request_of(str(self.site.root / "images"), str(self.site.root / output))

    def begin(self, output: str) -> None:
        """Start the flow."""
        request = self.site.copies.folder / f"{uuid4().hex}.json"
        request.write_text(json.dumps(self.settings(output)))
        self.copy = self.site.copies.run(
            "-m", "unet_pipeline_flows.segment", str(request), env=self.environment()
        )
        self.counted = False

    def said(self) -> str:
        """Return what the flow printed."""
        return self.copy.said if self.copy is not None else ""

    def environment(self) -> dict[str, str]:
        """Return the variables of the flow."""
        return dict(self.site.env)

    def end(self) -> str | None:
        """Return ``Completed`` for exit status 0, and the status else."""
        assert self.copy is not None
        status = self.copy.status
        if status is None:
            return None
        if not self.counted:
            self.statuses.append(status)
            self.counted = True
        return str(status) if status else "Completed"

    def victim(self) -> int | None:
        """Return the flow."""
        return self.copy.pid if self.copy is not None else None


class DaskWorker(ByHand):
    """A worker of ``--cluster local``, which its nanny starts again."""

    spread = 5.0

    def settings(self, output: str) -> dict[str, object]:
        """Return the request of a run on two workers."""
        images = str(self.site.root / "images")
        return request_of(images, str(self.site.root / output), kind="local", workers=2)

    def victim(self) -> int | None:
        """Return one of the copies of the process that has imported (``cluster/forking.py``)."""
        assert self.copy is not None
        with suppress(psutil.Error):
            for source in psutil.Process(self.copy.pid).children():
                if "forkserver" in " ".join(source.cmdline()):
                    found = sorted(one.pid for one in source.children())
                    return self.rng.choice(found) if found else None
        return None


class DaskScheduler(ByHand):
    """A scheduler that somebody else runs, and starts again at the same address."""

    spread = 10.0

    def open(self) -> None:
        """Start a scheduler and a worker."""
        super().open()
        self.folder = self.site.temporary.with_name("dask")
        self.folder.mkdir(exist_ok=True)
        with socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        self._start()

    def _start(self) -> None:
        port = self.address.rpartition(":")[2]
        self.scheduler = self._dask("scheduler", "--host", "127.0.0.1", "--port", port)
        self.worker = self._dask(
            "worker", self.address, "--nthreads", "2", "--no-nanny",
            "--local-directory", str(self.folder),
        )  # fmt: skip

    def _dask(self, kind: str, *words: str) -> Copy:
        command = ("-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *words)
        return self.site.copies.run(*command, env=self.environment())

    def close(self) -> None:
        """End both."""
        self.scheduler.end()
        self.worker.end()

    def settings(self, output: str) -> dict[str, object]:
        """Return the request of a run that waits for workers for some seconds."""
        images, there = str(self.site.root / "images"), {"kind": self.address, "wait_minutes": 0.25}
        return request_of(images, str(self.site.root / output), **there)

    def victim(self) -> int | None:
        """Return the scheduler, once its worker is there."""
        return self.scheduler.pid if "Registered to" in self.worker.said else None

    def killed(self) -> None:
        """Start it again, and a worker in the place of the one that ends with it."""
        wait_until(lambda: self.scheduler.status is not None)
        self._start()


class S3(ByHand):
    """The S3 server that images come from and label maps go to; it is away for up to 3 s."""

    spread, away = 6.0, 3.0

    def open(self) -> None:
        """Serve the cohort."""
        super().open()
        self.server, self.due = self._serve(0), 0.0

    def _serve(self, port: int) -> S3Server:
        self.stack = ExitStack()
        keys = {"key": "kills-0001", "secret": "kills-secret-0001"}
        folder: Path = self.site.root.parent
        return self.stack.enter_context(serve_s3(folder, **keys, port=port))

    def close(self) -> None:
        """Serve no longer."""
        self.stack.close()

    def settings(self, output: str) -> dict[str, object]:
        """Return the request of a run that names the bucket."""
        return request_of(f"s3://{BUCKET}/images", f"s3://{BUCKET}/{output}")

    def environment(self) -> dict[str, str]:
        """Return the variables of the flow: those of the store, too."""
        return {**super().environment(), **self.server.environment()}

    def victim(self) -> int | None:
        """Return the server, if it is there."""
        return None if self.due or not lives(self.server.pid) else self.server.pid

    def killed(self) -> None:
        """Start it again in a moment."""
        self.due = time.monotonic() + self.rng.uniform(0, self.away)

    def tick(self) -> None:
        """Start it again at its own address, when it is time."""
        super().tick()
        if self.due and time.monotonic() >= self.due:
            port = int(self.server.endpoint_url.rpartition(":")[2])
            self.stack.close()
            self.server, self.due = self._serve(port), 0.0


PARTS: dict[str, Callable[[Site, random.Random], Part]] = {
    "flow": OfWorker,
    "flow-by-hand": ByHand,
    "prefect-worker": PrefectWorker,
    "prefect-server": PrefectServer,
    "dask-worker": DaskWorker,
    "dask-scheduler": DaskScheduler,
    "s3": S3,
}
NAMES: Sequence[str] = tuple(PARTS)
