"""Engines side by side on this machine: seconds of a window, and how exact their scores are.

    python -m benchmarks.engines [--threads N] [--batch N ...]

Each network is run on the windows that the parity gate uses. Engines take turns. Prints a table in
Markdown: medians, and the largest difference from scores in float64. Only a CPU is measured.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.speed.models import write_models
from unet_pipeline.choices import EngineName
from unet_pipeline.errors import RequestError
from unet_pipeline.inference.choice import seconds_per_window
from unet_pipeline.inference.engines import Engine, Problem, make_engine
from unet_pipeline.inference.engines.parity import check_parity, stored_windows
from unet_pipeline.inference.engines.protocol import DeepestHead
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.processes import prepare_process
from unet_pipeline.storage.store import Store

HEAD = ("network", "window", "batch", "engine", "ms a window", "eager / it", "largest difference "
        "from float64", "labels unlike eager's", "their largest margin")  # fmt: skip


def main() -> None:
    """Measure the networks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sys.stdout.write(_line(HEAD) + _line("---" for _ in HEAD))
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        random = write_models(Path(folder), 25, (1.5, 1.5, 1.5), 96).monai
        for url, name in (("hippocampus", "hippocampus"), (str(random), "PlainConvUNet, random")):
            bundle = load_bundle(url, Store())
            for batch in options.batch:
                for row in _rows(bundle, batch, options.threads):
                    sys.stdout.write(_line((name, *row)))
                    sys.stdout.flush()


def _rows(bundle: Bundle, batch: int, threads: int) -> Iterator[tuple[str, ...]]:
    shape = (batch, bundle.in_channels, *bundle.roi_size)
    network = load_network(bundle, Store()).eval()
    problem = Problem(network, shape, torch.device("cpu"), threads)
    windows_NCXYZ = stored_windows(bundle.url, Store(), shape[1:])
    exact_NKXYZ = DeepestHead(deepcopy(network).double())(windows_NCXYZ.double())
    engines = dict(_engines(problem))
    places = [place % len(windows_NCXYZ) for place in range(batch)]
    seconds = seconds_per_window(engines, windows_NCXYZ[places])
    for name, engine in engines.items():
        found = check_parity(engines["eager"], engine, windows_NCXYZ, batch, bundle.decision)
        yield (
            " x ".join(map(str, bundle.roi_size)),
            str(batch),
            name,
            f"{1000 * seconds[name]:.0f}",
            f"{seconds['eager'] / seconds[name]:.2f}",
            f"{_difference(engine, windows_NCXYZ, exact_NKXYZ, batch):.1e}",
            f"{found.differing:,} of {found.voxels:,}",
            f"{found.largest_margin:.1e}" if found.differing else "",
        )


def _engines(problem: Problem) -> Iterator[tuple[EngineName, Engine]]:
    names: tuple[EngineName, ...] = ("eager", "openvino")
    for name in names:
        try:
            yield name, make_engine(name, problem)
        except RequestError as error:
            sys.stderr.write(f"{name}: {error}\n")


def _difference(engine: Engine, windows_NCXYZ: Tensor, exact_NKXYZ: Tensor, batch: int) -> float:
    """Return the largest difference of any score from its value in float64."""
    largest = 0.0
    for window_CXYZ, exact_KXYZ in zip(windows_NCXYZ, exact_NKXYZ, strict=True):
        scores_BKXYZ = engine(torch.stack([window_CXYZ] * batch))
        largest = max(largest, float((scores_BKXYZ[0] - exact_KXYZ).abs().max()))
    return largest


def _line(cells: Iterator[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    prepare_process()
    main()
