"""Workers as pods of Kubernetes, by the Dask operator: one pod, one worker, at most one GPU.

The site file is a ``DaskCluster`` manifest, as ``kubectl apply`` takes it: what the pods of a
scheduler and of a worker look like is said there in full. Here it only gets a name that no other
run has, the service of that name, the number of workers and that of their threads. The operator
makes pods of it, replaces those that are lost (a spot node was taken back), and removes all of
them with the run.
"""

import asyncio
import copy
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal
from uuid import uuid4

from distributed import Security

from unet_pipeline.cluster.places.protocol import Place
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.errors import RequestError

log = logging.getLogger(__name__)

SCHEDULER_SECONDS = 600.0  # a node may have to be started for it
NAME_LENGTH = 40  # with what the operator adds, names of objects stay below 63 characters
_ACCELERATORS = ("nvidia.com/", "amd.com/", "gpu.intel.com/")


@dataclass(frozen=True)
class KubernetesSite:
    """A ``DaskCluster`` manifest: its ``spec`` holds the pods of scheduler and workers."""

    __pydantic_config__ = {"extra": "forbid"}  # read from a file of the operator's  # noqa: RUF012

    apiVersion: Literal["kubernetes.dask.org/v1"]
    kind: Literal["DaskCluster"]
    metadata: dict[str, Any]
    spec: dict[str, Any]


def start_kubernetes(spec: ClusterSpec, security: Security | None = None) -> Any:
    """Return a cluster whose workers are pods, between ``spec.least`` and ``spec.most`` of them.

    Raises
    ------
    RequestError
        ``site_invalid``; ``tls_unsupported`` with ``security``; ``kubernetes_missing`` without
        dask-kubernetes; ``kubernetes_failed`` if no scheduler came to life.
    """
    if security is not None:
        raise RequestError(
            "tls_unsupported", found="--tls with --cluster kubernetes",
            wanted="a cluster whose operator speaks TLS, which Dask's does not",
            remedy="Leave --tls out and keep the network policies of deploy/kubernetes, or start "
            "scheduler and workers yourself and name them with --cluster tls://",
        )  # fmt: skip
    manifest = cluster_manifest(spec.site, workers=spec.least, threads=spec.calls_at_once)
    make = _cluster_class()
    try:
        cluster = make(
            custom_cluster_spec=manifest,
            namespace=spec.site.metadata.get("namespace"),
            shutdown_on_close=True,
            quiet=True,
        )
        if spec.least < spec.most:
            cluster.adapt(minimum=spec.least, maximum=spec.most)
    except Exception as error:  # of kr8s, httpx, asyncio, the operator: all end the request
        raise RequestError(
            "kubernetes_failed", subject=manifest["metadata"]["name"],
            found=f"no Dask scheduler: {_first_line(error)}",
            wanted="a cluster with the Dask operator, and the right to make a DaskCluster",
            remedy="Look at `kubectl get daskclusters,pods` and their events; "
            "see deploy/kubernetes/README.md",
        ) from error  # fmt: skip
    log.info("Dask cluster %s", manifest["metadata"]["name"])
    return cluster


def cluster_manifest(site: KubernetesSite, *, workers: int, threads: int) -> dict[str, Any]:
    """Return the manifest of one run: the site's, with a name of its own, workers and threads.

    Raises
    ------
    RequestError
        ``site_invalid`` for a manifest without the pods' containers or images, or with a GPU for
        the scheduler, which would take it from a worker and never use it.
    """
    manifest = copy.deepcopy(asdict(site))
    for role in ("scheduler", "worker"):
        _check_pod(manifest["spec"], role)
    if found := sorted(set(_accelerators(manifest["spec"]["scheduler"]["spec"]))):
        raise _invalid(f"spec.scheduler: {', '.join(found)}", "no GPU for the scheduler")
    name = str(site.metadata.get("name") or "unet-pipeline")
    if len(name) > NAME_LENGTH:
        raise _invalid(f"metadata.name of {len(name)} characters", f"at most {NAME_LENGTH}")
    manifest["metadata"]["name"] = name = f"{name}-{uuid4().hex[:8]}"
    manifest["spec"]["scheduler"]["service"] = _service(name)
    worker = manifest["spec"]["worker"]
    worker["replicas"] = workers
    first = worker["spec"]["containers"][0]
    first["args"] = [*(first.get("args") or ()), "--nthreads", str(threads)]
    return manifest


def _check_pod(spec: dict[str, Any], role: str) -> None:
    """Refuse a pod that lacks what is read of it here, or has it in another form."""
    place = f"spec.{role}.spec.containers"
    try:
        pod = spec[role]["spec"]
        containers = [*pod["containers"], *(pod.get("initContainers") or ())]
        images = [container["image"] for container in containers]
        lists = [container.get("args") for container in containers]
        lists += [x for one in containers for x in (one.get("resources") or {}).values()]
        are_texts = all(isinstance(text, str) for texts in lists for text in texts or ())
    except (AttributeError, KeyError, TypeError) as error:
        raise _invalid(f"no containers with images in {place}", "a pod, as in a Pod") from error
    if not all(isinstance(image, str) and image for image in images) or not pod["containers"]:
        raise _invalid(f"{place} without an image", "the image of this package")
    if not are_texts:
        raise _invalid(f"{place}: arguments or resources that are no text", "a pod, as in a Pod")


def _service(cluster: str) -> dict[str, Any]:
    """Return the service by which workers, operator and run find the scheduler of a cluster."""
    labels = {"dask.org/cluster-name": cluster, "dask.org/component": "scheduler"}
    ports = {"tcp-comm": 8786, "http-dashboard": 8787}  # names that the operator asks for
    return {
        "type": "ClusterIP",
        "selector": labels,
        "ports": [
            {"name": name, "protocol": "TCP", "port": port, "targetPort": name}
            for name, port in ports.items()
        ],
    }


def _accelerators(pod: dict[str, Any]) -> Iterator[str]:
    for container in [*pod["containers"], *(pod.get("initContainers") or ())]:
        for amounts in (container.get("resources") or {}).values():
            yield from (name for name in amounts or () if name.startswith(_ACCELERATORS))


def _cluster_class() -> Any:
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError as error:
        raise RequestError(
            "kubernetes_missing", found="no dask-kubernetes in this environment",
            wanted="dask-kubernetes, which talks to the Dask operator",
            remedy="pip install 'unet-pipeline[kubernetes]'",
        ) from error  # fmt: skip

    class Cluster(KubeCluster):  # type: ignore[misc]
        """Does not wait for ever for a scheduler, and leaves nothing of one that did not come."""

        async def _start(self) -> None:
            try:
                await asyncio.wait_for(super()._start(), SCHEDULER_SECONDS)
            except Exception:
                with suppress(Exception):
                    await self._close()
                self.shutdown_on_close = False  # or it is tried again, in vain, at exit
                raise

    return Cluster


def _invalid(found: str, wanted: str) -> RequestError:
    return RequestError(
        "site_invalid", found=found, wanted=wanted,
        remedy="Compare it with the files to copy in deploy/kubernetes",
    )  # fmt: skip


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__} {lines[0] if lines else ''}".strip()


PLACE = Place(
    start_kubernetes,
    advice="Look at `kubectl get pods` and their events; raise --wait-minutes where nodes take "
    "long to come",
    wait_seconds=600.0,
    adapts=True,
    site=KubernetesSite,
)
