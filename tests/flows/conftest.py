"""One real Prefect server for all tests of the flows, with the deployments and a worker."""

import pytest
from cohorts import SmallCohort, tiny_cohort

from unet_pipeline.local.prefect_server import prefect_server, worker
from unet_pipeline.serve import deploy
from unet_pipeline.storage.store import Store, join


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with prefect_server(tmp_path_factory.mktemp("prefect"), port=0) as running:
        yield running


@pytest.fixture(scope="session")
def worker_process(server):
    with worker(server) as process:
        yield process


@pytest.fixture(scope="session")
def deployed(server, worker_process):
    deploy(server, {"UNET_PIPELINE_TIMEZONE": "Europe/Berlin"})
    return server


@pytest.fixture
def cohort(s3_env) -> tuple[str, SmallCohort]:
    """A bucket, and a small cohort in it."""
    bucket = s3_env.bucket("flow")
    return bucket, tiny_cohort(Store(), join(bucket, "scans"))
