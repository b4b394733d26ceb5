"""The services of deploy/compose.yaml as containers of podman: a scheduler, and hosts as workers.

A host is a worker in a container of its own: its own file systems, address and memory limit. All
of it is compose.yaml's own, but for ports of this machine, and the volume that workers share.
"""

import asyncio
import copy
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from containers import COMPILED, COMPOSE, environment, podman
from distributed import Security
from distributed.core import rpc
from images import STATE

from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.tls import security_of
from unet_pipeline.storage.store import StorageOptions, Store

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
HOSTS = ("host-1", "host-2", "host-3")
SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "PREFECT_PASSWORD", "S3_ACCESS_KEY",
           "S3_SECRET_KEY")  # fmt: skip
VALUES = {name: f"{name.lower().replace('_', '')}0123456789" for name in SECRETS}
VALUES |= {"POSTGRES_IMAGE": STATE, "REDIS_IMAGE": STATE}
VALUES |= {"WORKER_CORES": "1", "WORKER_MEMORY": "3g", "PREFECT_URL": "http://localhost:4200"}
TLS = "/tls"  # where a container has the certificates


def on_hosts(certificates: Path | None = None) -> dict[str, Any]:
    """Return compose.yaml with three hosts in place of one worker, and with TLS if asked for."""
    found = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = found["services"]
    for service in services.values():
        service.pop("ports", None)
    worker = services.pop("dask-worker-cpu")
    services.pop("dask-worker-gpu")
    services["s3"].pop("profiles")
    worker.pop("profiles")
    for host in HOSTS:
        services[host] = worker | {"volumes": [f"{host}:/scratch"]}
        found["volumes"][host] = None
    for name in ("prefect-worker", *HOSTS):
        services[name] = _with_compiled(services[name])
    if certificates is not None:
        for name in ("dask-scheduler", "prefect-worker", *HOSTS):
            services[name] = _locked(services[name], certificates)
    return found


def _with_compiled(service: dict[str, Any]) -> dict[str, Any]:
    """Return a service that keeps compiled loops, or each new container would compile for a minute.

    It is all that hosts share beside the network.
    """
    mounts = [*service.get("volumes", ()), f"{COMPILED}:/compiled"]
    kept = {"UNET_PIPELINE_CACHE": "/compiled"}
    return service | {"volumes": mounts, "environment": service["environment"] | kept}


def _locked(service: dict[str, Any], certificates: Path) -> dict[str, Any]:
    """Return a service that speaks TLS, as docs/hardening.md says how."""
    changed = copy.deepcopy(service)
    mounts = [*changed.get("volumes", ()), f"{certificates}:{TLS}:ro"]
    command = [word.replace("tcp://", "tls://") for word in changed["command"]]
    if command[0] == "dask":
        command += ["--tls-ca-file", f"{TLS}/ca.pem", "--tls-cert", f"{TLS}/certificate.pem",
                    "--tls-key", f"{TLS}/key.pem"]  # fmt: skip
    if command[1] == "scheduler":
        command += ["--protocol", "tls"]
    return changed | {"command": command, "volumes": mounts}


