"""Three models over one archive: in one run, and one after the other (docs/several-models.md).

    python -m benchmarks.several_models [--cases 20] [--size 256,256,100]

Random networks of one preprocessing, as of models that were trained alike. The run of all three is
killed (SIGKILL) in the middle and started again, and then a fourth model is added. Printed are how
often a volume was fetched and decoded, what was run, and seconds against those of three runs.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_pipeline.networks.bundle_writer import write_bundle
from unet_pipeline.networks.family import network_def
from unet_pipeline.networks.registry import build_network
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.formats.nifti_voxels import encode_volume
from unet_pipeline.volume.header import header_of

MODELS = ("organs", "vessels", "bones", "lesions")
STEPS = (
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    {"_target_": "Spacingd", "keys": "image", "pixdim": [3.0, 3.0, 3.0]},
    {"_target_": "NormalizeIntensityd", "keys": "image"},
)


def main() -> None:
    """Run, kill, run again, add a model, and compare."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--cases", type=int, default=20)
    asked.add_argument("--size", default="256,256,100")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _write(place, options.cases, tuple(map(int, options.size.split(","))))
        three = MODELS[:3]
        alone = sum(_run(place, place / "alone" / name, [name])[0] for name in three)
        seconds, records = _run(place, place / "together", three)
        _say("together", records)
        print(f"three runs {alone:.1f} s, one run {seconds:.1f} s: {alone / seconds:.2f} times")
        _same(place / "alone", place / "together", three)
        _killed(place, place / "killed", three, options.cases)
        _say("again behind a SIGKILL", _run(place, place / "killed", three)[1])
        _same(place / "alone", place / "killed", three)
        _say("with a fourth model", _run(place, place / "together", MODELS)[1])


def _write(place: Path, cases: int, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    for index in range(cases):
        coarse = random.normal(0, 300, tuple(-(-n // 8) for n in shape))
        values = np.kron(coarse, np.ones((8, 8, 8)))[tuple(slice(n) for n in shape)]
        values = (values + random.normal(0, 20, shape)).astype(np.int16)
        header = header_of(shape, np.diag([1.5, 1.5, 3.0, 1.0]), values.dtype)
        data = encode_volume(values, header)
        Store().write(str(place / "images" / f"case-{index:02d}.nii.gz"), data)
    for seed, name in enumerate(MODELS):
        made = network_def("unet", 1, 4, (8, 16, 32))
        write_bundle(
            str(place / name),
            Store(),
            network=build_network(made, seed=seed),
            network_def=made,
            preprocessing=STEPS,
            roi_size=(64, 64, 64),
            overlap=0.25,
            labels={number: f"{name} {number}" for number in range(4)},
            channel_names=["CT"],
            model_card="Random weights.",
            licence="Apache-2.0",
            metadata={"task": "benchmark", "description": "random weights"},
        )


def _command(place: Path, output: Path, models: Sequence[str]) -> list[str]:
    first, *also = (str(place / name) for name in models)
    further = [word for name in also for word in ("--also", name)]
    return [
        sys.executable, "-m", "unet_pipeline", "segment", str(place / "images"), "--model", first,
        *further, "--output", str(output), "--workers", "2", "--threads", "1", "--json",
    ]  # fmt: skip


def _run(place: Path, output: Path, models: Sequence[str]) -> tuple[float, list[dict[str, Any]]]:
    begin = time.perf_counter()
    done = subprocess.run(_command(place, output, models), capture_output=True, check=True)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return time.perf_counter() - begin, [one for one in said if "case" in one]


def _killed(place: Path, output: Path, models: Sequence[str], cases: int) -> None:
    """Start a run, and kill all of its processes once half of the label maps are there."""
    run = subprocess.Popen(
        _command(place, output, models), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    while len(list(output.glob("*/*_dseg.json"))) < len(models) * cases // 2:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def _say(what: str, records: Sequence[dict[str, Any]]) -> None:
    reads = sum(record["seconds"].get("read", 0) > 0 for record in _done(records))
    by_model = Counter((record["model"], record["status"]) for record in records)
    counts = ", ".join(f"{name} {n} {status}" for (name, status), n in sorted(by_model.items()))
    print(f"{what}: {reads} volumes read and decoded; {counts}")


def _done(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["status"] == "done"]


def _same(one: Path, other: Path, models: Sequence[str]) -> None:
    names = [path.relative_to(one) for name in models for path in (one / name).glob("*.nii.gz")]
    equal = sum((one / name).read_bytes() == (other / name).read_bytes() for name in names)
    print(f"label maps equal to those of three runs: {equal} of {len(names)}")


if __name__ == "__main__":
    main()
