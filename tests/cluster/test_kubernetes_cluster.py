"""What a run makes of a site file, and what it says of one that is wrong."""

import copy
import re

import pytest
import yaml
from distributed import Security

from unet_pipeline.cluster.places.kubernetes import KubernetesSite, cluster_manifest
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import ClusterSettings
from unet_pipeline.config.sites import read_site
from unet_pipeline.errors import RequestError

SITE = {
    "apiVersion": "kubernetes.dask.org/v1",
    "kind": "DaskCluster",
    "metadata": {"name": "ward", "namespace": "imaging"},
    "spec": {
        "scheduler": {"spec": {"containers": [{"image": "unet:1", "args": ["dask", "scheduler"]}]}},
        "worker": {
            "spec": {
                "containers": [
                    {
                        "image": "unet:1",
                        "args": ["dask", "worker"],
                        "resources": {"limits": {"nvidia.com/gpu": 1}},
                    }
                ]
            }
        },
    },
}


def changed(*path, to):
    """SITE with one value changed; ``path`` leads to it."""
    site = copy.deepcopy(SITE)
    place = site
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return site


def test_a_run_adds_name_service_workers_and_threads():
    site = KubernetesSite(**copy.deepcopy(SITE))
    made = cluster_manifest(site, workers=5, threads=2)
    name = made["metadata"]["name"]
    assert re.fullmatch("ward-[0-9a-f]{8}", name)
    assert made["metadata"]["namespace"] == "imaging"
    worker = made["spec"]["worker"]
    assert worker["replicas"] == 5
    assert worker["spec"]["containers"][0]["args"] == ["dask", "worker", "--nthreads", "2"]
    service = made["spec"]["scheduler"]["service"]
    assert service["selector"]["dask.org/cluster-name"] == name
    assert [port["port"] for port in service["ports"]] == [8786, 8787]
    assert site == KubernetesSite(**SITE)  # the next run starts from the same
    assert cluster_manifest(site, workers=5, threads=2)["metadata"]["name"] != name


@pytest.mark.parametrize(
    ("site", "found"),
    [
        (changed("spec", "worker", to={}), "no containers with images in spec.worker"),
        (changed("spec", "scheduler", "spec", "containers", to=[]), "spec.scheduler.spec"),
        (changed("spec", "worker", "spec", "containers", 0, "image", to=""), "without an image"),
        (
            changed(
                "spec", "scheduler", "spec", "containers", 0, "resources",
                to={"limits": {"nvidia.com/mig-1g.10gb": 1}},
            ),
            "nvidia.com/mig-1g.10gb",
        ),
        (changed("metadata", "name", to="x" * 41), "metadata.name of 41 characters"),
    ],
)  # fmt: skip
def test_a_site_file_that_cannot_be(site, found):
    with pytest.raises(RequestError) as raised:
        cluster_manifest(KubernetesSite(**site), workers=1, threads=2)
    assert raised.value.code == "site_invalid"
    assert found in raised.value.found


@pytest.mark.parametrize(
    ("site", "found"),
    [
        (changed("kind", to="Pod"), "kind"),
        (changed("apiVersion", to="v1"), "apiVersion"),
        (changed("specs", to={}), "specs"),
        ({"image": "unet:1"}, "apiVersion"),
    ],
)
def test_a_file_that_is_no_dask_cluster(site, found, tmp_path):
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump(site))
    with pytest.raises(RequestError) as raised:
        ClusterSettings(kind="kubernetes", site=str(file)).spec()
    assert raised.value.code == "site_invalid"
    assert raised.value.found.startswith(f"{found}: ")


def spec_of(tmp_path, **values) -> ClusterSpec:
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump(SITE))
    return ClusterSpec("kubernetes", 2, site=read_site("kubernetes", str(file)), **values)


def code_of(spec: ClusterSpec) -> str:
    with pytest.raises(RequestError) as raised, open_executor(spec):
        pass
    return raised.value.code


def test_without_the_package_the_remedy_is_its_extra(tmp_path):
    try:
        import dask_kubernetes  # noqa: F401
    except ImportError:
        assert code_of(spec_of(tmp_path)) == "kubernetes_missing"
    else:
        pytest.skip("dask-kubernetes is there")


@pytest.mark.filterwarnings("default")  # of the libraries that speak to Kubernetes
def test_without_a_cluster_nothing_hangs(tmp_path, monkeypatch):
    pytest.importorskip("dask_kubernetes", reason="no dask-kubernetes")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    assert code_of(spec_of(tmp_path)) == "kubernetes_failed"


@pytest.mark.filterwarnings("default")
def test_an_api_that_nobody_serves(tmp_path, monkeypatch):
    pytest.importorskip("dask_kubernetes", reason="no dask-kubernetes")
    config = tmp_path / "config"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: none\n"
        "clusters: [{name: none, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "users: [{name: none, user: {token: none}}]\n"
        "contexts: [{name: none, context: {cluster: none, user: none}}]\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(config))
    assert code_of(spec_of(tmp_path)) == "kubernetes_failed"


def test_tls_is_refused_and_not_left_out(tmp_path):
    from unet_pipeline.cluster.places.kubernetes import start_kubernetes

    spec = ClusterSpec("kubernetes", site=KubernetesSite(**SITE))
    with pytest.raises(RequestError) as raised:
        start_kubernetes(spec, Security.temporary())
    assert raised.value.code == "tls_unsupported"
