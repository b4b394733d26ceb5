"""Every service of compose.yaml, by its own command, variables and health check, without Docker.

Names of services become this machine's address, ports free ones, and volumes folders.
"""

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import postgresql
import pytest
from cohorts import SmallCohort, small_cohort
from deploy_files import DEPLOY, compose, dotenv, image_environment, interpolated, site
from distributed import Client
from flow_runs import of_run, start_run, wait_for_run, wait_until
from postgresql import free_port, serve_postgresql

from unet_pipeline.cluster.places.kubernetes import KubernetesSite, cluster_manifest
from unet_pipeline.errors import RequestError
from unet_pipeline.local import processes
from unet_pipeline.local.password import Password
from unet_pipeline.local.prefect_api import PrefectApi
from unet_pipeline.storage.store import StorageOptions, Store

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
REDIS = shutil.which("redis-server")
HOSTS = ("prefect-server", "dask-scheduler", "postgres", "redis", "s3")
PORTS = (4200, 5432, 6379, 8080, 8786, 8787, 8788, 9000, 9001)
SECRET = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "PREFECT_PASSWORD", "S3_ACCESS_KEY",
          "S3_SECRET_KEY"}  # fmt: skip


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
        path = f"{DEPLOY / 'image'}:{BIN}:{postgresql.BIN}:/usr/bin:/bin"
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
    port, log = machine.ports[5432], machine.home / "postgres.log"
    user, name = given["POSTGRES_USER"], given["POSTGRES_DB"]
    with serve_postgresql(port, given["POSTGRES_PASSWORD"], log, user, name):
        check = SERVICES["postgres"]["healthcheck"]["test"][1:]
        asked = {"PATH": given["PATH"], "PGPORT": str(port), "PGHOST": "127.0.0.1"}
        subprocess.run(check, env=asked, check=True, capture_output=True)
        yield


@pytest.fixture(scope="module")
def state(machine) -> Iterator[Machine]:
    """The machine, with PostgreSQL and Redis."""
    if postgresql.BIN is None or REDIS is None:
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


def api_of(machine: Machine) -> PrefectApi:
    """Prefect's server, as its page reaches it."""
    password = machine.environment(SERVICES["prefect-worker"])["PREFECT_API_AUTH_STRING"]
    url = machine.here("http://prefect-server:4200")
    return PrefectApi(url=url, home=machine.home, password=Password(password, None, made=False))


@pytest.fixture(scope="module")
def scans(dask) -> SmallCohort:
    """A small cohort in a bucket, and a bucket for results."""
    for bucket in ("scans", "results"):
        (dask.home / "data" / bucket).mkdir()
    time.sleep(1.1)  # --dir-cache-time
    return small_cohort(store_of(dask), "s3://scans/night")


def settings_on(dask: Machine, scans: SmallCohort, output: str) -> dict[str, Any]:
    cluster = {"kind": dask.here("tcp://dask-scheduler:8786"), "threads": 1}
    return {"images": scans.images, "model": "phantom", "output": output, "cluster": cluster}


def completed(server: PrefectApi, run: dict[str, Any]) -> set[str]:
    """Names of the task runs that are done: states travel as events, by way of Redis."""
    tasks = of_run(server, "task_runs", run)
    return {task["name"] for task in tasks if task["state_name"] == "Completed"}


def test_a_deployment_segments_a_cohort_on_this_cluster(prefect, dask, scans):
    settings = settings_on(dask, scans, "s3://results/night")
    run = start_run(api_of(prefect), "on-demand", settings)
    ended = wait_for_run(api_of(prefect), run)
    assert ended["state_type"] == "COMPLETED", ended["state"]
    for name in scans.sound:
        assert store_of(dask).exists(f"s3://results/night/{name}_dseg.nii.gz")
    wait_until(lambda: {*scans.sound} <= completed(api_of(prefect), run), 60)


@pytest.mark.soak
def test_a_run_on_this_cluster_is_cancelled(prefect, dask, scans):
    """States and messages go by way of PostgreSQL and Redis."""
    slow = {"windows": {"overlap": 0.9}}
    settings = settings_on(dask, scans, "s3://results/cancelled") | slow
    run = start_run(api_of(prefect), "on-demand", settings)
    wait_until(lambda: of_run(api_of(prefect), "task_runs", run), 100)
    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    api_of(prefect).api(f"/flow_runs/{run['id']}/set_state", cancelling)
    assert wait_for_run(api_of(prefect), run, 60)["state_name"] == "Cancelled"
    files = store_of(dask).list_files("s3://results/cancelled/runs")
    assert any(url.endswith("/report.html") for url in files)


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
