"""Each variable that a service or a pod is given is one that some program reads."""

import json
import os
import re
import subprocess
import sys

import dask
import distributed  # noqa: F401  its settings
import pytest
from aws_variables import AWS_VARIABLES
from deploy_files import DEPLOY, VARIANTS, base_documents, compose, image_environment, pods, site

from unet_pipeline.processes import ENVIRONMENT

OF_OTHERS = {
    "DO_NOT_TRACK", "HOME", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PATH",
    "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", *ENVIRONMENT,
    "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "REDISCLI_AUTH",
    "RCLONE_AUTH_KEY", "RCLONE_CONFIG",
}  # fmt: skip

READERS = ("unet_pipeline/config/allowed.py", "flows/unet_pipeline_flows/server.py")


def names() -> set[str]:
    found = set(image_environment())
    for service in compose()["services"].values():
        found |= set(service.get("environment", {}))
    for document in base_documents():
        if document["kind"] == "ConfigMap":
            found |= set(document["data"])
    specs = [pod for _, pod, _ in pods(base_documents())]
    specs += [site(v)["spec"][role]["spec"] for v in VARIANTS for role in ("scheduler", "worker")]
    for pod in specs:
        found |= {v["name"] for v in pod["containers"][0].get("env", ())}
    return found


def test_prefect_knows_its_variables():
    command = [sys.executable, "-m", "prefect", "config", "view", "--show-defaults"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, env=plain()).stdout
    known = set(re.findall(r"^(PREFECT_\w+)=", text, re.MULTILINE))
    given = {n for n in names() if n.startswith("PREFECT_")}
    ours = {name for name in given if not name.startswith("PREFECT_REDIS_")}
    assert len(ours) > 15
    assert ours <= known


def plain() -> dict[str, str]:
    """This environment without Prefect's variables."""
    return {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}


def test_the_messaging_on_redis_knows_its_variables():
    client = pytest.importorskip("prefect_redis.client", reason="no prefect-redis")
    given = {n for n in names() if n.startswith("PREFECT_REDIS_MESSAGING_")}
    fields = {n.removeprefix("PREFECT_REDIS_MESSAGING_").lower() for n in given}
    assert fields == {"host", "port", "password"}
    assert fields <= client.RedisMessagingSettings.model_fields.keys()


def test_dask_knows_its_variables():
    given = {n for n in names() if n.startswith("DASK_")}
    assert given == {"DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES"}
    assert dask.config.get("distributed.scheduler.http.routes")


def test_the_rest_is_read_by_somebody_too():
    rest = {n for n in names() if not n.startswith(("PREFECT_", "DASK_"))}
    read = OF_OTHERS | set(AWS_VARIABLES)
    texts = [(DEPLOY / "prefect.yaml").read_text()]
    texts += [path.read_text() for path in (DEPLOY / "image").iterdir()]
    texts += [(DEPLOY.parent / path).read_text() for path in READERS]
    texts += [compose()["services"]["redis"]["command"][-1]]
    assert {name for name in rest - read if not any(name in text for text in texts)} == set()


def test_processes_are_told_everywhere_what_suits_them():
    pool = json.loads((DEPLOY / "work-pool.json").read_text())
    assert ENVIRONMENT.items() <= pool["job_configuration"]["env"].items()
    assert ENVIRONMENT.items() <= image_environment().items()
