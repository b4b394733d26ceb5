"""Move the masks of real pairs and count how often the content check sees it, and cries wolf.

    python benchmarks/content_check.py DATA [--json FILE] [--every N]

DATA is the folder of real volumes that the tests use. Moved are the mask's voxels; the header
stays, so that nothing but the voxels can tell. Prints a table in Markdown.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from planting import sound_pairs

from unet_pipeline.gate.content import content_opinion
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.staging import as_labels, read_volume

SHIFTS = (1, 2, 3, 5, 10)
Array = Any


def moves(shape: tuple[int, ...]) -> Iterator[tuple[str, str, Callable[[Array], Array]]]:
    """Yield each move: its name, words that name its undoing, and the move itself."""
    yield "untouched", "", lambda mask: mask
    for axis in range(3):
        yield f"flip of axis {axis + 1}", f"axis {axis + 1} ", _flip(axis)
    if shape[0] == shape[1]:
        yield "axes 1 and 2 exchanged", "axes 1 and 2", lambda mask: mask.transpose(1, 0, 2)
    for voxels in SHIFTS:
        for axis in range(3):
            if voxels < shape[axis] / 2:
                back = ", ".join(f"{-voxels:+d}" if a == axis else "0" for a in range(3))
                yield f"shift by {voxels}", f"({back})", _shift(axis, voxels)


def _flip(axis: int) -> Callable[[Array], Array]:
    return lambda mask: np.flip(mask, axis)


def _shift(axis: int, voxels: int) -> Callable[[Array], Array]:
    def move(mask: Array) -> Array:
        moved = np.roll(mask, voxels, axis)
        first = [slice(None)] * 3
        first[axis] = slice(None, voxels)
        moved[tuple(first)] = 0
        return moved

    return move


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every n-th hippocampus pair")
    options = parser.parse_args()
    named = list(sound_pairs(options.data))
    many = [p for p in named if "hippocampus" in p[0]][:: options.every]
    pairs = [p for p in named if "hippocampus" not in p[0] and "ibsi" not in p[0]] + many
    table: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    alarms, seconds, highest = [], [], []
    for name, image_file, mask_file in pairs:
        group = "hippocampus" if "hippocampus" in name else "others"
        image, mask = (_read(path) for path in (image_file, mask_file))
        labels = as_labels(mask.values())
        grid = image.header.grid
        for move, words, change in moves(labels.shape):
            begin = perf_counter()
            opinion = content_opinion(
                image.values(), change(labels), grid.spacing_mm, axcodes=tuple(grid.axcodes)
            )
            seconds.append(perf_counter() - begin)
            counts = table[move][group]
            counts["pairs"] += 1
            counts["no opinion"] += opinion is None
            if opinion is not None and opinion.doubtful:
                counts["flagged"] += 1
                counts["named"] += words in opinion.alternative
                if move == "untouched":
                    alarms.append((name, opinion.alternative, round(opinion.z, 2)))
            if opinion is not None and move == "untouched":
                highest.append(round(opinion.z, 2))
    _print(table, alarms, sorted(highest)[-5:], seconds)
    if options.json:
        record = {"pairs": len(pairs), "moves": table, "alarms": alarms, "highest_z": max(highest)}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def _read(path: Path) -> Any:
    return read_volume(Store(), str(path), role="volume", budget_bytes=10**10).view


def _print(table: Any, alarms: Any, highest: Any, seconds: list[float]) -> None:
    groups = ("hippocampus", "others")
    out = sys.stdout.write
    out("| move | " + " | ".join(f"{g}: flagged | right one named" for g in groups) + " |\n")
    out("| --- |" + " ---: |" * 4 + "\n")
    for move, counts in table.items():
        cells = []
        for group in groups:
            c = counts[group]
            cells += [f"{c['flagged']} of {c['pairs']}", str(c["named"])]
        out(f"| {move} | {' | '.join(cells)} |\n")
    out(f"\nfalse alarms: {alarms}; highest z of untouched pairs: {highest}\n")
    out(f"seconds per pair: median {np.median(seconds):.2f}, most {max(seconds):.2f}\n")


if __name__ == "__main__":
    main()
