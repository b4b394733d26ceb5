"""TLS between Dask processes, on real ones."""

import socket
import subprocess
import sys

import pytest
from cohorts import small_cohort

from unet_pipeline.cluster.certificates import make_certificates
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.cluster.tls import CA, CERTIFICATE, KEY, security_of
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.storage.store import Store


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls") / "own"
    make_certificates(folder, days=1)
    return folder


def test_a_cohort_runs_between_processes_that_show_certificates(certificates, tmp_path):
    scans = small_cohort(Store(), str(tmp_path / "scans"), n_cases=2)
    settings = SegmentSettings(
        images=scans.images, masks=scans.masks, model="phantom", output=str(tmp_path / "out"),
        cluster=ClusterSettings(kind="local", workers=1, threads=1, tls=str(certificates)),
    )  # fmt: skip
    with open_executor(settings.cluster.spec()) as executor:
        assert executor.client.scheduler.address.startswith("tls://")
        records = {record.case: record for record in run_segment(open_segment(settings), executor)}
    assert records[scans.sound[0]].status == "done"


@pytest.fixture(scope="module")
def scheduler(certificates):
    """Start the scheduler and a worker as an operator would: with Dask's own commands."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = ["--tls-ca-file", certificates / CA, "--tls-cert", certificates / CERTIFICATE]
    files += ["--tls-key", certificates / KEY]
    address = f"tls://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    commands = (
        [*dask, "scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", str(port),
         "--no-dashboard", *files],
        [*dask, "worker", address, "--no-dashboard", "--nthreads", "1", *files],
    )  # fmt: skip
    processes = [subprocess.Popen(list(map(str, command))) for command in commands]
    yield address
    for process in reversed(processes):
        process.terminate()
        process.wait(20)


def test_a_locked_scheduler_lets_in_who_has_its_certificate(scheduler, certificates):
    with open_executor(ClusterSpec(scheduler, tls=str(certificates))) as executor:
        assert executor.result(executor.submit(int, "7")) == 7


KNOCK = """
import sys
from distributed import Client, Security
address, ca, certificate, key = sys.argv[1:]
files = {"tls_client_cert": certificate, "tls_client_key": key} if certificate else {}
security = Security(tls_ca_file=ca, require_encryption=True, **files) if ca else None
try:
    Client(address, security=security, timeout=5)
except (OSError, TypeError) as error:
    sys.exit(f"refused: {type(error).__name__}")
"""


def knock(address, ca="", certificate="", key=""):
    """Try to get in from a process of its own, and return what it says."""
    files = list(map(str, (ca, certificate, key)))
    done = subprocess.run(
        [sys.executable, "-c", KNOCK, address, *files], capture_output=True, text=True, timeout=90
    )
    return done.returncode, done.stderr


def test_the_way_in_is_the_certificate(scheduler, certificates):
    ours = certificates / CA, certificates / CERTIFICATE, certificates / KEY
    assert knock(scheduler, *ours)[0] == 0
    for refused in (
        knock(scheduler, certificates / CA),  # no certificate
        knock(scheduler.replace("tls://", "tcp://")),  # no TLS
    ):
        assert refused[0] == 1
        assert "refused" in refused[1]


def test_a_certificate_of_another_authority_is_refused(scheduler, certificates, tmp_path):
    other = tmp_path / "other"
    make_certificates(other, days=1)
    for ca in (certificates / CA, other / CA):
        status, said = knock(scheduler, ca, other / CERTIFICATE, other / KEY)
        assert status == 1
        assert "refused" in said


STRANGER = """
import sys
from unet_pipeline.cluster import backends, starting
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.errors import RequestError
backends.CONNECT_SECONDS = 3.0
try:
    with starting.open_executor(ClusterSpec(sys.argv[1], tls=sys.argv[2])):
        pass
except RequestError as error:
    sys.exit(f"{error.code}: {error.remedy}")
"""


def test_a_stranger_is_told_so_in_one_line(scheduler, tmp_path):
    make_certificates(tmp_path / "other", days=1)
    arguments = [sys.executable, "-c", STRANGER, scheduler, str(tmp_path / "other")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=90)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("cluster_"))
    assert line.startswith("cluster_unreachable")
    assert "certificates" in line


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (ClusterSpec("tls://127.0.0.1:1"), "tls_needed"),
        (ClusterSpec("tcp://127.0.0.1:1", tls="somewhere"), "tls_mixed"),
        (ClusterSpec("local", tls="/nowhere"), "tls_incomplete"),
    ],
)
def test_what_does_not_fit_together_is_said(spec, code):
    with pytest.raises(RequestError) as raised:
        security_of(spec)
    assert raised.value.code == code


def test_certificates_are_for_their_owner_alone_and_are_not_overwritten(certificates):
    assert certificates.stat().st_mode & 0o777 == 0o700
    assert (certificates / KEY).stat().st_mode & 0o777 == 0o600
    with pytest.raises(RequestError) as raised:
        make_certificates(certificates, days=1)
    assert raised.value.code == "certificates_exist"


@pytest.mark.parametrize(("days", "said"), [(0, "ended on")])
def test_an_expired_certificate_is_named_with_its_date_before_the_cluster_starts(
    tmp_path, days, said
):
    end = make_certificates(tmp_path / "old", days)
    with pytest.raises(RequestError) as caught:
        security_of(ClusterSpec(kind="local", tls=str(tmp_path / "old")))
    assert caught.value.code == "tls_expired"
    assert f"{said} {end:%Y-%m-%d}" in caught.value.found
    (tmp_path / "old" / "ca.pem").write_text("none")
    with pytest.raises(RequestError) as caught:
        security_of(ClusterSpec(kind="local", tls=str(tmp_path / "old")))
    assert caught.value.code == "tls_unreadable"
