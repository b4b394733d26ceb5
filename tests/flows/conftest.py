"""One real Prefect server for all tests of the flows, with the deployments and a worker."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import postgresql
import pytest
from cohorts import SmallCohort, tiny_cohort
from flow_runs import Copies, latest_run
from planted_names import write_planted
from postgresql import free_port, serve_postgresql

from unet_pipeline.config.allowed import VARIABLE
from unet_pipeline.jobs.up import deploy
from unet_pipeline.local.prefect_server import prefect_server
from unet_pipeline.local.prefect_worker import worker
from unet_pipeline.storage.links import HOURS
from unet_pipeline.storage.store import Store, join
from unet_pipeline.watching.places import FILE

HASTE = {"PREFECT_WORKER_QUERY_SECONDS": "2"}  # a worker asks for runs every ten seconds else


@pytest.fixture(scope="session")
def database(request, tmp_path_factory) -> Iterator[str | None]:
    """URL of the database that ``--prefect-database`` asks for; None for Prefect's own SQLite."""
    if request.config.getoption("--prefect-database") == "sqlite":
        yield None
        return
    if postgresql.BIN is None:
        pytest.skip("no PostgreSQL (apt-get install postgresql)")
    log = tmp_path_factory.mktemp("postgresql") / "log"
    with serve_postgresql(free_port(), "a-password-0123", log) as url:
        yield url


@pytest.fixture(scope="session")
def server(tmp_path_factory, database):
    with prefect_server(tmp_path_factory.mktemp("prefect"), port=0, database=database) as running:
        yield replace(running, env={**running.env, **HASTE})


@pytest.fixture(scope="session")
def worker_process(server, s3, tmp_path_factory):
    """A worker with the keys of the tests' store; its runs may name that and the tests' folders."""
    prefixes = {VARIABLE["prefix"]: f"s3://,{tmp_path_factory.getbasetemp()}"}
    with worker(server, env={**s3.server.environment(), **prefixes, HOURS: "1"}) as process:
        yield process


@pytest.fixture(scope="session")
def deployed(server, worker_process):
    deploy(server, {"UNET_PIPELINE_TIMEZONE": "Europe/Berlin"})
    return server


@pytest.fixture(scope="session")
def copies(server):
    """Flows as plain Python, each in a process that is a copy of one that has imported."""
    running = Copies(server)
    yield running
    running.close()


@pytest.fixture
def cohort(s3_env) -> tuple[str, SmallCohort]:
    """A bucket, and a small cohort in it."""
    bucket = s3_env.bucket("flow")
    return bucket, tiny_cohort(Store(), join(bucket, "scans"))


@pytest.fixture(scope="session")
def on_dask(server, copies, s3, tmp_path_factory) -> tuple[dict[str, Any], str]:
    """A run of the flow on Dask over a cohort with planted names and faults, and what it said."""
    bucket = s3.bucket("planted")
    write_planted(s3.store, join(bucket, "in"))
    settings = {
        "images": join(bucket, "in/images"), "masks": join(bucket, "in/masks"),
        "require_masks": True,
        "model": "phantom", "output": join(bucket, "out"), "gate": {"content": True},
        "cluster": {"kind": "local", "workers": 2, "threads": 1},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.server.environment().items():
            patch.setenv(name, value)
        folder = tmp_path_factory.mktemp("planted")
        flow = copies.start(settings, folder, env={HOURS: "1", FILE: str(folder)})
    said, _ = flow.communicate(timeout=280)
    assert flow.returncode == 0, said
    assert 'how="completed"' in (folder / "segment.prom").read_text()
    return latest_run(server), said
