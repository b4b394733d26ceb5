"""A real Slurm on this machine, for the tests: munge, a controller and one node."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue")
START_SECONDS = 60.0


@dataclass(frozen=True)
class Slurm:
    """A running Slurm; ``environment`` is what its commands need."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *command: str) -> str:
        """Run a command of Slurm and return what it prints."""
        return subprocess.run(
            command, env={**os.environ, **self.environment}, check=True, capture_output=True,
            text=True, timeout=60,
        ).stdout  # fmt: skip

    def jobs(self, state: str = "RUNNING") -> list[str]:
        """Return the numbers of the jobs in a state."""
        return self("squeue", "--noheader", "--states", state, "--format", "%i").split()

    def job_states(self) -> dict[str, str]:
        """Return the state of each job that the controller still remembers."""
        shown = self("squeue", "--noheader", "--states", "all", "--format", "%i %T")
        return dict(line.split() for line in shown.splitlines())


def why_not() -> str | None:
    """Say why no Slurm can be started here, or None."""
    missing = [program for program in PROGRAMS if _which(program) is None]
    if missing:
        return f"Slurm is not installed (no {', '.join(missing)}): apt-get install slurm-wlm munge"
    return None if os.getuid() == 0 else "a node of Slurm is started by root only"


@contextmanager
def running_slurm(folder: Path, slots: int = 4, gpus: int = 2) -> Iterator[Slurm]:
    """Start Slurm with one node of ``slots`` CPUs; its GPUs are two devices that any machine has.

    More slots than the machine has cores are a matter of the configuration: nothing is bound.
    """
    socket_path = _munge_folder(folder) / "munge.socket"
    config = _write_config(folder, slots, gpus, socket_path)
    slurm = Slurm(folder, {"SLURM_CONF": str(config)})
    with ExitStack() as stack:
        key = f"--key-file={socket_path.parent / 'munge.key'}"
        files = [f"--{name}-file={socket_path.parent / name}" for name in ("pid", "log", "seed")]
        munged = [f"--socket={socket_path}", key, *files]
        stack.enter_context(_daemon(["munged", "--foreground", "--force", *munged], folder, {}))
        until(socket_path.exists, "munged to listen")
        for program in ("slurmctld", "slurmd"):
            stack.enter_context(_daemon([program, "-D"], folder, slurm.environment))
        until(lambda: _is_idle(slurm), "the node of Slurm to be idle")
        yield slurm
        slurm("scancel", "--user", "root", "--full")
        until(lambda: not slurm.jobs("RUNNING,PENDING,COMPLETING"), "the jobs to end")


def _is_idle(slurm: Slurm) -> bool:
    try:
        return slurm("sinfo", "--noheader", "--format", "%T").strip() == "idle"
    except subprocess.CalledProcessError:
        return False


def _munge_folder(folder: Path) -> Path:
    """Make a folder that munged accepts: nobody but root may write it; and write a key."""
    munge = folder / "munge"
    munge.mkdir(mode=0o755)
    (munge / "munge.key").write_bytes(os.urandom(128))
    (munge / "munge.key").chmod(0o400)
    return munge


def _write_config(folder: Path, slots: int, gpus: int, munge: Path) -> Path:
    host = socket.gethostname()
    devices = ["/dev/null", "/dev/zero"][:gpus]
    (folder / "gres.conf").write_text(
        "".join(f"NodeName={host} Name=gpu File={device}\n" for device in devices)
    )
    ports = _free_ports(2)
    settings = {
        "ClusterName": "test", "SlurmctldHost": f"{host}(127.0.0.1)", "SlurmUser": "root",
        "AuthType": "auth/munge", "AuthInfo": f"socket={munge}",
        "CredType": "cred/munge", "SlurmctldPort": ports[0], "SlurmdPort": ports[1],
        "StateSaveLocation": folder / "state", "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid", "SlurmdPidFile": folder / "slurmd.pid",
        "ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none",
        "SelectType": "select/cons_tres", "SelectTypeParameters": "CR_Core_Memory",
        "GresTypes": "gpu", "ReturnToService": 2, "MpiDefault": "none", "KillWait": 5,
        "SlurmdParameters": "config_overrides", "SwitchType": "switch/none",
        "AccountingStorageType": "accounting_storage/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "SchedulerParameters": "sched_interval=1,bf_interval=1", "MinJobAge": 600,
    }  # fmt: skip
    for name in ("state", "spool"):
        (folder / name).mkdir()
    lines = [f"{name}={value}" for name, value in settings.items()]
    node = f"NodeName={host} NodeAddr=127.0.0.1 CPUs={slots} RealMemory=16000 Gres=gpu:{gpus}"
    lines += [node, f"PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP"]
    config = folder / "slurm.conf"
    config.write_text("\n".join(lines) + "\n")
    return config


@contextmanager
def _daemon(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    program = _which(command[0])
    assert program is not None
    with (folder / f"{command[0]}.out").open("wb") as log:
        process = subprocess.Popen(
            [program, *command[1:]], env={**os.environ, **environment}, stdout=log, stderr=log
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def until(condition, what: str) -> None:
    """Wait for a condition, or fail and say for what."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {START_SECONDS:.0f} s for {what}"
        time.sleep(0.2)
