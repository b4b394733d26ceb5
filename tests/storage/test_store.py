import hashlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.storage.store import StorageOptions, Store, join, relative_to

ROOT = Path(__file__).resolve().parents[2]
DATA = bytes(range(256)) * 40


@pytest.fixture(params=["local", "file", "memory", "s3"])
def place(request, tmp_path):
    """A store and an empty prefix in it."""
    if request.param == "local":
        return Store(), str(tmp_path)
    if request.param == "file":
        return Store(), tmp_path.as_uri()
    if request.param == "memory":
        return Store(), f"memory://{uuid.uuid4().hex}"
    s3 = request.getfixturevalue("s3")
    return s3.store, s3.bucket()


class Relay:
    """A TCP relay before a server: counts the bytes it brings back, and cuts long answers."""

    def __init__(self, endpoint_url):
        host, _, port = endpoint_url.removeprefix("http://").partition(":")
        self.target = host, int(port)
        self.received = 0
        self.limit = None
        self.open = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
            except OSError:
                return
            self.open += [client, server]
            for pair in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def close(self):
        for end in (self.listener, *self.open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pump(self, source, target, is_answer):
        carried = 0
        try:
            while data := source.recv(65536):
                carried += len(data)
                if is_answer:
                    self.received += len(data)
                    if self.limit is not None and carried > self.limit:
                        break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def relay(s3):
    relay = Relay(s3.endpoint_url)
    yield relay
    relay.close()


def through(relay, s3):
    return Store(StorageOptions(endpoint_url=relay.url, key=s3.key, secret=s3.secret))


def test_what_is_written_can_be_read(place):
    store, root = place
    url = join(root, "a", "x é+%20.nii")
    store.write(url, DATA)
    assert store.read(url) == DATA
    assert store.read_range(url, 10, 20) == DATA[10:30]
    assert store.read_range(url, len(DATA) - 5, 20) == DATA[-5:]
    assert store.read_range(url, len(DATA), 20) == b""
    assert store.read_range(url, 3, 0) == b""
    with store.open(url) as file:
        assert file.read(7) == DATA[:7]
        file.seek(100)
        assert file.tell() == 100
        assert file.read() == DATA[100:]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_write_takes_any_buffer_and_replaces(place, kind):
    store, root = place
    url = join(root, "x")
    store.write(url, b"a longer first version")
    store.write(url, kind(b"second"))
    assert store.read(url) == b"second"
    store.write(url, kind(b""))
    assert store.read(url) == b""
    assert store.read_range(url, 0, 10) == b""
    assert store.fingerprint(url).size == 0


def test_existence_folders_and_removal(place):
    store, root = place
    url = join(root, "a", "b", "x")
    assert not store.exists(url)
    store.remove(url)
    store.write(url, DATA)
    assert store.exists(url)
    assert store.exists(join(root, "a"))
    assert not store.is_folder(url)
    assert store.is_folder(join(root, "a"))
    assert not store.is_folder(join(root, "c"))
    store.remove(url)
    assert not store.exists(url)


def test_list_files_of_a_prefix_a_glob_and_a_file(place):
    store, root = place
    for name in ("b/x.nii", "b/c/y.nii.gz", "a.txt", "b2/x.nii"):
        store.write(join(root, name), b"1")

    def listed(*parts):
        return [relative_to(url, root) for url in store.list_files(join(root, *parts))]

    assert listed() == ["a.txt", "b/c/y.nii.gz", "b/x.nii", "b2/x.nii"]
    assert listed("b") == ["b/c/y.nii.gz", "b/x.nii"]
    assert listed("b/x.nii") == ["b/x.nii"]
    assert listed("none") == []
    assert listed("*/x.nii") == ["b/x.nii", "b2/x.nii"]
    assert listed("**/*.nii*") == ["b/c/y.nii.gz", "b/x.nii", "b2/x.nii"]
    assert listed("[b]?/x.*") == ["b2/x.nii"]
    with pytest.raises(RequestError) as caught:
        listed("**.nii")
    assert caught.value.code == "url_invalid"


def test_a_name_with_brackets_is_no_glob_if_it_exists(place):
    store, root = place
    store.write(join(root, "scan[1]", "x.nii"), b"1")
    assert not store.is_pattern(join(root, "scan[1]"))
    assert len(store.list_files(join(root, "scan[1]"))) == 1


def test_fingerprint_changes_with_the_content(place, request):
    store, root = place
    url = join(root, "x")
    store.write(url, b"first")
    first = store.fingerprint(url)
    store.write(url, b"other")
    other = store.fingerprint(url)
    assert first.size == other.size == 5
    if root.startswith("s3://"):
        assert first.etag == hashlib.md5(b"first").hexdigest()
        assert other.etag == hashlib.md5(b"other").hexdigest()
    else:
        assert first != other
        assert first.etag is other.etag is None


@pytest.mark.parametrize("method", ["read", "open", "fingerprint"])
def test_a_missing_object_is_the_fault_of_one_case(place, method):
    store, root = place
    store.write(join(root, "folder", "x"), b"1")
    for missing in ("missing", "folder/x/y"):
        with pytest.raises(CaseError) as caught:
            getattr(store, method)(join(root, missing))
        assert caught.value.code == "file_missing"
    with pytest.raises(CaseError):
        store.read_range(join(root, "missing"), 0, 4)


def test_probes_leave_nothing_behind(place):
    store, root = place
    store.check_writable(join(root, "out", "deeper"))
    assert store.list_files(root) == []
    store.check_reachable(root)


def test_an_output_that_is_a_file_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    for url in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "deeper"):
        with pytest.raises(RequestError) as caught:
            Store().check_writable(str(url))
        assert caught.value.code == "output_is_file"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_local_folder_that_is_missing(tmp_path):
    for url in (tmp_path / "none", tmp_path / "none" / "*.nii"):
        with pytest.raises(RequestError) as caught:
            Store().check_reachable(str(url))
        assert caught.value.code == "folder_missing"
    Store().check_reachable(str(tmp_path / "*.nii"))