@dataclass(frozen=True)
class Machines:
    """What runs: containers of one compose project."""

    project: str
    file: Path
    values: Path
    certificates: Path | None = None
    hosts: dict[str, str] = field(default_factory=dict)  # by the addresses that they had

    def compose(self, *words: str) -> list[str]:
        """Return a command of podman-compose."""
        of_project = ["--project-name", self.project, "--env-file", str(self.values)]
        return [str(COMPOSE), *of_project, "--file", str(self.file), *words]

    def up(self, *services: str) -> None:
        """Start services, without building anything."""
        command = self.compose("up", "--detach", "--no-build", *services)
        done = subprocess.run(
            command, env=environment(), cwd=self.file.parent, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def name(self, service: str) -> str:
        return f"{self.project}_{service}_1"

    def network(self) -> str:
        return f"{self.project}_work"

    def address(self, service: str) -> str:
        """Return the address of a service on the network of all; "" if it is cut off."""
        found = json.loads(podman("inspect", self.name(service)))[0]
        networks = found["NetworkSettings"].get("Networks") or {}
        return str(networks.get(self.network(), {}).get("IPAddress", ""))

    def volume(self, name: str) -> Path:
        """Return where this machine has a volume."""
        where = podman("volume", "inspect", f"{self.project}_{name}", "--format", "{{.Mountpoint}}")
        return Path(where)

    def status(self, service: str) -> str:
        """Return what a container does, and the status that it ended with."""
        asked_for = "{{.State.Status}} {{.State.ExitCode}}"
        return podman("inspect", self.name(service), "--format", asked_for)

    def is_healthy(self, service: str) -> bool:
        """Ask the health check that compose.yaml says."""
        command = ["podman", "healthcheck", "run", self.name(service)]
        return not subprocess.run(command, env=environment(), capture_output=True).returncode

    def store(self) -> Store:
        return Store(
            StorageOptions(
                endpoint_url=f"http://{self.address('s3')}:9000",
                key=VALUES["S3_ACCESS_KEY"], secret=VALUES["S3_SECRET_KEY"],
            )
        )  # fmt: skip

    @property
    def scheduler(self) -> str:
        """Address of the scheduler, as the hosts know it."""
        return f"{'tls' if self.certificates else 'tcp'}://dask-scheduler:8786"

    def workers(self) -> dict[str, str]:
        """Ask the scheduler for its workers: addresses, and the host of each."""
        address = self.scheduler.replace("dask-scheduler", self.address("dask-scheduler"))
        self.hosts.update({self.address(host): host for host in HOSTS})
        try:
            found = asyncio.run(asked(address, self.certificates))
        except OSError:  # it is away
            return {}
        return {one: self.hosts.get(one.split("/")[2].rpartition(":")[0], "?") for one in found}

    def wait_for_hosts(self) -> None:
        wait_until(lambda: sorted(self.workers().values()) == sorted(HOSTS), 180)

    @contextmanager
    def segmenting(self, *options: str) -> Iterator["Run"]:
        """Run `segment` beside the hosts, where Prefect's worker would run it."""
        tls = ["--tls", TLS] if self.certificates else []
        words = ["unet-pipeline", "segment", *options, "--cluster", self.scheduler, *tls,
                 "--threads", "1", "--json"]  # fmt: skip
        name = f"{self.project}_driver"
        command = self.compose("run", "--rm", "-T", "--no-deps", "--name", name, "prefect-worker")
        process = subprocess.Popen(
            [*command, *words], env=environment(), cwd=self.file.parent, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        run = Run(process, time.monotonic())
        try:
            yield run
        finally:
            podman("rm", "--force", "--ignore", name, check=False)
            process.communicate()

    def cut_off(self, host: str) -> str:
        """Take a host off the network, as if somebody had pulled its cable; return its address."""
        address = self.address(host)
        podman("network", "disconnect", self.network(), self.name(host))
        return address

    def bring_back(self, host: str, address: str) -> None:
        """Put the cable back in."""
        named = ["--alias", host, "--ip", address]
        podman("network", "connect", *named, self.network(), self.name(host))

    def down(self) -> None:
        """Remove all of it, the volumes too."""
        command = self.compose("down", "--volumes", "--timeout", "2")
        subprocess.run(command, env=environment(), capture_output=True, check=False)


@dataclass
class Run:
    """A driver."""

    process: subprocess.Popen[str]
    began: float

    def end(self, seconds: float = 300) -> str:
        """Wait until it has ended well, and return what it said."""
        said, errors = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, said[-2000:] + errors[-4000:]
        return said


async def asked(scheduler: str, certificates: Path | None) -> list[str]:
    """Ask a scheduler for the addresses of its workers."""
    security = Security()
    if certificates is not None:
        security = security_of(ClusterSpec(scheduler, tls=str(certificates)))
    async with rpc(scheduler, connection_args=security.get_connection_args("client")) as there:
        return list((await there.identity(n_workers=-1))["workers"])


def wait_until(is_so: Callable[[], Any], seconds: float) -> float:
    """Wait until something is so; return how many seconds that took."""
    begin = time.monotonic()
    while not is_so():
        assert time.monotonic() - begin < seconds, is_so
        time.sleep(0.2)
    return time.monotonic() - begin
