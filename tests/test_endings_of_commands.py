"""Every command ends within 10 s of a signal, without scratch, and says how to go on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest

MOST_SECONDS, START_SECONDS = 10.0, 240.0
AT_WORK_SECONDS = 30.0  # of processor time, with that of its workers; where less is enough:
LESS_SECONDS = {"train": 9.0, "check": 6.0}
COMMANDS = {
    "train": "train images masks --steps 100000 --memory-gb 0.01 --output out",
    "depths": "depths images --masks masks --model phantom --cluster local --output out",
    "compare": "compare images a=phantom b=hippocampus --masks masks --cluster serial --output out",
    "layers": "layers images --masks masks --model phantom --output out",
    "plan": "plan many --model phantom",
    "check": "check images --masks masks --content --workers 2 --output out",
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Images and masks that take a while, and many headers."""
    folder = tmp_path_factory.mktemp("commands")
    rng = np.random.default_rng(0)
    mask = np.zeros((128,) * 3, np.uint8)
    mask[40:80, 40:80, 40:80], mask[90:100, 90:100, 90:100] = 1, 2
    for kind, values, count in (
        ("images", rng.integers(0, 2000, mask.shape, dtype=np.int16), 12),
        ("masks", mask, 12),
        ("many", np.zeros((8, 8, 8), np.int16), 20_000),
    ):
        (folder / kind).mkdir()
        one = folder / f"{kind}.nii"
        nib.save(nib.Nifti1Image(values, np.eye(4)), one)
        for index in range(count):
            os.link(one, folder / kind / f"case{index:05d}.nii")
    return folder


@pytest.mark.slow
def test_a_training_ends_by_a_signal(cohort, tmp_path):
    ended("train", signal.SIGTERM, cohort, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_by_every_signal(cohort, tmp_path, name, number):
    ended(name, number, cohort, tmp_path)


def ended(name: str, number: int, cohort: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    for folder in ("images", "masks", "many"):
        (tmp_path / folder).symlink_to(cohort / folder)
    command = [sys.executable, "-m", "unet_pipeline", *COMMANDS[name].split()]
    with (tmp_path / "said").open("w") as said:
        run = subprocess.Popen(
            command, stdout=said, stderr=said, cwd=tmp_path, start_new_session=True,
            env={**os.environ, "TMPDIR": str(temporary)},
        )  # fmt: skip
        wait_until_at_work(run, LESS_SECONDS.get(name, AT_WORK_SECONDS))
        begin = time.monotonic()
        os.killpg(run.pid, number)
        try:
            status = run.wait(60)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
    words = (tmp_path / "said").read_text()
    assert time.monotonic() - begin < MOST_SECONDS
    assert status == 128 + number, words
    assert not list(temporary.glob("unet-pipeline-*"))
    assert "Traceback" not in words, words
    assert "Run the same command again to go on" in words


def wait_until_at_work(run: "subprocess.Popen[bytes]", seconds: float) -> None:
    process, deadline = psutil.Process(run.pid), time.monotonic() + START_SECONDS
    while processor_seconds(process) < seconds:
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


def processor_seconds(process: psutil.Process) -> float:
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.cpu_times().user
        except psutil.NoSuchProcess:
            continue
    return total
