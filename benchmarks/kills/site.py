"""Where disturbed runs are at home: a cohort, a Prefect server and worker as ``up`` has them."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.kills.cohort import undisturbed, write_cohort
from benchmarks.kills.copies import Copies, source
from unet_pipeline.config.allowed import VARIABLE
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.up import deploy
from unet_pipeline.local import keeper as keeping
from unet_pipeline.local import prefect_server as servers
from unet_pipeline.local.keeper import Keeper
from unet_pipeline.local.prefect_server import PrefectServer, prefect_server
from unet_pipeline.local.prefect_worker import is_online, worker

BUCKET = "cohort"
AS_INSTALLED = Path(__file__).parents[2] / "tests" / "as_installed"  # without what tests bring
HASTE = {"PREFECT_WORKER_QUERY_SECONDS": "2"}  # a worker asks for runs every ten seconds else
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass
class Site:
    """What all parts share.

    Attributes
    ----------
    root
        Folder of the cohort and of outputs; a bucket of the S3 server, too.
    temporary
        Where runs have their scratch.
    env
        Of flows that are started by hand.
    wanted
        Label maps of a run that nobody disturbed, by case.
    keeper
        Starts server and worker again, as ``up`` does; a worker is there once it was asked for.
    """

    root: Path
    temporary: Path
    env: Mapping[str, str]
    wanted: Mapping[str, bytes]
    server: PrefectServer
    copies: Copies
    stack: ExitStack
    keeper: Keeper | None = None
    looked: float = 0.0
    seen: set[str] = field(default_factory=set)

    def with_worker(self) -> Keeper:
        """Start the worker and register the deployments, the first time."""
        if self.keeper is None:
            prefixes = {VARIABLE["prefix"]: str(self.root), "TMPDIR": str(self.temporary)}
            polling = self.stack.enter_context(worker(self.server, env={**HASTE, **prefixes}))
            deploy(self.server, {"UNET_PIPELINE_TIMEZONE": "Europe/Berlin"})
            wait_until(lambda: is_online(self.server))
            self.keeper = Keeper(self.server, polling, lambda _: None, time.time())
        return self.keeper

    def tick(self) -> None:
        """Look once a second after server and worker, as ``up`` does."""
        if self.keeper is not None and time.monotonic() > self.looked + 1:
            self.keeper.look()
            self.looked = time.monotonic()

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask the server; None where it is away."""
        try:
            return self.server.api(path, body)
        except (RequestError, OSError):
            return None

    def states(self) -> Counter[str]:
        """Return the names of the states of all runs that began since the last call."""
        wait_until(self.server.is_ready, tick=self.tick)
        body = {"sort": "START_TIME_DESC", "limit": 200}
        runs = [one for one in self.ask("/flow_runs/filter", body) if one["id"] not in self.seen]
        self.seen |= {one["id"] for one in runs}
        return Counter(one["state_name"] for one in runs)


@contextmanager
def open_site(folder: Path, cases: int) -> Iterator[Site]:
    """Write the cohort, segment it undisturbed, and start a Prefect server."""
    root, temporary, said = folder / BUCKET, folder / "tmp", folder / "said"
    for one in (root, temporary, said):
        one.mkdir(parents=True, exist_ok=True)
    write_cohort(root, cases)
    before = filter(None, [os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(AS_INSTALLED), *before])
    with ExitStack() as stack:
        servers.START_SECONDS = 600.0  # on a machine that has much else to do
        server = stack.enter_context(prefect_server(folder / "prefect", port=0))
        keeping.CALM_SECONDS = 0.0  # else it gives up what is killed every few seconds
        env = {**server.env, "TMPDIR": str(temporary)}
        copies = Copies(stack.enter_context(source(server.env)), said)
        stack.callback(copies.close)
        site = Site(root, temporary, env, undisturbed(root), server, copies, stack)
        site.states()  # of runs that an earlier start had in this folder
        yield site


def wait_until(
    condition: Callable[[], Any], seconds: float = 300, tick: Callable[[], None] = lambda: None
) -> Any:
    """Return what a condition returns, once that is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain for {seconds:g} s")
        tick()
        time.sleep(0.1)
    return value
