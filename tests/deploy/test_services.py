"""Every service of compose.yaml, by its own command, variables and health check, without Docker.

Names of services become this machine's address, ports free ones, and volumes folders.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cohorts import small_cohort
from deploy_files import DEPLOY, compose, dotenv, image_environment, interpolated, site
from distributed import Client

from unet_pipeline.cluster.places.kubernetes import KubernetesSite, cluster_manifest
from unet_pipeline.errors import RequestError
from unet_pipeline.local import processes
from unet_pipeline.storage.store import StorageOptions, Store

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
POSTGRES_BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
REDIS = shutil.which("redis-server")
HOSTS = ("prefect-server", "dask-scheduler", "postgres", "redis", "s3")
PORTS = (4200, 5432, 6379, 8080, 8786, 8787, 8788, 9000, 9001)
SECRET = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "PREFECT_PASSWORD", "S3_ACCESS_KEY",
          "S3_SECRET_KEY"}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Machine:
    """This machine, in place of the containers of compose.yaml."""

    home: Path
    values: dict[str, str]
    ports: dict[int, int] = field(default_factory=lambda: {port: free_port() for port in PORTS})

    def here(self, value: Any) -> Any:
        """A value of compose.yaml, said of this machine."""
        if isinstance(value, dict):
            return {key: self.here(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self.here(part) for part in value]
        text = str(value)
        for port, free in self.ports.items():
            text = text.replace(str(port), str(free))
        for name in HOSTS:
            text = text.replace(f"://{name}:", "://127.0.0.1:").replace(f"@{name}:", "@127.0.0.1:")
        for folder in ("/data", "/scratch"):
            text = text.replace(f"dir {folder}", f"dir {self.home}{folder}")
            text = f"{self.home}{folder}" if text == folder else text
        return text.replace("/tmp/redis.conf", f"{self.home}/redis.conf")

    def environment(self, service: dict[str, Any]) -> dict[str, str]:
        """Variables of the image and of a service, and nothing of whoever runs the tests."""
        image = {
            name: value.replace("/tmp", str(self.home)).replace("/opt/deploy", str(DEPLOY))
            for name, value in image_environment().items()
            if name != "PATH"
        }
        path = f"{DEPLOY / 'image'}:{BIN}:{POSTGRES_BIN}:/usr/bin:/bin"
        given = self.here(interpolated(service.get("environment", {}), self.values))
        given = {name: "127.0.0.1" if text in HOSTS else text for name, text in given.items()}
        python = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        return {"HOME": str(self.home), **image, "PATH": path, **python, **given}

    def command(self, words: list[str], environment: dict[str, str]) -> list[str]:
        first, *rest = self.here(interpolated(words, self.values))
        found = shutil.which(first, path=environment["PATH"])
        assert found is not None, first
        return [found, *rest]

    @contextmanager
    def running(self, name: str, service: dict[str, Any]) -> Iterator[processes.Process]:
        """Run a service until the block ends; it begins when the health check is content."""
        environment = self.environment(service)
        log = self.home / f"{name}.log"
        command = self.command(service["command"], environment)
        process = processes.start(command, env=environment, log=log)
        try:
            deadline = time.monotonic() + 120
            while not self.healthy(service):
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.3)
            yield process
        finally:
            processes.stop(process, grace_s=10)

    def healthy(self, service: dict[str, Any]) -> bool:
        kind, *words = service["healthcheck"].get("test", ["CMD", "true"])
        environment = self.environment(service)
        if kind == "CMD-SHELL":
            words = ["sh", "-c", *words]
        command = self.command(words, environment)
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        return done.returncode == 0


@pytest.fixture(scope="module")
def machine(tmp_path_factory) -> Machine:
    home = tmp_path_factory.mktemp("machine")
    home.chmod(0o755)
    for folder in ("data", "scratch"):
        (home / folder).mkdir()
    secrets = {name: f"{name.lower().replace('_', '')}0123456789" for name in SECRET}
    return Machine(home, dotenv() | secrets)


SERVICES = compose()["services"]


@contextmanager
def postgres(machine: Machine) -> Iterator[None]:
    """A database as the image of PostgreSQL would make it from the service's variables."""
    given = machine.environment(SERVICES["postgres"])
    # the folders of pytest and of these tests are for their user only
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    lower: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        shutil.chown(folder, "postgres", "postgres")
        lower = ["/usr/bin/setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    secret = folder / "secret"
    secret.write_text(given["POSTGRES_PASSWORD"])
    secret.chmod(0o644)
    port = str(machine.ports[5432])
    environment = {"PATH": given["PATH"], "LC_ALL": "C", "PGPORT": port, "PGHOST": "127.0.0.1"}
    user, data = given["POSTGRES_USER"], folder / "data"
    making = [*lower, f"{POSTGRES_BIN}/initdb", "-D", data, "-U", user, "-A", "scram-sha-256"]
    subprocess.run(
        [*making, "--pwfile", secret], env=environment, check=True, capture_output=True, cwd=folder
    )
    serving = [*lower, f"{POSTGRES_BIN}/postgres", "-D", data, "-k", folder, "-h", "127.0.0.1"]
    program = shutil.which(serving[0], path=given["PATH"])
    process = processes.start(
        [program, *serving[1:]], env=environment, log=machine.home / "postgres.log"
    )
    check = SERVICES["postgres"]["healthcheck"]["test"][1:]
    try:
        wait_for(lambda: not subprocess.run(check, env=environment, capture_output=True).returncode)
        creating = [f"{POSTGRES_BIN}/createdb", "-U", user, given["POSTGRES_DB"]]
        password = {"PGPASSWORD": given["POSTGRES_PASSWORD"]}
        subprocess.run(creating, env=environment | password, check=True)
        yield
    finally:
        os.kill(process.pid, signal.SIGINT)  # PostgreSQL's fast shutdown
        process.wait(20)
        shutil.rmtree(folder)


def wait_for(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def state(machine) -> Iterator[Machine]:
    """The machine, with PostgreSQL and Redis."""
    if POSTGRES_BIN is None or REDIS is None:
        pytest.skip("no PostgreSQL or no redis-server (apt-get install postgresql redis-server)")
    pytest.importorskip("prefect_redis", reason="no prefect-redis")
    with postgres(machine), machine.running("redis", SERVICES["redis"]):
        yield machine


@pytest.fixture(scope="module")
def prefect(state) -> Iterator[Machine]:
    """The machine, with Prefect's server, its services, the deployments and a worker."""
    with ExitStack() as stack:
        for name in ("prefect-server", "prefect-services"):
            stack.enter_context(state.running(name, SERVICES[name]))
        register = SERVICES["register"]
        environment = state.environment(register)
        done = subprocess.run(
            state.command(register["command"], environment),
            env=environment, cwd=state.home, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        stack.enter_context(state.running("prefect-worker", SERVICES["prefect-worker"]))
        yield state


@pytest.fixture(scope="module")
def dask(machine) -> Iterator[Machine]:
    """The machine, with the S3 server, Dask's scheduler and a worker."""
    with ExitStack() as stack:
        for name in ("s3", "dask-scheduler", "dask-worker-cpu"):
            stack.enter_context(machine.running(name, SERVICES[name]))
        yield machine


def test_dask(dask):
    with Client(dask.here("tcp://dask-scheduler:8786")) as client:
        (worker,) = client.scheduler_info()["workers"].values()
        assert worker["nthreads"] == 2
        assert worker["local_directory"].startswith(str(dask.home / "scratch"))
        assert client.submit(os.getenv, "OMP_NUM_THREADS").result(30) == dotenv()["WORKER_CORES"]


def store_of(machine: Machine) -> Store:
    given = machine.environment(SERVICES["prefect-worker"])
    return Store(
        StorageOptions(
            endpoint_url=given["AWS_ENDPOINT_URL"],
            key=given["AWS_ACCESS_KEY_ID"],
            secret=given["AWS_SECRET_ACCESS_KEY"],
        )
    )


def test_wrong_keys_are_refused_by_the_s3_server(dask):
    (dask.home / "data" / "locked").mkdir()
    time.sleep(1.1)  # --dir-cache-time
    good = store_of(dask)
    good.write("s3://locked/one", b"scan")
    assert good.read("s3://locked/one") == b"scan"
    wrong = replace(good.options, secret="anotherone")
    with pytest.raises(RequestError) as raised:
        Store(wrong).read("s3://locked/one")
    assert raised.value.code == "access_denied"


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_prefect_lets_nobody_in_without_the_password(prefect):
    url = prefect.here("http://prefect-server:4200/api")
    assert status_of(f"{url}/health") == 200
    assert status_of(f"{url}/admin/version") == 401


def prefect_says(machine: Machine, *words: str) -> str:
    environment = machine.environment(SERVICES["prefect-worker"])
    command = machine.command(["prefect", "--no-prompt", *words], environment)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_deployment_segments_a_cohort_on_this_cluster(prefect, dask):
    for bucket in ("scans", "results"):
        (dask.home / "data" / bucket).mkdir()
    time.sleep(1.1)
    small = small_cohort(store_of(dask), "s3://scans/night")
    settings = {
        "images": small.images,
        "model": "phantom",
        "output": "s3://results/night",
        "cluster": {"kind": dask.here("tcp://dask-scheduler:8786"), "threads": 1},
    }

    parameter = f"settings={json.dumps(settings)}"
    said = prefect_says(
        prefect, "deployment", "run", "segment/on-demand", "-p", parameter, "--watch"
    )
    assert "Completed" in said
    for name in small.sound:
        assert store_of(dask).exists(f"s3://results/night/{name}_dseg.nii.gz")


@pytest.mark.parametrize("variant", ["gpu", "cpu"])
def test_the_pods_of_a_site_file(variant, tmp_path):
    """Commands, variables and probes of a scheduler's and a worker's pod."""
    made = cluster_manifest(KubernetesSite(**site(variant)), workers=1, threads=2)["spec"]
    (tmp_path / "scratch").mkdir()
    machine = Machine(tmp_path, {})
    with ExitStack() as stack:
        for role in ("scheduler", "worker"):
            stack.enter_context(machine.running(role, service_of(made[role]["spec"])))
        base = f"http://127.0.0.1:{machine.ports[8787]}/api/v1"
        assert status_of(f"{base}/adaptive_target") == 200  # what the operator asks
        assert status_of(f"{base}/check_idle") == 200
        with Client(f"tcp://127.0.0.1:{machine.ports[8786]}") as client:
            (worker,) = client.scheduler_info()["workers"].values()
            assert worker["id"] == "unet-pipeline-default-worker-0"
            assert worker["nthreads"] == 2
            assert worker["resources"] == ({"GPU": 1} if variant == "gpu" else {})
            assert worker["nanny"].endswith(f":{machine.ports[9001]}")
            assert client.submit(os.getenv, "OMP_NUM_THREADS").result(30) == "8"


def service_of(pod: dict[str, Any]) -> dict[str, Any]:
    """A container of a pod, as a service of compose: its command, variables and probe."""
    (container,) = pod["containers"]
    assert container["command"] == ["tini", "--"]
    name = "unet-pipeline-default-worker-0"
    probe = container["livenessProbe"]["httpGet"]
    port = {port["name"]: port["containerPort"] for port in container["ports"]}[probe["port"]]
    operators = {
        "DASK_WORKER_NAME": name,
        "DASK_SCHEDULER_ADDRESS": "tcp://dask-scheduler:8786",
        "HEALTH_URL": f"http://127.0.0.1:{port}{probe['path']}",
    }
    return {
        "command": [word.replace("$(DASK_WORKER_NAME)", name) for word in container["args"]],
        "environment": {v["name"]: v["value"] for v in container["env"]} | operators,
        "healthcheck": {"test": ["CMD", "healthcheck"]},
    }
