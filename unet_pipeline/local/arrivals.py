"""Runs that begin when scans have arrived: an event from whoever brings them, and an automation.

Each scan that arrives is said again, by a hook of a PACS, a notification of a bucket, cron. A run
begins once it has been quiet about a place for a while, so one begins for all files of a scan. What
a run may name is still for its worker's site to say.
"""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from unet_pipeline.errors import RequestError
from unet_pipeline.local.password import AUTH, Password, kept_password
from unet_pipeline.local.prefect_api import PrefectApi, prefect_failed
from unet_pipeline.local.up_state import read_status

ARRIVED = "unet-pipeline.scans.arrived"
NAME = "unet-pipeline arrivals"
LEAST_QUIET_SECONDS = 10.0  # Prefect's
URL = "PREFECT_API_URL"
_DEPLOYMENT = "/deployments/name/segment/on-demand"


def tell(server: PrefectApi, images: str) -> None:
    """Say that scans have arrived at a place.

    Raises
    ------
    RequestError
        ``prefect_failed``.
    """
    try:
        server.api("/events", [event_of(images)])
    except OSError as error:
        raise prefect_failed(f"no server at {server.url}", server.home) from error


def event_of(images: str) -> dict[str, Any]:
    """Return the event of scans that arrived, as ``POST /api/events`` takes it in a list."""
    place = sha256(images.encode()).hexdigest()[:32]
    return {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": ARRIVED,
        "resource": {
            "prefect.resource.id": f"unet-pipeline.scans.{place}",
            "prefect.resource.name": images,
        },
        "payload": {"images": images},
    }


def start_on_arrival(server: PrefectApi, quiet_seconds: float | None) -> None:
    """Register the automation that starts ``segment/on-demand`` on what arrived, or remove it.

    Parameters
    ----------
    quiet_seconds
        For how long nothing more must arrive at a place, at least 10; None for no automation.
    """
    for old in server.api("/automations/filter", {}):
        if old["name"] == NAME:
            server.api(f"/automations/{old['id']}", method="DELETE")
    if quiet_seconds is not None:
        server.api("/automations/", automation(server.api(_DEPLOYMENT), quiet_seconds))


def automation(deployment: Mapping[str, Any], quiet_seconds: float) -> dict[str, Any]:
    """Return the automation as Prefect's API takes it; all else is as the deployment says."""
    images = {"__prefect_kind": "jinja", "template": "{{ event.payload.images }}"}
    settings = {**deployment["parameters"].get("settings", {}), "images": images}
    return {
        "name": NAME,
        "description": "Segments what has arrived, once no more of it does",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Proactive",  # when it is *not* said again
            "match": {"prefect.resource.id": "unet-pipeline.scans.*"},
            "after": [ARRIVED],
            "expect": [ARRIVED],
            "for_each": ["prefect.resource.id"],
            "threshold": 1,
            "within": max(quiet_seconds, LEAST_QUIET_SECONDS),
        },
        "actions": [
            {
                "type": "run-deployment",
                "source": "selected",
                "deployment_id": deployment["id"],
                "parameters": {"settings": settings},
            }
        ],
    }


def server_to_tell(home: Path) -> PrefectApi:
    """Return the server that Prefect's own variables name, or that ``up`` runs in a folder.

    Raises
    ------
    RequestError
        ``prefect_failed`` if there is none.
    """
    if url := os.environ.get(URL):
        password = Password(os.environ.get(AUTH, ""), None, made=False)
        page = url.rstrip("/").removesuffix("/api")
        return PrefectApi(url=page, home=home, password=password)
    status, kept = read_status(home.resolve()), kept_password(home)
    if status is None or kept is None:
        raise _nobody(home)
    return PrefectApi(url=status.url, home=home, password=kept)


def _nobody(home: Path) -> RequestError:
    return prefect_failed(f"no server that `up` runs in {home}, and no {URL}", home)
