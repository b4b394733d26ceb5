"""The manifests hold against the API's schemas, and against what we promise of them."""

import re
from itertools import product

import pytest
import yaml
from deploy_files import (
    KUBECTL,
    KUBERNETES,
    VARIANTS,
    base_documents,
    check,
    documents,
    named,
    operator_makes,
    pods,
    rendered,
    site,
)

from unet_pipeline.cluster.places.kubernetes import KubernetesSite, cluster_manifest
from unet_pipeline.config.allowed import Allowed

IMAGE = re.compile(r"^[\w.-]+(/[\w.-]+)+:\d+\.\d+\.\d+[\w.-]*$")
GPU = "nvidia.com/gpu"
needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="no kubectl, which brings kustomize")
overlays = pytest.fixture(params=[pytest.param(v, marks=needs_kubectl) for v in VARIANTS])


@overlays
def overlay(request):
    return rendered(request.param)


def cluster_of(variant: str) -> dict:
    return cluster_manifest(KubernetesSite(**site(variant)), workers=3, threads=2)


def operator_pods(variant: str) -> list[dict]:
    return operator_makes(cluster_of(variant))


def pod_of(spec: dict) -> dict:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}


def test_the_base_holds_against_the_schemas():
    found = base_documents()
    assert len(found) > 15
    check(found)


def test_the_overlays_hold_against_the_schemas(overlay):
    check(overlay)


def test_a_misspelt_field_would_be_found():
    validator = pytest.importorskip("kubernetes_validate")
    wrong = named(base_documents(), "Deployment", "prefect-worker")
    wrong["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFileSystem"] = True
    with pytest.raises(validator.ValidationError):
        check([wrong])


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pods_of_a_dask_cluster_hold_against_the_schemas(variant):
    spec = cluster_of(variant)["spec"]
    check([pod_of(spec["scheduler"]["spec"]), pod_of(spec["worker"]["spec"])])


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_operator_makes_of_a_site_file_holds_too(variant):
    check(operator_pods(variant))


def every_pod() -> list[tuple[str, dict]]:
    found = [(name, spec) for name, spec, _ in pods(base_documents())]
    return found + [
        (f"{variant} {role}", site(variant)["spec"][role]["spec"])
        for variant, role in product(VARIANTS, ("scheduler", "worker"))
    ]


