"""Prefect's server, behind a password and a guard: ``python -m unet_pipeline_flows.server``.

``prefect server start`` answers every page of every origin under every name. This one asks for a
password always, and answers only under the addresses that it is told, by default loopback
(``UNET_PIPELINE_PREFECT_URLS``).
"""

import argparse
import os
import sys

import uvicorn

from unet_pipeline.local.host_guard import App, HostGuard, origins_of
from unet_pipeline.local.retry import RetryWhenBusy

URLS, AUTH = "UNET_PIPELINE_PREFECT_URLS", "PREFECT_SERVER_API_AUTH_STRING"


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m unet_pipeline_flows.server", description=__doc__
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=4200)
    parser.add_argument("--no-services", action="store_true", help="only the web server")
    asked = parser.parse_args()
    if not os.environ.get(AUTH):
        sys.exit(f"Set {AUTH} to user:password: whoever reaches this server can run code.")
    try:
        origins = origins_of(_urls(asked.port))
    except ValueError as error:
        sys.exit(f"{URLS}: {error}")
    app = _prefect(origins, webserver_only=asked.no_services)
    uvicorn.run(
        HostGuard(RetryWhenBusy(app), origins),
        host=asked.host,
        port=asked.port,
        log_level="warning",
    )


def _urls(port: int) -> list[str]:
    named = [url for url in os.environ.get(URLS, "").split(",") if url.strip()]
    return named or [f"http://{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]


def _prefect(origins: frozenset[str], *, webserver_only: bool) -> App:
    """Return Prefect's own application; it takes its settings as it is imported."""
    os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(sorted(origins))
    from prefect.server.api.server import create_app

    return create_app(final=True, webserver_only=webserver_only)


if __name__ == "__main__":
    main()
