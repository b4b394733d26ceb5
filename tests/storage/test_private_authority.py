"""S3 over TLS, its certificate signed by an authority of one's own: a real server."""

import os
import secrets
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.errors import RequestError
from unet_pipeline.local.s3_server import S3Server, serve_s3
from unet_pipeline.storage.store import StorageOptions, Store


def sign(name: str, subject, authority, *, ca: bool) -> bytes:
    """Return a certificate (PEM) of a server at 127.0.0.1, or of the authority itself."""
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (name, "Our own CA")]
    loopback = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(subject.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(loopback, critical=False)
        .add_extension(identifier, critical=False)
        .sign(authority, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """``ca.pem``, and the certificate and key of a server that it signed."""
    folder = tmp_path_factory.mktemp("authority")
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    (folder / "ca.pem").write_bytes(sign("Our own CA", authority, authority, ca=True))
    (folder / "server.pem").write_bytes(sign("server", server, authority, ca=False))
    key = server.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "key.pem").write_bytes(key)
    return folder


@pytest.fixture(scope="module")
def locked(place, tmp_path_factory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("s3-tls")
    tls = (place / "server.pem", place / "key.pem")
    with serve_s3(folder, key="test-key-0002", secret=secrets.token_hex(16), tls=tls) as server:
        yield server


@pytest.fixture
def variables(locked, no_aws, monkeypatch) -> S3Server:
    """The server and its keys in the environment; its authority is not known."""
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    for name, value in locked.environment().items():
        monkeypatch.setenv(name, value)
    return locked


def test_a_server_of_our_own_authority_is_listed_read_and_written(variables, place, monkeypatch):
    assert variables.endpoint_url.startswith("https://")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(place / "ca.pem"))
    url = f"{variables.make_bucket('scans')}/a/x.bin"
    Store().write(url, b"voxels")
    assert Store().list_files("s3://scans/a") == [url]
    assert Store().read(url) == b"voxels"
    assert Store().read_range(url, 1, 2) == b"ox"
    assert (variables.folder / "scans/a/x.bin").read_bytes() == b"voxels"


def test_an_authority_that_is_not_known_is_refused_with_what_to_do(variables):
    variables.make_bucket("other")
    with pytest.raises(RequestError) as caught:
        Store().check_reachable("s3://other/a")
    assert caught.value.code == "certificate_unknown"
    assert "AWS_CA_BUNDLE" in caught.value.remedy
    with pytest.raises(RequestError) as caught:
        Store().write("s3://other/a", b"voxels")
    assert caught.value.code == "certificate_unknown"
    assert not list((variables.folder / "other").iterdir())


def test_another_authority_is_refused(variables, tmp_path, monkeypatch):
    stranger = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ca.pem").write_bytes(sign("Our own CA", stranger, stranger, ca=True))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with pytest.raises(RequestError) as caught:
        Store().check_reachable("s3://other/a")
    assert caught.value.code == "certificate_unknown"


def test_a_bundle_of_no_certificates_is_named(variables, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(RequestError) as caught:
        Store().check_reachable("s3://other/a")
    assert caught.value.code == "ca_bundle_invalid"
    (tmp_path / "none.pem").write_text("not a certificate")
    with pytest.raises(RequestError) as caught:
        Store().check_reachable("s3://other/a")
    assert caught.value.code == "ca_bundle_invalid"


@pytest.mark.slow
def test_workers_know_the_authority_by_the_same_variable(variables, place, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(place / "ca.pem"))
    url = f"{variables.make_bucket('work')}/x.bin"
    with open_executor(ClusterSpec("local", 1)) as executor:
        assert executor.result(executor.submit(os.getpid)) != os.getpid()
        executor.result(executor.submit(Store().write, url, b"labels"))
    assert Store().read(url) == b"labels"


def test_nothing_is_said_in_the_clear(variables):
    """The port speaks TLS only: a client that does not check sees the authority's name."""
    host, port = "127.0.0.1", int(variables.endpoint_url.rpartition(":")[2])
    certificate = ssl.get_server_certificate((host, port))
    issuer = x509.load_pem_x509_certificate(certificate.encode()).issuer
    assert issuer.rfc4514_string() == "CN=Our own CA"
    with pytest.raises(RequestError) as caught:
        Store(StorageOptions(endpoint_url=f"http://{host}:{port}")).check_reachable("s3://other/a")
    assert caught.value.code in {"endpoint_unreachable", "storage_failed"}
