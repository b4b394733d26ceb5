"""The pages that a Dask scheduler shows of a run: where, and to whom.

They name files. Without certificates they are on loopback, for all who are on this machine. With
them (``--tls``) there are none, unless somebody asks for them; they are then encrypted, but Dask
asks no reader for a certificate.
"""

import os
from typing import Any

from distributed import Security

ASKED = "UNET_PIPELINE_DASHBOARD"  # the address to show them at
_NO_PAGES = ["distributed.http.health"]


def is_shown(security: Security | None) -> bool:
    """Say whether there are any."""
    return security is None or ASKED in os.environ


def dashboard_options(security: Security | None) -> dict[str, Any]:
    """Return what a scheduler of ours is told of them; by default they are at a port that is free.

    Without them it still answers there whether it is alive.
    """
    address = os.environ.get(ASKED, "127.0.0.1:0")
    return {"dashboard": is_shown(security), "dashboard_address": address}


def dashboard_config(security: Security | None) -> dict[str, Any]:
    """Return what Dask is to know of them where it starts schedulers and workers."""
    if security is None:
        return {}
    files = security.get_tls_config_for_role("scheduler")
    config: dict[str, Any] = {
        f"distributed.scheduler.dashboard.tls.{name.replace('_', '-')}": files[name]
        for name in ("ca_file", "cert", "key")
    }
    if not is_shown(security):
        for role in ("scheduler", "worker"):
            config[f"distributed.{role}.http.routes"] = _NO_PAGES
    return config
