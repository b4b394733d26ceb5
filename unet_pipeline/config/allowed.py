"""What a run may name: the site's to say, not the run's.

Whoever fills in a run form chooses images, bundle, output and cluster, and the worker's rights and
keys do the rest. So whoever starts the worker says in its environment which of them may be named;
what is not allowed ends the run before anything is opened. The command line asks nobody: its user
has those rights already.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.storage.urls import fixed_part

VARIABLE = {
    "trust": "UNET_PIPELINE_ALLOW_TRUST",
    "endpoint": "UNET_PIPELINE_ALLOW_ENDPOINTS",
    "prefix": "UNET_PIPELINE_ALLOW_PREFIXES",
    "cluster": "UNET_PIPELINE_ALLOW_CLUSTERS",
    "file": "UNET_PIPELINE_ALLOW_FILES",
    "profile": "UNET_PIPELINE_ALLOW_PROFILES",
}


@dataclass(frozen=True)
class Allowed:
    """What the runs of a worker may name.

    Attributes
    ----------
    trust
        Bundles whose own code may run: as a run names them, or ``sha256:...``.
    endpoints
        Addresses of S3 servers.
    prefixes
        Where images, masks, bundles, outputs and scratch may lie.
    clusters
        Addresses of Dask schedulers: whoever answers there is believed, pickles included.
    files
        Site files and folders of certificates: a site file says what a job runs.
    profiles
        Profiles of the AWS credentials file.
    """

    trust: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    clusters: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    profiles: frozenset[str] = frozenset()

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> "Allowed":
        """Return what the worker's environment allows.

        What the deployments are registered with (``UNET_PIPELINE_IMAGES`` and so on) may be named,
        and so may the worker's own endpoint and profile. Of prefixes, where none is said, all
        buckets that its keys reach and the folder of its user; of all else nothing.
        """
        said = {kind: _listed(env, name) for kind, name in VARIABLE.items()}
        own = [
            env.get(f"UNET_PIPELINE_{name}") for name in ("IMAGES", "MODEL", "OUTPUT", "SCRATCH")
        ]
        prefixes = said["prefix"] or ["s3://", str(Path.home())]
        return cls(
            trust=frozenset(said["trust"]),
            endpoints=_with(said["endpoint"], env, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
            prefixes=(*prefixes, *(fixed_part(place) for place in own if place and "/" in place)),
            clusters=_with(said["cluster"], env, "UNET_PIPELINE_CLUSTER"),
            files=_with(said["file"], env, "UNET_PIPELINE_SITE"),
            profiles=_with(said["profile"], env, "AWS_PROFILE"),
        )


def _listed(env: Mapping[str, str], name: str) -> list[str]:
    return [one.strip() for one in env.get(name, "").split(",") if one.strip()]


def _with(said: list[str], env: Mapping[str, str], *names: str) -> frozenset[str]:
    return frozenset([*said, *(env[name] for name in names if env.get(name))])
