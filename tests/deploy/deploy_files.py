"""The files of deploy/ as values: manifests, compose services, the image's instructions."""

import copy
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
VARIANTS = ("gpu", "cpu")
VERSION = "1.33"  # of the API
KUBECTL = shutil.which("kubectl")

_PLACE = re.compile(r"\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}")


def documents(path: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def base_documents() -> list[dict[str, Any]]:
    """What `kubectl apply` would be given of base/, before kustomize adds labels to it."""
    names = documents(KUBERNETES / "base" / "kustomization.yaml")[0]["resources"]
    return [found for name in names for found in documents(KUBERNETES / "base" / name)]


def rendered(variant: str, folder: Path = KUBERNETES) -> list[dict[str, Any]]:
    """An overlay, by the kustomize that kubectl brings."""
    command = [KUBECTL, "kustomize", folder / "overlays" / variant]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return list(yaml.safe_load_all(text))


def site(variant: str) -> dict[str, Any]:
    return documents(KUBERNETES / "overlays" / variant / "dask-cluster.yaml")[0]


def named(found: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (one,) = [d for d in found if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    return one


def pods(found: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """Name, pod specification and labels of whatever makes pods."""
    for document in found:
        if document["kind"] in {"Deployment", "Job", "CronJob"}:
            spec = document["spec"]
            template = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]
            yield document["metadata"]["name"], template["spec"], template["metadata"]["labels"]


def operator_makes(made: dict[str, Any]) -> list[dict[str, Any]]:
    """The Deployments and the Service that Dask's own operator makes of a run's manifest."""
    controller = pytest.importorskip(
        "dask_kubernetes.operator.controller.controller", reason="no dask-kubernetes"
    )
    name, spec, labels = made["metadata"]["name"], made["spec"], made["metadata"]["labels"]
    scheduler, worker = spec["scheduler"], spec["worker"]
    return copy.deepcopy([
        controller.build_scheduler_deployment_spec(name, scheduler["spec"], {}, labels),
        controller.build_scheduler_service_spec(name, scheduler["service"], {}, labels),
        controller.build_worker_deployment_spec(
            f"{name}-default", "unet-pipeline", name, "0123456789", worker["spec"], {}, labels
        ),
    ])  # fmt: skip


def check(found: list[dict[str, Any]]) -> None:
    """Hold documents against the API's schemas."""
    validator = pytest.importorskip("kubernetes_validate")
    for document in found:
        validator.validate(document, VERSION, strict=True)


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def interpolated(value: Any, given: dict[str, str]) -> Any:
    """A value of compose.yaml with its variables filled in; KeyError for one that is required."""
    if isinstance(value, dict):
        return {key: interpolated(part, given) for key, part in value.items()}
    if isinstance(value, list):
        return [interpolated(part, given) for part in value]
    return (
        _PLACE.sub(lambda found: _filled(found, given), value) if isinstance(value, str) else value
    )


def _filled(found: re.Match[str], given: dict[str, str]) -> str:
    name, kind, text = found.groups()
    if name is None:
        return "$"
    if given.get(name):
        return given[name]
    if kind == "-":
        return text
    raise KeyError(name)


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continued lines joined, comments left out."""
    lines = [
        line
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined if line.strip()]


def stage(name: str) -> list[tuple[str, str]]:
    """The instructions of one stage of the Dockerfile."""
    found, inside = [], False
    for word, rest in instructions():
        if word == "FROM":
            inside = rest.endswith(f" AS {name}")
        elif inside:
            found.append((word, rest))
    return found


def image_environment() -> dict[str, str]:
    (text,) = [rest for word, rest in stage("runtime") if word == "ENV"]
    return dict(pair.split("=", 1) for pair in shlex.split(text))


def dotenv() -> dict[str, str]:
    """Names and values of .env.example."""
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
