"""What a Dask scheduler shows, and to whom: asked over HTTP as a reader would."""

import ssl
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from distributed.utils import get_ip

from unet_pipeline.cluster.certificates import make_certificates
from unet_pipeline.cluster.dashboard import ASKED
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.cluster.tls import CA

PAGES = ("/status", "/info/main/workers.html", "/json/identity.json", "/metrics", "/sysmon")
ENTRY = "/info/main/workers.html"  # names the workers and where they are


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboard") / "own"
    make_certificates(folder, days=1)
    return folder


def status(link: str, path: str, authority=None) -> int:
    context = None
    if authority is not None:
        context = ssl.create_default_context(cafile=authority)
        context.check_hostname = False  # Dask's processes do not compare names
    try:
        with urlopen(link.replace("/status", path), timeout=10, context=context) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def test_without_certificates_it_is_on_loopback(monkeypatch):
    monkeypatch.delenv(ASKED, raising=False)
    with open_executor(ClusterSpec("local", workers=1)) as executor:
        link = executor.client.dashboard_link
        assert link.startswith("http://127.0.0.1:")
        assert status(link, ENTRY) == 200
        if get_ip() != "127.0.0.1":
            with pytest.raises(OSError, match="refused"):
                status(link.replace("127.0.0.1", get_ip()), ENTRY)


def test_with_certificates_there_is_nothing_to_see(monkeypatch, certificates):
    monkeypatch.delenv(ASKED, raising=False)
    with open_executor(ClusterSpec("local", workers=1, tls=str(certificates))) as executor:
        link = executor.client.dashboard_link
        (worker,) = executor.client.scheduler_info(n_workers=-1)["workers"].values()
        port = worker["services"]["dashboard"]
        for place in (link, f"https://127.0.0.1:{port}/status"):
            assert status(place, "/health", certificates / CA) == 200
            assert {status(place, path, certificates / CA) for path in PAGES} == {404}
        with pytest.raises((OSError, HTTPException)):
            status(link.replace("https", "http"), "/health")


def test_who_asks_for_it_gets_it_encrypted(monkeypatch, certificates, caplog):
    monkeypatch.setenv(ASKED, "127.0.0.1:0")
    caplog.set_level("INFO", "unet_pipeline")
    with open_executor(ClusterSpec("local", workers=1, tls=str(certificates))) as executor:
        link = executor.client.dashboard_link
        assert link.startswith("https://127.0.0.1:")
        assert status(link, ENTRY, certificates / CA) == 200
        assert link in caplog.text
