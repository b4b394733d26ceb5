"""Whoever has no password, or comes from a page that is not ours, starts nothing: a real browser.

Before there was a password, each of these pages had a bundle's code run as the worker.
"""

import base64
import os
import socket
import stat
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest
from browsing import BROWSER, browser, log_in
from flow_runs import deployment, wait_for_run
from strange_pages import ATTEMPTS, another_origin, bundle_that_leaves_a_mark

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine"),
]
NAME = "http://rebound.example"  # a stranger's name that he lets point to loopback


@pytest.fixture
def wanted(deployed, tmp_path):
    """What a stranger asks for: a run that trusts a bundle of his."""
    mark = tmp_path / "code-ran"
    settings = {
        "images": str(tmp_path / "scans"), "model": bundle_that_leaves_a_mark(
            tmp_path / "bundle", mark), "output": str(tmp_path / "out"), "trust": True,
        "cluster": {"kind": "serial"},
    }  # fmt: skip
    before = runs(deployed)
    id_ = deployment(deployed, "on-demand")["id"]
    yield {"api": f"{deployed.url}/api", "settings": settings, "id": id_}
    assert runs(deployed) == before
    assert not mark.exists()


def runs(server):
    return {run["id"] for run in server.api("/flow_runs/filter", {})}


def test_a_page_of_another_origin_starts_nothing(wanted):
    with another_origin() as origin, browser() as chromium:
        page = chromium.new_page()
        page.goto(origin)
        said = page.evaluate(ATTEMPTS, wanted)
    assert said["socket"] == "refused"
    assert all("Failed to fetch" in str(said[name]) for name in ("plain", "cookies"))


def test_a_page_that_is_logged_in_beside_it_does_not_help(deployed, wanted):
    with another_origin() as origin, browser() as chromium:
        context = chromium.new_context()
        log_in(context.new_page(), deployed)
        page = context.new_page()
        page.goto(origin)
        said = page.evaluate(ATTEMPTS, wanted)
    assert said["socket"] == "refused"
    assert all("Failed to fetch" in str(said[name]) for name in ("plain", "cookies"))


def test_a_name_that_a_stranger_lets_point_here_reaches_nothing(deployed, wanted):
    """DNS rebinding: to the browser our server then is the stranger's own page."""
    port = urlsplit(deployed.url).port
    with browser("--host-resolver-rules=MAP rebound.example 127.0.0.1") as chromium:
        context = chromium.new_context()
        log_in(context.new_page(), deployed)
        page = context.new_page()
        answer = page.goto(f"{NAME}:{port}/")
        assert answer.status == 421
        said = page.evaluate(ATTEMPTS, {**wanted, "api": f"{NAME}:{port}/api"})
    assert (said["plain"], said["cookies"], said["socket"]) == (421, 421, "refused")


def test_the_page_works_with_the_password_for_its_user(deployed):
    """A run is started from the form, as a user does."""
    before = runs(deployed)
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1300, "height": 2600})
        log_in(page, deployed)
        id_ = deployment(deployed, "on-demand", "check")["id"]
        page.goto(f"{deployed.url}/deployments/deployment/{id_}/run")
        page.get_by_text("A prefix or folder, a glob").first.wait_for(timeout=60_000)
        with page.expect_response("**/create_flow_run", timeout=60_000) as answer:
            page.get_by_role("button", name="Submit").click()
        assert answer.value.status == 201
    (new,) = runs(deployed) - before
    run = wait_for_run(deployed, deployed.api(f"/flow_runs/{new}"))
    assert run["state_name"] == "WrongRequest"  # there is no bucket `scans` here


def status(server, path="/api/flow_runs/filter", method="POST", **headers):
    token = base64.b64encode(server.password.text.encode()).decode()
    given = {"Authorization": f"Basic {token}", "Content-Type": "application/json", **headers}
    body = b"{}" if method == "POST" else None
    request = urllib.request.Request(f"{server.url}{path}", body, given, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_guard_answers_to_its_own_names_only(server):
    port = urlsplit(server.url).port
    assert status(server) == 200
    assert status(server, Authorization="Basic YWRtaW46YWRtaW4=") == 401
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
        assert status(server, Host=host) == 200
    for host in ("rebound.example", f"rebound.example:{port}", "127.0.0.1", "127.0.0.1:80", ""):
        assert status(server, Host=host) == 421, host
        assert status(server, "/dashboard", "GET", Host=host) == 421, host
    for origin in ("null", "http://rebound.example", f"https://127.0.0.1:{port}",
                   f"http://127.0.0.1:{port}.rebound.example"):  # fmt: skip
        assert status(server, Origin=origin) == 403, origin
    assert status(server, Origin=server.url) == 200
    assert status(server, "/api/health", "GET", Host="10.0.0.7:4200") == 200  # a pod's probe


def test_no_other_address_of_this_machine_answers(server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        address = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((address, urlsplit(server.url).port), timeout=5)


def test_the_password_is_made_and_kept_for_its_owner_alone(server):
    user, _, secret = server.password.text.partition(":")
    assert (user, len(secret)) == ("admin", 32)
    for name in ("password", "profiles.toml"):
        assert stat.S_IMODE((server.home / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(server.home.stat().st_mode) & 0o077 == 0
    assert secret not in (server.home / "server.log").read_text() + repr(server)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")
    }
    elsewhere = {**environment, "PREFECT_HOME": str(server.home)}
    assert "on-demand" in _prefect(elsewhere, "deployment", "ls")


def _prefect(env, *words):
    import subprocess
    import sys

    return subprocess.run(
        [sys.executable, "-m", "prefect", *words], env=env, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
