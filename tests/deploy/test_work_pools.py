"""The work pools of Docker and Kubernetes are as locked as the other services."""

import json

import pytest
import yaml
from deploy_files import DEPLOY, VERSION, base_documents, compose, named

from unet_pipeline import __version__

DOCKER, KUBERNETES = (DEPLOY / name for name in ("docker-pool.json", "kubernetes/work-pool.json"))


def template(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("path", [DOCKER, KUBERNETES], ids=["docker", "kubernetes"])
def test_a_run_can_change_nothing(path):
    none = {"type": "object", "properties": {}, "additionalProperties": False}
    assert template(path)["variables"] == none


@pytest.mark.parametrize("path", [DOCKER, KUBERNETES], ids=["docker", "kubernetes"])
def test_a_run_begins_in_an_empty_folder(path):
    """Prefect copies the folder that it begins in, whole: never that of all of an image."""
    assert "cd /tmp/run && exec prefect" in template(path)["job_configuration"]["command"]


def test_a_container_is_locked_as_those_of_compose_are():
    pool = template(DOCKER)["job_configuration"]
    locks, ours = pool["container_create_kwargs"], compose()["services"]["prefect-worker"]
    for key in ("read_only", "cap_drop", "security_opt", "user"):
        assert locks[key] == ours[key]
    assert "/etc/unet-pipeline/environment" in pool["command"]  # which no run can change
    assert any(one.startswith("/etc/unet-pipeline/environment:") for one in pool["volumes"])


def test_a_job_of_kubernetes_is_the_prefect_worker_of_base():
    validate = pytest.importorskip("kubernetes_validate").validate
    manifest = template(KUBERNETES)["job_configuration"]["job_manifest"]
    job = manifest["spec"]["template"]["spec"]
    assert (job.pop("completions"), job.pop("parallelism")) == (1, 1)  # Prefect asks for them here
    validate(manifest, VERSION, strict=True)
    worker = named(base_documents(), "Deployment", "prefect-worker")["spec"]["template"]["spec"]
    for key in ("serviceAccountName", "securityContext", "volumes"):
        assert job[key] == worker[key]
    ours, theirs = job["containers"][0], worker["containers"][0]
    for key in ("image", "envFrom", "resources", "securityContext", "volumeMounts"):
        assert ours[key] == theirs[key]


def test_deployments_have_the_version_of_the_package():
    found = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]
    assert {one["version"] for one in found} == {__version__}
    assert all(one["tags"] for one in found)
