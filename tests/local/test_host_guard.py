"""The guard in front of Prefect's server, by the requests that browsers and rebound names send."""

import os
import subprocess
import sys

import pytest

from unet_pipeline.local.host_guard import HostGuard, origins_of


async def nothing(*_) -> None:
    pass


GUARD = HostGuard(nothing, origins_of(["http://127.0.0.1:4200", "https://Prefect.example.org/"]))


def refusal(path="/api/flows", method="POST", kind="http", **headers) -> int:
    given = {"host": "127.0.0.1:4200", **headers}
    pairs = [(name.encode(), value.encode()) for name, value in given.items() if value is not None]
    return GUARD.refusal({"type": kind, "method": method, "path": path, "headers": pairs})


@pytest.mark.parametrize("host", ["127.0.0.1:4200", "prefect.example.org", "PREFECT.example.org"])
def test_its_own_names_and_pages_pass(host):
    assert refusal(host=host) == 0
    assert refusal(host=host, origin="https://prefect.example.org") == 0


@pytest.mark.parametrize(
    "host", [None, "", "rebound.example", "127.0.0.1", "127.0.0.1:80", "localhost:4200",
             "prefect.example.org.rebound.example", "prefect.example.org:4200"],
)  # fmt: skip
def test_no_other_name_passes(host):
    assert refusal(host=host) == refusal(path="/", method="GET", host=host) == 421
    assert refusal(kind="websocket", host=host) == 421


@pytest.mark.parametrize(
    "origin", ["null", "", "http://rebound.example", "http://prefect.example.org",
               "http://127.0.0.1:4201", "http://127.0.0.1:4200.rebound.example"],
)  # fmt: skip
def test_no_page_of_another_origin_passes(origin):
    assert refusal(origin=origin) == refusal(kind="websocket", origin=origin) == 403


def test_two_hosts_do_not_pass_where_one_of_them_would():
    headers = [(b"host", b"127.0.0.1:4200"), (b"host", b"rebound.example")]
    assert GUARD.refusal({"type": "http", "path": "/", "method": "GET", "headers": headers}) == 421


def test_probes_of_pods_pass_and_nothing_beside_them():
    assert refusal("/api/health", "GET", host="10.0.0.7:4200") == 0
    assert refusal("/api/health", "POST", host="10.0.0.7:4200") == 421
    assert refusal("/api/health/x", "GET", host="10.0.0.7:4200") == 421


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "PREFECT_SERVER_API_AUTH_STRING"),
        ({"PREFECT_SERVER_API_AUTH_STRING": "a:b", "UNET_PIPELINE_PREFECT_URLS": "*"}, "'*'"),
    ],
)
def test_the_server_does_not_start_with_an_open_guard(variables, said):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-m", "unet_pipeline_flows.server", "--port", "0"],
        env={**kept, **variables}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert said in done.stderr
