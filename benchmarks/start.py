"""What commands take before and beside their work: seconds, processor seconds, memory.

    python -m benchmarks.start [--rounds 3] [--only NAME ...]

Each command is a process as a user starts it, one after the other, all of them in each round, so
that a busy minute of the machine hits all. A row has the medians: seconds by the clock, processor
seconds of the process and all that came of it, both also in units of ``python -c "import torch"``,
and the peak of the memory of the process itself (``VmHWM``), without that of its workers. Prints
Markdown.
"""

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import numpy as np

TORCH = "import torch"
SHAPE = (35, 51, 35)  # of a hippocampus of the Medical Segmentation Decathlon
HEADS = ("command", "s", "processor s", "units", "units of processor", "peak MB")
_SUBREAPER = 36  # of prctl: whoever loses its parent becomes a child of this process
_LOOK_SECONDS = 0.01


@dataclass(frozen=True)
class Took:
    """What one process took."""

    seconds: float
    processor: float
    megabytes: float


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], help="names of rows")
    asked = parser.parse_args()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="unet-start-") as folder:
        commands = dict(commands_on(Path(folder)))
        names = [name for name in commands if name == TORCH or name in (asked.only or commands)]
        found: dict[str, list[Took]] = {name: [] for name in names}
        for turn in range(asked.rounds):
            for name in names:
                words = [word.replace("{turn}", str(turn)) for word in commands[name]]
                found[name].append(run(words))
                print(name, found[name][-1], os.getloadavg(), file=sys.stderr, flush=True)
    print(f"| {' | '.join(HEADS)} |\n|{' --- |' * len(HEADS)}")
    for name in names:
        print(f"| {' | '.join(cells(name, found[name], found[TORCH]))} |")


def commands_on(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the words of each command, over files that are written here."""
    write_images(root / "ten", 10)
    write_images(root / "one", 1)
    ours = [sys.executable, "-m", "unet_pipeline"]
    yield TORCH, [sys.executable, "-c", TORCH]
    yield "--help", [*ours, "--help"]
    yield "check of ten files", [*ours, "check", f"{root}/ten"]
    yield "plan", [*ours, "plan", f"{root}/ten", "--model", "hippocampus", "--no-measure"]
    for title, more in {
        "serial": ["--cluster", "serial"],
        "--workers 1": ["--workers", "1"],
        "--workers 2": ["--workers", "2"],
    }.items():
        output = f"{root}/out-{title.strip('-').replace(' ', '-')}-{{turn}}"
        words = ["segment", f"{root}/one", "--model", "hippocampus", "--output", output, *more]
        yield f"segment, one case, {title}", [*ours, *words]


def write_images(folder: Path, number: int) -> None:
    """Write small images."""
    import nibabel as nib

    folder.mkdir()
    for index in range(number):
        values = np.random.default_rng(index).integers(0, 300, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(values, np.eye(4)), folder / f"case-{index}.nii.gz")


def run(words: Sequence[str]) -> Took:
    """Run a command to its end, and to that of all that came of it."""
    begin, peak = perf_counter(), 0
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    status = Path(f"/proc/{process.pid}/status")
    processor, left, wrong = 0.0, {process.pid}, b""
    seconds = 0.0
    while True:
        with suppress(OSError):
            lines = status.read_text().splitlines()
            peak = max(peak, *(int(one.split()[1]) for one in lines if one.startswith("VmHWM")), 0)
        try:
            pid, code, used = os.wait3(os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            sleep(_LOOK_SECONDS)
            continue
        processor += used.ru_utime + used.ru_stime
        if pid in left:
            seconds = perf_counter() - begin
            process.returncode = os.waitstatus_to_exitcode(code)
            assert process.stderr is not None
            wrong = process.stderr.read() if process.returncode else b""
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}: {process.returncode} {wrong.decode()[-2000:]}")
    return Took(seconds, processor, peak / 1000)


def cells(name: str, took: Sequence[Took], torch: Sequence[Took]) -> list[str]:
    """Return a row of the table: medians, and how many times that of importing torch."""
    seconds, unit = (median(one.seconds for one in some) for some in (took, torch))
    processor, of_torch = (median(one.processor for one in some) for some in (took, torch))
    megabytes = median(one.megabytes for one in took)
    return [
        f"`{name}`" if name in (TORCH, "--help") else name,
        f"{seconds:.1f}",
        f"{processor:.1f}",
        f"{seconds / unit:.2f}",
        f"{processor / of_torch:.2f}",
        f"{megabytes:.0f}",
    ]


if __name__ == "__main__":
    main()
