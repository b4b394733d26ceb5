"""Shared fixtures: a real S3 server on loopback, and the folder of real volumes."""

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from aws_variables import AWS_VARIABLES
from examples import ALL

from unet_pipeline.local.s3_server import S3Server, serve_s3
from unet_pipeline.private import UMASK_VARIABLE
from unet_pipeline.processes import lasting_imports
from unet_pipeline.storage.store import StorageOptions, Store

# A busy machine is no failure of a property.
hypothesis.settings.register_profile("suite", deadline=None, max_examples=50)
hypothesis.settings.register_profile(ALL, deadline=None, max_examples=200)
hypothesis.settings.load_profile("suite")

TEMPORARY = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let all tests of the flows run on another database of Prefect's server, too."""
    parser.addoption(
        "--prefect-database", choices=("sqlite", "postgresql"), default="sqlite",
        help="what the Prefect server of tests/flows keeps its runs in",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests, and all processes that they start, a folder for temporary files.

    Tests that run beside each other have one each: what one leaves is not another's.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's `&` says so; tests send it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        folder, tempfile.tempdir = tempfile.gettempdir(), os.environ["PYTEST_DEBUG_TEMPROOT"]
        get_temp_dir()  # multiprocessing removes its own when this process ends, after ours
        own = Path(folder) / config.workerinput["workerid"]
        own.mkdir(mode=0o755)
        os.environ["TMPDIR"] = tempfile.tempdir = str(own)
        return
    usual = tempfile.gettempdir()
    get_temp_dir()
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", usual)  # what pytest keeps stays where it was
    config.stash[TEMPORARY] = Path(tempfile.mkdtemp(prefix="unet-tests-"))
    config.stash[TEMPORARY].chmod(0o755)  # munge wants folders that all may enter
    os.environ["TMPDIR"] = tempfile.tempdir = str(config.stash[TEMPORARY])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare Python's collector what all tests import: seconds for each process of pytest-xdist."""
    with lasting_imports():
        return (yield)


# What takes longest begins first, or one core would wait for it at the end; all flows have one
# server, worker and deployments, so one process of pytest-xdist runs them.
TOGETHER = "tests/flows"
FIRST = (
    TOGETHER, "tests/deploy/test_services.py", "tests/pipeline/test_cohort.py",
    "tests/pipeline/test_nnunet.py", "tests/jobs/test_up.py", "tests/cluster/test_slurm.py",
    "tests/pipeline", "tests/security", "tests/cluster", "tests/jobs", "tests/inference",
    "tests/deploy", "tests/training", "tests/cli",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long ones first; within a file and a folder the order stays."""
    items.sort(key=lambda item: _turn(item.nodeid))


def _turn(nodeid: str) -> int:
    return next((turn for turn, place in enumerate(FIRST) if nodeid.startswith(place)), len(FIRST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let one process run a file, and one all flows."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER if nodeid.startswith(TOGETHER) else super()._split_scope(nodeid)

    config.option.loadscopereorder = False  # it would begin with files of many tests
    return Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if some scratch folder is left."""
    folder = session.config.stash.get(TEMPORARY, None)
    if folder is None:
        return
    left = sorted(path.name for path in folder.rglob("unet-pipeline-*"))
    shutil.rmtree(folder, ignore_errors=True)
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.write_line(
            f"\nFAILED: the tests left scratch folders: {', '.join(left)}", red=True
        )


AS_INSTALLED = Path(__file__).parent / "as_installed"


@pytest.fixture(autouse=True, scope="session")
def as_installed() -> None:
    """Hide from processes that tests start what only the tests have installed."""
    path = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(AS_INSTALLED), *filter(None, [path])])


USERS_UMASK = os.umask(0o022)
os.umask(USERS_UMASK)


@pytest.fixture(autouse=True)
def users_umask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test the umask of whoever runs the tests: commands in this process change it."""
    monkeypatch.delenv(UMASK_VARIABLE, raising=False)
    os.umask(USERS_UMASK)


@dataclass(frozen=True)
class RunningS3:
    """The S3 server of the test session."""

    server: S3Server

    @property
    def endpoint_url(self) -> str:
        return self.server.endpoint_url

    @property
    def key(self) -> str:
        return self.server.key

    @property
    def secret(self) -> str:
        return self.server.secret

    @property
    def options(self) -> StorageOptions:
        return StorageOptions(endpoint_url=self.endpoint_url, key=self.key, secret=self.secret)

    @property
    def store(self) -> Store:
        return Store(self.options)

    def bucket(self, name: str = "test") -> str:
        """Make a new, empty bucket whose name starts with ``name``, and return its URL."""
        return self.server.make_bucket(f"{name}-{secrets.token_hex(4)}")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    folder = tmp_path_factory.mktemp("s3")
    with serve_s3(folder, key="test-key-0001", secret=secrets.token_hex(16)) as server:
        yield RunningS3(server)


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away the AWS settings of whoever runs the tests."""
    for name in AWS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def s3_env(s3: RunningS3, no_aws: None, monkeypatch: pytest.MonkeyPatch) -> RunningS3:
    """The S3 server, and the AWS variables that point to it."""
    for name, value in s3.server.environment().items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real volumes; the test is skipped where there is none."""
    beside_project = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("UNET_PIPELINE_SHARED_DATA", beside_project))
    if not (folder / "index.json").is_file():
        pytest.skip(f"no real volumes at {folder}: set UNET_PIPELINE_SHARED_DATA")
    return folder
