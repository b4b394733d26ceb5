"""A local Prefect server with a worker and the deployments: ``unet-pipeline up``."""

import logging
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from unet_pipeline.config import COMMANDS, SegmentSettings
from unet_pipeline.config.allowed import VARIABLE
from unet_pipeline.config.form import grouped
from unet_pipeline.local.arrivals import server_to_tell, start_on_arrival, tell
from unet_pipeline.local.keeper import Keeper
from unet_pipeline.local.notifications import Notify, register
from unet_pipeline.local.password import Password
from unet_pipeline.local.prefect_server import (
    PrefectServer,
    database_of_environment,
    deployment_file,
    prefect_server,
)
from unet_pipeline.local.prefect_worker import POOL, is_online, worker
from unet_pipeline.local.processes import Lasting
from unet_pipeline.local.up_state import DEFAULT_HOME, Part, UpStatus, is_in_use, read_status
from unet_pipeline.storage.links import Links

log = logging.getLogger(__name__)

NIGHTLY = "/deployments/name/segment/nightly"
OLD_ENTRYPOINTS = {  # of deployments as they were registered before flows had their jobs' names
    f"flows.{name}.{name}"
    for name in (
        "segment_cohort", "check_alignment", "train_model",
        "select_depth", "compare_bundles", "inspect_layers",
    )
}  # fmt: skip
NO_COHORT = {  # what the run form shows until a cohort is named
    "UNET_PIPELINE_IMAGES": "s3://scans/incoming",
    "UNET_PIPELINE_MODEL": "hippocampus",
    "UNET_PIPELINE_OUTPUT": "s3://results/segmentations",
    "UNET_PIPELINE_CLUSTER": "local",
    "UNET_PIPELINE_SITE": "",
    "UNET_PIPELINE_SCRATCH": "",
}


def deploy(server: PrefectServer, cohort: Mapping[str, str] | None = None) -> None:
    """Register the deployments of ``prefect.yaml``.

    The schedule of ``nightly`` is on if a cohort is named, and else off. A ``nightly`` that is
    registered already stays as it is, with what was changed on its page, unless a cohort is named.
    Deployments of the flows' old names go; what was set for the old ``nightly`` is kept.

    Parameters
    ----------
    cohort
        Values of ``UNET_PIPELINE_IMAGES``, ``_MODEL``, ``_OUTPUT``, ``_TIMEZONE``, ``_CLUSTER``,
        ``_SITE`` and ``_SCRATCH``. Those that are missing are taken from the environment, or are
        examples.
    """
    defaults = {**NO_COHORT, "UNET_PIPELINE_TIMEZONE": local_time_zone()}
    given = {name: os.environ[name] for name in defaults if name in os.environ} | {**(cohort or {})}
    given["UNET_PIPELINE_POOL"] = POOL  # that of its own worker
    named = {"UNET_PIPELINE_IMAGES", "UNET_PIPELINE_OUTPUT"} <= given.keys()
    keep = not named and server.api(NIGHTLY) is not None
    wanted = ["on-demand"] if keep else ["on-demand", "nightly"]
    env = {**defaults, **given, "UNET_PIPELINE_NIGHTLY": str(named).lower()}
    names = [option for name in wanted for option in ("--name", name)]
    file = str(deployment_file("prefect.yaml"))
    server.prefect("--no-prompt", "deploy", *names, "--prefect-file", file, env=env)
    log.info("registered %s from %s", " and ".join(wanted), file)
    _fold(server, wanted)
    for old in server.api("/deployments/filter", {}):
        if old["entrypoint"] in OLD_ENTRYPOINTS:
            if old["name"] == "nightly" and not keep and not named:
                _inherit(server, old)
            server.api(f"/deployments/{old['id']}", method="DELETE")


def _fold(server: PrefectServer, names: Sequence[str]) -> None:
    """Let the forms of deployments be filled with what is said, and not with what is as usual."""
    flows = {one["id"]: one["name"] for one in server.api("/flows/filter", {})}
    for one in server.api("/deployments/filter", {"deployments": {"name": {"any_": [*names]}}}):
        kind = COMMANDS.get(flows[one["flow_id"]])
        if kind is not None and one["entrypoint"].startswith("unet_pipeline_flows."):
            shown = {"settings": grouped(kind, one["parameters"]["settings"])}
            server.api(f"/deployments/{one['id']}", {"parameters": shown}, method="PATCH")


def _inherit(server: PrefectServer, old: Mapping[str, Any]) -> None:
    """Give the nightly deployment what was set on the page of an older one."""
    schedules = [{key: one[key] for key in ("schedule", "active")} for one in old["schedules"]]
    settings = grouped(SegmentSettings, old["parameters"]["settings"])
    kept = {"parameters": {"settings": settings}, "schedules": schedules}
    server.api(f"/deployments/{server.api(NIGHTLY)['id']}", kept, method="PATCH")