def test_relative_local_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Store().write("out/x", b"1")
    assert Store().list_files("out") == [str(tmp_path / "out" / "x")]


def test_a_failed_local_write_leaves_no_temporary_file(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(CaseError) as caught:
        Store().write(str(tmp_path / "x"), DATA)
    assert caught.value.code == "storage_failed"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(RequestError) as caught:
        Store().check_writable(str(tmp_path / "file" / "out"))
    assert "file" in str(caught.value)


def test_local_files_get_the_usual_rights(tmp_path):
    Store().write(str(tmp_path / "x"), b"1")
    (tmp_path / "y").write_bytes(b"1")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode


def test_local_listing_follows_links_once(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.nii").write_bytes(b"1")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "gone.nii").symlink_to(tmp_path / "nothing")
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "linked").symlink_to(tmp_path / "data")
    found = Store().list_files(str(tmp_path / "cohort"))
    names = [relative_to(url, str(tmp_path / "cohort")) for url in found]
    assert names == ["linked/gone.nii", "linked/x.nii"]


WRITER = """
import sys
from unet_pipeline.storage.store import StorageOptions, Store
url, megabytes, *options = sys.argv[1:]
options = dict(zip(["endpoint_url", "key", "secret"], options))
Store(StorageOptions(**options)).write(url, b"n" * (int(megabytes) * 2**20))
"""


def kill_while_writing(begun, arguments, writer=WRITER):
    """Start a writer, kill -9 it once it has begun to write; say if it was in time."""
    command = [sys.executable, "-c", writer, *arguments]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as writer:
        while writer.poll() is None:
            if begun(writer.pid):
                writer.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
    return writer.returncode == -signal.SIGKILL


def has_file_in(folder, pattern):
    return lambda _pid: any(part.stat().st_size for part in folder.glob(pattern))


def has_nameless_file_in(folder):
    def begun(pid):
        with suppress(OSError):
            files = [*Path(f"/proc/{pid}/fd").iterdir()]
            return any(
                str(one.readlink()).startswith(f"{folder}/") and one.stat().st_size for one in files
            )
        return False

    return begun


@pytest.mark.skipif(sys.platform != "linux", reason="files without a name are Linux's")
def test_killing_a_local_writer_keeps_the_old_object_and_leaves_nothing(tmp_path):
    url = str(tmp_path / "x")
    Store().write(url, b"old")
    assert kill_while_writing(has_nameless_file_in(tmp_path), [url, "200"])
    assert Store().read(url) == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


def test_what_a_killed_writer_leaves_is_no_object_where_files_have_names(tmp_path):
    url = str(tmp_path / "x")
    Store().write(url, b"old")
    named = f"import os\nos.__dict__.pop('O_TMPFILE', None)\n{WRITER}"
    assert kill_while_writing(has_file_in(tmp_path, ".*.part"), [url, "200"], named)
    assert list(tmp_path.glob(".*.part"))
    assert Store().read(url) == b"old"
    assert Store().list_files(str(tmp_path)) == [url]


def test_killing_an_s3_writer_keeps_the_old_object(s3):
    bucket = s3.bucket()
    url = join(bucket, "x")
    s3.store.write(url, b"old")
    folder = s3.server.folder / bucket.removeprefix("s3://")
    arguments = [url, "200", s3.endpoint_url, s3.key, s3.secret]
    assert kill_while_writing(has_file_in(folder, ".rclone_temp_*"), arguments)
    assert s3.store.read(url) == b"old"
    assert s3.store.list_files(bucket) == [url]


def test_the_tail_of_an_object(place):
    store, root = place
    url = join(root, "tail.bin")
    store.write(url, b"0123456789")
    assert store.read_tail(url, 4) == b"6789"


def test_range_read_fetches_no_more_than_asked(s3, relay):
    url = join(s3.bucket(), "big.nii")
    s3.store.write(url, bytes(20 * 2**20))
    store = through(relay, s3)
    assert len(store.read_range(url, 5, 1000)) == 1000
    assert relay.received < 10_000


def test_a_line_cut_while_reading_is_the_fault_of_one_case(s3, relay):
    url = join(s3.bucket(), "big.nii")
    s3.store.write(url, bytes(20 * 2**20))
    relay.limit = 2 * 2**20
    store = through(relay, s3)
    for attempt in (store.read, lambda url: store.open(url).read()):
        with pytest.raises(CaseError) as caught:
            attempt(url)
        assert caught.value.code == "storage_failed"


def test_a_file_replaced_while_it_is_read_is_noticed(s3):
    url = join(s3.bucket(), "big.nii")
    s3.store.write(url, b"o" * (20 * 2**20))
    with s3.store.open(url) as file:
        assert file.read(10) == b"o" * 10
        s3.store.write(url, b"n" * (20 * 2**20))
        with pytest.raises(CaseError) as caught:
            file.read()
    assert caught.value.code == "input_changed"
    assert "replaced" in caught.value.found


@pytest.mark.parametrize("seen", ["nothing", "another"])
def test_a_write_replaces_only_what_was_seen(place, seen):
    store, root = place
    url = join(root, "x")
    first = store.write(url, b"seen")
    assert store.find(url) == first
    over = None if seen == "nothing" else first
    store.write(url, b"of another hand")
    with pytest.raises(CaseError) as caught:
        store.write(url, b"ours", over=over)
    assert caught.value.code == "output_changed"
    assert store.read(url) == b"of another hand"
    assert [relative_to(file, root) for file in store.list_files(root)] == ["x"]
    store.write(url, b"ours", over=store.find(url))
    store.write(join(root, "y"), b"ours", over=None)
    assert store.read(url) == store.read(join(root, "y")) == b"ours"


def test_missing_bucket(s3):
    url = "s3://no-such-bucket/x"
    for method in ("read", "open", "fingerprint", "list_files", "check_reachable"):
        with pytest.raises(RequestError) as caught:
            getattr(s3.store, method)(url)
        assert caught.value.code == "bucket_missing"
        assert "no-such-bucket" in str(caught.value)
    for write in (s3.store.check_writable, lambda url: s3.store.write(url, b"1")):
        with pytest.raises(RequestError) as caught:
            write(url)
        assert caught.value.code == "bucket_missing"
    assert not s3.store.exists(url)


@pytest.mark.parametrize("wrong", ["key", "secret"])
def test_refused_keys(s3, wrong):
    options = {"key": s3.key, "secret": s3.secret, wrong: "wrong-wrong-wrong"}
    store = Store(StorageOptions(endpoint_url=s3.endpoint_url, **options))
    url = join(s3.bucket(), "x")
    s3.store.write(url, b"1")
    methods = ("read", "open", "fingerprint", "exists", "list_files", "check_reachable")
    for method in (*methods, "check_writable"):
        with pytest.raises(RequestError) as caught:
            getattr(store, method)(url)
        assert caught.value.code == "access_denied"
        assert s3.secret not in str(caught.value)
        assert "wrong-wrong-wrong" not in str(caught.value)


def test_no_keys_at_all(s3, no_aws):
    for options in ({}, {"key": "only-a-key"}):
        store = Store(StorageOptions(endpoint_url=s3.endpoint_url, **options))
        with pytest.raises(RequestError) as caught:
            store.check_reachable("s3://bucket")
        assert caught.value.code == "credentials_missing"


def test_profiles(s3, no_aws, tmp_path):
    bucket = s3.bucket()
    with pytest.raises(RequestError) as caught:
        Store(StorageOptions(profile="archive")).check_reachable(bucket)
    assert caught.value.code == "profile_unknown"
    assert "archive" in str(caught.value)
    (tmp_path / "aws-credentials").write_text(
        f"[archive]\naws_access_key_id={s3.key}\naws_secret_access_key={s3.secret}\n"
    )
    Store(StorageOptions(s3.endpoint_url, profile="archive")).check_writable(bucket)


def test_settings_from_the_environment(s3_env, monkeypatch):
    bucket = s3_env.bucket()
    Store().check_writable(bucket)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-wrong-wrong")
    with pytest.raises(RequestError) as caught:
        Store().check_writable(bucket)
    assert caught.value.code == "access_denied"


def test_a_loopback_endpoint_needs_no_proxy(s3, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    bucket = s3.bucket()
    fresh = StorageOptions(s3.endpoint_url, region="eu-west-1", key=s3.key, secret=s3.secret)
    Store(fresh).check_writable(bucket)


def test_unreachable_endpoint_fails_within_seconds():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    options = StorageOptions(f"http://127.0.0.1:{port}", key="key-key-key", secret="secret-secret")
    start = time.monotonic()
    with pytest.raises(RequestError) as caught:
        Store(options).check_reachable("s3://bucket/prefix")
    assert time.monotonic() - start < 15
    assert caught.value.code == "endpoint_unreachable"
    assert f"127.0.0.1:{port}" in str(caught.value)


UNTRIED = (
    "reference", "ftp", "sftp", "ssh", "webhdfs", "hdfs", "jupyter", "generic", "dbfs", "hf",
    "http", "https", "gs", "abfs", "zip", "tar", "cached", "simplecache", "github",
    "smb", "git", "data", "dir", "libarchive", "lakefs", "oss", "dask", "filecache", "",
)  # fmt: skip


@pytest.mark.parametrize(
    ("url", "endpoint_url", "code"),
    [
        ("nonsense://x", None, "protocol_unknown"),
        *((f"{protocol}://host/x", None, "protocol_unknown") for protocol in UNTRIED),
        ("s3://bucket", "localhost:9000", "endpoint_invalid"),
        ("s3://", "http://127.0.0.1:9", "url_invalid"),
        ("/data/\0/x", None, "url_invalid"),
    ],
)
def test_urls_that_cannot_be_used(url, endpoint_url, code):
    options = StorageOptions(endpoint_url, key="key-key-key", secret="secret-secret")
    with pytest.raises(RequestError) as caught:
        Store(options).check_reachable(url)
    assert caught.value.code == code


def test_a_store_can_be_sent_to_workers_and_printed(s3):
    assert pickle.loads(pickle.dumps(s3.store)) == s3.store
    assert s3.secret not in repr(s3.store)
    assert s3.key not in repr(s3.store)
