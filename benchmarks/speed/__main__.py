"""Measure ours, MONAI's script and nnU-Net's predictor side by side (``docs/speed.md``).

    python -m benchmarks.speed [--quick] [--cases NAME,...] [--repeats N] ...

Prints a table for each case, and keeps all numbers in ``benchmarks/results/speed-<machine>.json``.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.speed.cases import CASES, ON_REQUEST, QUICK, cases_named
from benchmarks.speed.contenders import PEER_NAMES, Equipment, contenders_of
from benchmarks.speed.nnunet_environment import nnunet_python
from benchmarks.speed.results import case_entry, file_of, machine_of, save
from benchmarks.speed.run import run_case
from benchmarks.speed.table import machine_line, rich_tables
from benchmarks.speed.volumes import source


def main() -> None:
    """Run the benchmark."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 200)
    peers = [name for name in PEER_NAMES if name not in options.without]
    python = options.nnunet_python or (nnunet_python() if "nnunet" in peers else "")
    equipment = Equipment(options.threads, options.device, python)
    machine, voxels_from = machine_of(equipment), source()
    output = options.output or file_of(machine)
    console.print(machine_line(machine), f"CTs: {voxels_from}.", highlight=False)
    chosen = cases_named(options.cases) if options.cases else QUICK if options.quick else CASES
    with tempfile.TemporaryDirectory(dir=options.work, prefix="unet-pipeline-speed-") as folder:
        for case in chosen:
            contenders = contenders_of(case, options.engines, peers)
            measured = run_case(
                case,
                contenders,
                equipment,
                Path(folder),
                repeats=1 if options.quick else options.repeats,
                limit_seconds=60 * options.minutes,
                say=lambda line: console.print(line, highlight=False),
            )
            entry = {case.name: case_entry(case, measured, voxels_from)}
            save(output, machine, entry)
            for table in rich_tables({"cases": entry}):
                console.print(table)
    console.print(f"Kept in {output}", highlight=False)


def _options() -> argparse.Namespace:
    names = ", ".join(case.name for case in (*CASES, *ON_REQUEST, *QUICK))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="small volumes, one repeat, about two minutes")
    add("--cases", type=_names, metavar="NAME,...", help=f"of {names}; default: the first nine")
    add("--repeats", type=int, default=5, help="runs of each contender; medians are shown")
    add("--engines", type=_names, default=["eager", "auto"], help="of ours; default: %(default)s")
    add("--without", type=_names, default=[], metavar="monai,nnunet", help="peers to leave out")
    add("--threads", type=int, default=os.cpu_count(), help="for all; default: %(default)s")
    add("--device", choices=("cpu", "cuda"), default=device, help="default: %(default)s")
    add("--minutes", type=float, default=60.0, help="limit of one run of one contender")
    add("--nnunet-python", help="an environment with nnU-Net, instead of one made here")
    add("--output", type=Path, help="JSON file; default: benchmarks/results/speed-<machine>.json")
    add("--work", type=Path, help="folder for volumes and label maps; default: the system's")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    main()