def run_up(
    home: Path | None = None,
    port: int | None = None,
    allow: Mapping[str, Sequence[str]] | None = None,
    notify: Notify | None = None,
    variables: Mapping[str, str] | None = None,
    on_arrival: float | None = None,
) -> int:
    """Run server, worker and deployments until Ctrl-C or SIGTERM; return the exit status.

    A server or a worker that dies is started again, and runs in progress go on meanwhile.

    Parameters
    ----------
    allow
        What runs may name beside what the environment allows, by kind (``config/allowed.py``).
    notify
        Who is told of what; None for nobody.
    variables
        Of its runs: how a browser reaches outputs (``storage/links.py``), where metrics go
        (``watching/places.py``).
    on_arrival
        Seconds after the last word of scans at a place (``arrived``) at which a run begins there;
        None for no such runs.

    Raises
    ------
    RequestError
        For variables of links that say nothing.
    """
    from rich.text import Text

    from unet_pipeline.console import err, out

    place, begin = home or DEFAULT_HOME, time.time()
    Links.from_environment({**os.environ, **(variables or {})})
    with ExitStack() as stack:
        stack.enter_context(ends_on_sigterm())
        with err.status("Starting the Prefect server"):
            server = stack.enter_context(prefect_server(place, port, database_of_environment()))
        with err.status("Registering the deployments"):
            told = {} if notify is None else notify.environment
            env = {**allowing(allow or {}), **(variables or {}), **told}
            polling = stack.enter_context(worker(server, env=env))
            deploy(server)
            if notify is not None:
                register(server, notify)
            start_on_arrival(server, on_arrival)
            _wait_for(polling, server)
        keeper = Keeper(server, polling, _say, begin)
        out.print(f"Prefect page      {server.url}")
        out.print(Text(f"Password          {_said(server.password)}"), soft_wrap=True)
        out.print(f"Deployments       {server.url}/deployments")
        out.print("Run a cohort      segment/on-demand > Run, and fill in images, model and output")
        out.print("Check a cohort    check/on-demand > Run, and fill in images and masks")
        out.print("Train a network   train/on-demand > Run, and fill in images, masks and output")
        out.print("Choose a depth    depths/on-demand > Run; compare/on-demand compares bundles")
        out.print("Look inside       layers/on-demand > Run, and fill in images, masks and model")
        out.print("Run every night   segment/nightly > Edit it, then switch its schedule on")
        out.print(f"Logs              {place}")
        out.print("Ctrl-C stops the server and the worker; what they know stays.")
        try:
            while True:
                keeper.look()
                time.sleep(1)
        except KeyboardInterrupt:
            out.print("Stopping")
            return 0


def run_arrived(images: str, home: Path | None = None) -> None:
    """Say to a server that scans have arrived at a place, as ``up --on-arrival`` listens for.

    Raises
    ------
    RequestError
        ``prefect_failed``.
    """
    tell(server_to_tell(home or DEFAULT_HOME), images)


def _wait_for(polling: Lasting, server: PrefectServer) -> None:
    """Wait until the worker takes runs."""
    while not is_online(server) and polling.poll() is None:
        time.sleep(0.2)


def _say(what: str) -> None:
    from unet_pipeline.console import out

    out.print(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {what}", soft_wrap=True, highlight=False)


def print_status(home: Path | None = None) -> int:
    """Print what ``up`` keeps running, as it wrote it down; return 0 if it serves, or else 1."""
    from rich.text import Text

    from unet_pipeline.console import out

    place = home or DEFAULT_HOME
    status = read_status(place.resolve())
    if status is None:
        what = "A server is being started in" if is_in_use(place) else "Nothing runs in"
        out.print(Text(f"{what} {place}"), soft_wrap=True)
        return 1
    for line in _status_lines(status):
        out.print(Text(line), soft_wrap=True)
    return 0 if status.serves else 1


def _status_lines(status: UpStatus) -> Iterator[str]:
    yield f"Prefect page      {status.url}"
    for name, part in (("up", status.up), ("server", status.server), ("worker", status.worker)):
        yield f"{name:<18}{_said_of(part)}"
    if status.runs is None:
        yield "Runs in progress  the server does not say"
        return
    yield f"Runs in progress  {len(status.runs)}"
    for run in status.runs:
        since = f" since {run.since}" if run.since else ""
        pid = f", process {run.pid}" if run.pid else ""
        yield f"  {run.name}: {run.state}{since}{pid}"


def _said_of(part: Part) -> str:
    since = datetime.fromtimestamp(part.since)
    again = f", started {part.starts} times" if part.starts > 1 else ""
    said = f"process {part.pid} since {since:%Y-%m-%d %H:%M:%S}{again}"
    return said if part.lives else f"{said}: ended, about to be started again"


def allowing(more: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the variables that tell a worker what its runs may name.

    Without a word on prefixes these are all buckets that the keys reach, the user's home folder and
    the folder that ``up`` was started in: who has the password has come from there.
    """
    said = {kind: os.environ.get(name, "") for kind, name in VARIABLE.items()}
    if not said["prefix"]:
        said["prefix"] = ",".join(["s3://", str(Path.home()), str(Path.cwd())])
    return {
        VARIABLE[kind]: ",".join(filter(None, [before, *more.get(kind, ())]))
        for kind, before in said.items()
    }


def _said(password: Password) -> str:
    """Return the password if nobody has seen it yet, or else where it is."""
    if password.made:
        return f"{password.text}   (the page asks once for all of it; kept in {password.file})"
    return "that of PREFECT_SERVER_API_AUTH_STRING" if password.file is None else (
        f"the one that was made at the first start: cat {password.file}"
    )  # fmt: skip


@contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that what was started is stopped."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def local_time_zone() -> str:
    """Return the name of this machine's time zone, e.g. ``Europe/Berlin``; UTC if unknown."""
    try:
        target = os.readlink("/etc/localtime")  # noqa: PTH115  the link itself, unresolved
    except OSError:
        return "UTC"
    _, _, name = target.partition("zoneinfo/")
    return {"": "UTC", "Etc/UTC": "UTC"}.get(name, name)
