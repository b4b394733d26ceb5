"""The component with a volume that all workers see, added as the README says."""

import copy
import os
import re
import shutil
import subprocess
import time

import pytest
import yaml
from deploy_files import (
    KUBECTL,
    KUBERNETES,
    VARIANTS,
    check,
    documents,
    named,
    operator_makes,
    pods,
    rendered,
)
from deploy_files import site as site_file

from unet_pipeline.cluster.places.kubernetes import KubernetesSite, cluster_manifest

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="no kubectl, which brings kustomize")
COMPONENT = KUBERNETES / "components" / "shared-scratch"
CLAIM = {"name": "shared-scratch", "persistentVolumeClaim": {"claimName": "shared-scratch"}}


@pytest.fixture(scope="module", params=VARIANTS)
def made(request, tmp_path_factory):
    """What an overlay becomes by the README's own commands, and its site file."""
    folder = tmp_path_factory.mktemp(request.param) / "kubernetes"
    shutil.copytree(KUBERNETES, folder)
    text = (KUBERNETES / "README.md").read_text().split("## Volumes over the memory budget")[1]
    (commands,) = re.findall(r"```bash\n(.*?)```", text.split("\n## ")[0], re.DOTALL)
    commands = commands.replace("overlays/gpu", f"overlays/{request.param}")
    subprocess.run(["sh", "-euc", commands], cwd=folder, check=True)
    site = documents(folder / "overlays" / request.param / "dask-cluster.yaml")[0]
    return rendered(request.param, folder), site


def mounts(pod: dict) -> dict[str, str]:
    """Names of volumes by where the first container has them."""
    return {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}


def test_it_holds_against_the_schemas(made):
    found, site = made
    check(found)
    check(operator_makes(cluster_manifest(KubernetesSite(**site), workers=3, threads=2)))
    claim = named(found, "PersistentVolumeClaim", "shared-scratch")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert {document["metadata"].get("namespace") for document in found} == {None, "unet-pipeline"}


def test_all_who_work_see_it_where_runs_are_told_that_it_is(made):
    found, site = made
    place = named(found, "ConfigMap", "cohort")["data"]["UNET_PIPELINE_SCRATCH"]
    specs = {name: pod for name, pod, _ in pods(found)}
    specs |= {role: site["spec"][role]["spec"] for role in ("scheduler", "worker")}
    seeing = {name for name, pod in specs.items() if mounts(pod).get(place) == CLAIM["name"]}
    assert seeing == {"worker", "prefect-worker", "sweep-shared-scratch"}
    assert all(CLAIM in specs[name]["volumes"] for name in seeing)


def test_the_site_file_is_otherwise_as_it_was(made):
    site = copy.deepcopy(made[1])
    worker = site["spec"]["worker"]["spec"]
    worker["volumes"].remove(CLAIM)
    worker["containers"][0]["volumeMounts"].remove(
        {"name": CLAIM["name"], "mountPath": "/shared-scratch"}
    )
    assert site in [site_file(variant) for variant in VARIANTS]


def test_the_registered_runs_take_it_from_the_variable():
    text = (KUBERNETES.parent / "prefect.yaml").read_text()
    taking = {
        (one["entrypoint"].rpartition(".")[2], one["name"])
        for one in yaml.safe_load(text)["deployments"]
        if one["parameters"]["settings"].get("budget", {}).get("scratch")
        == "{{ $UNET_PIPELINE_SCRATCH }}"
    }
    assert taking == {("segment", "nightly"), ("segment", "on-demand")}


def test_the_sweep_is_locked_and_reaches_nobody():
    job = documents(COMPONENT / "sweep.yaml")[0]
    ((_, pod, labels),) = pods([job])
    assert "app.kubernetes.io/part-of" not in labels  # which the policy of the store asks for
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (
        True, 10001,
    )  # fmt: skip
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_sweep_removes_what_is_old_and_ours(tmp_path):
    two_days = 2 * 24 * 3600 + 120
    for name in ("unet-pipeline-old", "unet-pipeline-new", "other-old"):
        (tmp_path / name / "image0.zarr").mkdir(parents=True)
    for name in ("unet-pipeline-old", "other-old"):
        os.utime(tmp_path / name, (time.time() - two_days,) * 2)
    ((_, pod, _),) = pods(documents(COMPONENT / "sweep.yaml"))
    container = pod["containers"][0]
    words = [*container["command"], *container["args"]]
    subprocess.run([str(tmp_path) if w == "/shared-scratch" else w for w in words], check=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other-old", "unet-pipeline-new"]
