"""What numbers about labels and steps on labels add to a case of 104 labels, in time and memory.

    python -m benchmarks.label_costs [--turns 3]

A made-up CT of 512 x 512 x 140 voxels with 104 structures over a quarter of it, and specks, which
the network sees at 1.5 mm. It is a convolution that reads the label off the value; where two meet,
interpolation passes through the numbers between, so the label map is more ragged than a real one.
Each way runs in a process of its own, in turns, with one thread. Seconds are those of the
processor, so other work on the machine shows little. Prints a table in Markdown.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from scipy import ndimage

SHAPE, SPACING_MM, LABELS = (512, 512, 140), (0.5, 0.5, 1.0), 104
FIRST = "neither statistics nor confidence"
WAYS: dict[str, dict[str, Any]] = {
    FIRST: {"bare": True, "confidence": "none"},
    "statistics": {"confidence": "none"},
    "statistics and confidence, as by default": {},
    "and `--postprocess largest`": {"postprocess": ("largest",)},
    "and `remove-small:0.5ml`": {"postprocess": ("remove-small:0.5ml",)},
    "and `fill-holes`": {"postprocess": ("fill-holes",)},
}


def main() -> None:
    """Make the case, run it in each way, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--child", nargs=2)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_one(Path(options.child[0]), WAYS[options.child[1]])))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_case(folder)
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(options.turns):
            for way in WAYS:
                words = [sys.executable, "-m", "benchmarks.label_costs", "--child", name, way]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
    print_table(found)


def write_case(folder: Path) -> None:
    """Write the image and the bundle."""
    import nibabel as nib

    rng = np.random.default_rng(0)
    coarse = tuple(n // 4 for n in SHAPE)
    places = np.stack(np.meshgrid(*map(np.arange, coarse), indexing="ij"), axis=-1)
    body = (((places - np.divide(coarse, 2)) / (0.4 * np.array(coarse))) ** 2).sum(-1) < 1
    seeds = places[body][rng.choice(int(body.sum()), LABELS, replace=False)]
    marks = np.zeros(coarse, np.int16)
    marks[tuple(seeds.T)] = np.arange(1, LABELS + 1)
    nearest = ndimage.distance_transform_edt(marks == 0, return_indices=True)[1]
    labels = np.where(body, marks[tuple(nearest)], 0)
    values = 10 * np.kron(labels, np.ones((4, 4, 4), np.int16)).astype(np.int16)
    specks = tuple(rng.integers(0, n, 3000) for n in values.shape)
    values[specks] = 10 * rng.integers(0, LABELS + 1, 3000)
    values += rng.integers(-3, 4, values.shape, np.int16)
    (folder / "images").mkdir()
    affine = np.diag([*SPACING_MM, 1.0])
    nib.save(nib.Nifti1Image(values, affine), folder / "images/ct.nii.gz")
    _write_bundle(folder / "bundle")


def _write_bundle(folder: Path) -> None:
    import torch

    network = torch.nn.Conv3d(1, LABELS + 1, 1)
    numbers = torch.arange(LABELS + 1, dtype=torch.float32)
    with torch.no_grad():
        network.weight[:] = (0.2 * numbers)[:, None, None, None, None]
        network.bias[:] = -(numbers**2)  # - (value / 10 - number)^2, but for what all share
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    torch.jit.save(torch.jit.trace(network, torch.zeros(1, 1, 8, 8, 8)), folder / "models/model.ts")
    names = {str(number): f"label {number}" for number in range(LABELS + 1)}
    image = {"type": "image", "num_channels": 1}
    outputs = {"pred": {"num_channels": LABELS + 1, "channel_def": names}}
    metadata = {"network_data_format": {"inputs": {"image": image}, "outputs": outputs}}
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    kinds: dict[str, dict[str, Any]] = {"LoadImaged": {}, "EnsureChannelFirstd": {}}
    kinds["Spacingd"] = {"pixdim": [1.5] * 3, "mode": "bilinear"}
    steps = [{"_target_": kind, "keys": "image", **more} for kind, more in kinds.items()]
    inference = {
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [64] * 3, "overlap": 0.25},
        "postprocessing": {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
    }
    (folder / "configs/inference.json").write_text(json.dumps(inference))


def run_one(folder: Path, way: dict[str, Any]) -> dict[str, float]:
    """Segment the case in this process; return seconds by stage and the peak of memory."""
    from unet_pipeline.processes import prepare_process

    prepare_process()
    import unet_pipeline as up
    from unet_pipeline import finishing

    timed = dict.fromkeys(("statistics", "step"), 0.0)

    def timing(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            begin = process_time()
            found = function(*arguments)
            timed[name] += process_time() - begin
            return found

        return call

    counted = (lambda *_: {}) if way.get("bare") else finishing.label_statistics
    finishing.label_statistics = timing("statistics", counted)
    finishing.postprocess = timing("step", finishing.postprocess)
    asked = {name: value for name, value in way.items() if name != "bare"}
    with tempfile.TemporaryDirectory() as output:
        begin = process_time()
        result = up.segment(
            str(folder / "images"), model=str(folder / "bundle"), output=output, threads=1,
            trust=True, memory_gb=4, **asked,
        )  # fmt: skip
        taken = process_time() - begin
    record = result[0]
    if record.status != "done":
        raise SystemExit(record.message)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {**timed, "total": taken, "peak_gb": peak}


def print_table(found: dict[str, list[dict[str, float]]]) -> None:
    """Print the least of each, for what else goes on only adds, and its share of the first."""
    least = {way: {k: min(one[k] for one in each) for k in each[0]} for way, each in found.items()}
    first = least[FIRST]
    print("| | statistics, s | step, s | case, s | | peak, GB | |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for way, one in least.items():
        times = f"{one['total']:.1f} | {one['total'] / first['total']:.2f}"
        memory = f"{one['peak_gb']:.2f} | {one['peak_gb'] / first['peak_gb']:.2f}"
        print(f"| {way} | {one['statistics']:.2f} | {one['step']:.2f} | {times} | {memory} |")


if __name__ == "__main__":
    main()
