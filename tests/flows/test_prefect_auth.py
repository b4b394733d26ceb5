"""A Prefect server with a password: nobody without it, and our deployments run."""

import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from flow_runs import start_run, wait_for_run

from unet_pipeline.local.prefect_server import prefect_server
from unet_pipeline.local.prefect_worker import worker

pytestmark = pytest.mark.slow
PASSWORD = "canary-of-prefect-0123456789"


def status_of(url: str, body: bytes | None = None) -> int:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def copy_of_database(source: Path, target: Path) -> None:
    files = [sqlite3.connect(home / "prefect.db") for home in (source, target)]
    with closing(files[0]) as made, closing(files[1]) as copy:
        made.backup(copy)


def test_a_server_with_a_password(deployed, database, tmp_path, monkeypatch, s3_env):
    """On a copy of the other server's database, which has the tables and the deployments.

    Of PostgreSQL there is no copy: it is the same database, beside the other server.
    """
    (tmp_path / "home").mkdir(mode=0o700)
    if database is None:
        copy_of_database(deployed.home, tmp_path / "home")
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", f"admin:{PASSWORD}")
    monkeypatch.setenv("UNET_PIPELINE_ALLOW_PREFIXES", f"s3://,{tmp_path}")
    with prefect_server(tmp_path / "home", port=0, database=database) as server:
        assert status_of(f"{server.url}/api/flow_runs/filter", b"{}") == 401
        assert server.api("/deployments/filter", {})
        with worker(server):
            settings = {"images": f"{s3_env.bucket()}/none", "model": "phantom",
                        "output": str(tmp_path / "out"), "cluster": {"kind": "serial"}}  # fmt: skip
            run = wait_for_run(server, start_run(server, "on-demand", settings))
        assert run["state_name"] == "WrongRequest", run["state"]["message"]
        logs = server.api("/logs/filter", {})
        assert PASSWORD not in str(logs) + str(run)
    assert PASSWORD not in "".join(log.read_text() for log in (tmp_path / "home").glob("*.log"))