@pytest.mark.parametrize(("name", "pod"), every_pod(), ids=[name for name, _ in every_pod()])
def test_every_pod_is_locked(name, pod):
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 10001
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is (name == "prefect-worker")
    assert pod["serviceAccountName"] in {"dask", "prefect-worker"}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
        assert IMAGE.match(container["image"])
        assert "latest" not in container["image"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert "emptyDir" in volumes[mounts["/tmp"]]
        assert mounts.keys() >= ({"/scratch"} if "/scratch" in container["args"] else set())
        for variable in container.get("env", ()):
            if re.search("PASSWORD|SECRET|AUTH|KEY", variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"]


def test_gpus_are_for_workers_only():
    def gpus(pod: dict) -> list:
        return [c["resources"]["limits"].get(GPU) for c in pod["containers"]]

    worker = site("gpu")["spec"]["worker"]["spec"]
    assert gpus(worker) == [1]
    assert "GPU=1" in worker["containers"][0]["args"]
    assert {"key": GPU, "operator": "Exists", "effect": "NoSchedule"} in worker["tolerations"]
    others = [pod for name, pod in every_pod() if name != "gpu worker"]
    assert len(others) == 5
    assert not any(any(gpus(pod)) for pod in others)


def test_no_secret_is_written_down():
    texts = [path.read_text() for path in KUBERNETES.rglob("*.yaml")]
    found = [d for text in texts for d in yaml.safe_load_all(text) if isinstance(d, dict)]
    assert not [d for d in found if d.get("kind") == "Secret"]
    for settings in (d["data"] for d in found if d.get("kind") == "ConfigMap"):
        assert not [name for name in settings if re.search("PASSWORD|SECRET|AUTH|ACCESS_KEY", name)]
    assert "admin:" not in "".join(texts)


def selects(selector: dict, labels: dict[str, str]) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", ()):
        inside = labels.get(rule["key"]) in rule["values"]
        if inside != (rule["operator"] == "In"):
            return False
    return True


@pytest.fixture(scope="module")
def labels() -> dict[str, dict[str, str]]:
    """Labels of every kind of pod in our namespace, with those that kustomize and operator add."""
    if KUBECTL is None:
        pytest.skip("no kubectl, which brings kustomize")
    ours = {name: found for name, _, found in pods(rendered("gpu"))}
    scheduler, _, worker = operator_pods("gpu")
    return ours | {
        "scheduler": scheduler["spec"]["template"]["metadata"]["labels"],
        "worker": worker["spec"]["template"]["metadata"]["labels"],
    }


def test_network_policies_select_the_pods_that_they_mean(labels):
    policies = {d["metadata"]["name"]: d["spec"] for d in base_documents() if "Policy" in d["kind"]}
    meant = {
        "default-deny": set(labels),
        "names": set(labels),
        "dask-scheduler": {"scheduler"},
        "dask-worker": {"worker"},
        "object-storage": {"worker", "prefect-worker"},
        "prefect-api": {"prefect-worker", "register-deployments"},
        "prefect-worker": {"prefect-worker"},
    }
    assert meant.keys() == policies.keys()
    for name, expected in meant.items():
        found = {pod for pod in labels if selects(policies[name]["podSelector"], labels[pod])}
        assert found == expected, name


def opens(labels, policies, direction: str, of: str, other: str, port: int) -> bool:
    """Whether some policy lets ``of`` send to (or take from) ``other``, a pod of ours."""
    rules, peers = {"Egress": ("egress", "to"), "Ingress": ("ingress", "from")}[direction]
    return any(
        selects(peer["podSelector"], labels[other])
        and any(p["port"] <= port <= p.get("endPort", p["port"]) for p in rule["ports"])
        for policy in policies
        if selects(policy["spec"]["podSelector"], labels[of])
        for rule in policy["spec"].get(rules, ())
        for peer in rule[peers]
        if peer.keys() == {"podSelector"}
    )


def test_who_reaches_whom(labels):
    policies = [d for d in base_documents() if d["kind"] == "NetworkPolicy"]
    expected = {
        ("worker", "scheduler", 8786), ("prefect-worker", "scheduler", 8786),
        ("prefect-worker", "scheduler", 8787), ("scheduler", "worker", 9000),
        ("scheduler", "worker", 9001), ("worker", "worker", 9000), ("worker", "worker", 9001),
    }  # fmt: skip
    ports = (8080, 8786, 8787, 8788, 9000, 9001)
    found = {
        (source, target, port)
        for source, target, port in product(labels, labels, ports)
        if opens(labels, policies, "Egress", source, target, port)
        and opens(labels, policies, "Ingress", target, source, port)
    }
    assert found == expected


def test_ports_of_policies_and_commands_are_the_same():
    for variant in VARIANTS:
        spec = site(variant)["spec"]
        worker = spec["worker"]["spec"]["containers"][0]
        arguments = dict(zip(worker["args"][2::2], worker["args"][3::2], strict=True))
        assert arguments["--worker-port"] == "9000"
        assert arguments["--nanny-port"] == "9001"
        assert arguments["--dashboard-address"] == ":8788"
        assert [port["containerPort"] for port in worker["ports"]] == [9000, 9001, 8788]
        scheduler = spec["scheduler"]["spec"]["containers"][0]
        assert scheduler["args"][2:] == ["--port", "8786", "--dashboard-address", ":8787"]
        assert [port["containerPort"] for port in scheduler["ports"]] == [8786, 8787]


def test_what_is_referred_to_exists(overlay):
    made = {(d["kind"], d["metadata"]["name"]) for d in overlay}
    by_hand = {"object-storage-keys", "prefect-auth"}
    readme = (KUBERNETES / "README.md").read_text()
    for _, pod, _ in pods(overlay):
        assert ("ServiceAccount", pod["serviceAccountName"]) in made
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in made
        for source in pod["containers"][0]["envFrom"]:
            for kind, reference in source.items():
                known = ("ConfigMap", reference["name"]) in made or reference["name"] in by_hand
                assert known, (kind, reference)
    for name in by_hand:
        assert f"create secret generic {name}" in readme


def test_the_site_file_reaches_the_prefect_worker_as_it_is(overlay):
    (found,) = [d for d in overlay if d["metadata"]["name"].startswith("dask-cluster-")]
    text = found["data"]["dask-cluster.yaml"]
    assert text in {
        (KUBERNETES / "overlays" / v / "dask-cluster.yaml").read_text() for v in VARIANTS
    }


def test_names_in_the_charts_values_are_those_of_the_manifests():
    values = {path.stem: documents(path)[0] for path in (KUBERNETES / "values").glob("*.yaml")}
    server, worker = values["prefect-server"], values["prefect-worker"]["worker"]
    url = named(base_documents(), "ConfigMap", "prefect")["data"]["PREFECT_API_URL"]
    assert url == worker["selfHostedServerApiConfig"]["apiUrl"]
    assert url.startswith(f"http://{server['fullnameOverride']}.prefect.svc.")
    assert "4200" in server["server"]["args"]
    container = named(base_documents(), "Deployment", "prefect-worker")
    (ours,) = container["spec"]["template"]["spec"]["containers"]
    assert worker["args"] == ours["args"]
    assert values["dask-operator"]["kopfArgs"] == ["--namespace=unet-pipeline"]
    for image in (server["global"]["prefect"]["image"], worker["image"]):
        assert f"{image['repository']}:{image['prefectTag']}" == ours["image"]
    secrets = {server["server"]["basicAuth"]["existingSecret"]}
    secrets |= {worker["selfHostedServerApiConfig"]["basicAuth"]["existingSecret"]}
    assert secrets == {"prefect-auth"}


def test_no_policy_lets_pods_out_to_the_whole_network():
    """What is shipped leads nowhere (addresses for documents); the site puts its own there."""
    blocks = []
    for document in base_documents():
        for rule in document.get("spec", {}).get("egress", ()):
            blocks += [peer["ipBlock"]["cidr"] for peer in rule["to"] if "ipBlock" in peer]
            assert rule["to"]
    assert sorted(blocks) == ["192.0.2.1/32", "192.0.2.2/32"]


def test_prefects_server_answers_under_its_own_names_only():
    values = yaml.safe_load((KUBERNETES / "values/prefect-server.yaml").read_text())
    assert values["server"]["args"][:3] == ["python", "-m", "unet_pipeline_flows.server"]
    assert values["server"]["basicAuth"]["enabled"] is True
    env = {one["name"]: one["value"] for one in values["global"]["prefect"]["env"]}
    page = values["server"]["uiConfig"]["prefectUiApiUrl"].removesuffix("/api")
    clients = named(base_documents(), "ConfigMap", "prefect")["data"]["PREFECT_API_URL"]
    assert env["UNET_PIPELINE_PREFECT_URLS"] == f"{page},{clients.removesuffix('/api')}"


def test_what_runs_may_name_is_said_to_the_worker_by_either_way():
    documents = {d["metadata"]["name"]: d for d in base_documents() if d["kind"] == "ConfigMap"}
    wanted = ["allowed", "cohort", "object-storage"]
    (pod,) = [pod for name, pod, _ in pods(base_documents()) if name == "prefect-worker"]
    given = [one["configMapRef"]["name"] for one in pod["containers"][0]["envFrom"]
             if "configMapRef" in one]  # fmt: skip
    values = yaml.safe_load((KUBERNETES / "values/prefect-worker.yaml").read_text())
    assert set(given) == set(values["worker"]["extraEnvVarsCMs"]) == {"prefect", *wanted}
    env = {k: v for name in wanted for k, v in documents[name]["data"].items()}
    assert Allowed.from_environment(env) == Allowed(
        endpoints=frozenset({"https://s3.example.org"}),
        prefixes=("s3://scans", "s3://results", "s3://scans/incoming",
                  "s3://results/segmentations"),
        clusters=frozenset({"kubernetes"}),
        files=frozenset({"/etc/unet-pipeline/dask-cluster.yaml"}),
    )  # fmt: skip
