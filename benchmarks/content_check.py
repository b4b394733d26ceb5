"""Move the masks of real pairs and count how often the content check sees it, and cries wolf.

    python benchmarks/content_check.py DATA [--only FOLDER,...] [--every N] --json PART.json
    python benchmarks/content_check.py --join PART.json ... --json FILE

DATA is the folder of real volumes that the tests use; each of its folders is a collection. Moved
are the mask's voxels; the header stays, so that nothing but the voxels can tell. Three kinds of
masks lie right without an edge at their border: the real ones grown and shrunk by two voxels
(margins), and lumps put anywhere into the body (lesions, zones). The tables are by collection, and
the thresholds are chosen anew with each collection left out. Prints tables in Markdown.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from planting import sound_pairs

from unet_pipeline.gate.content import DOUBTFUL_HOLD, DOUBTFUL_Z, content_opinion
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.decoding import read_volume
from unet_pipeline.volume.labels import as_labels

SHIFTS = (1, 2, 3, 5, 10)
KINDS = ("as drawn", "grown by 2", "shrunk by 2", "lump")
LUMPS = {"hippocampus": 1}  # of each volume; of those of other collections five
GRID = tuple(product((DOUBTFUL_Z, 4.0, 4.5, 5.0, 6.0), (-math.inf, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)))
ALLOWED = 0.02  # false alarms, mean over the collections that a rule is chosen on
Array = Any
Record = dict[str, Any]


def moves(shape: tuple[int, ...]) -> Iterator[tuple[str, str, Callable[[Array], Array]]]:
    """Yield each move: its name, words that name its undoing, and the move itself."""
    for axis in range(3):
        yield "flip", f"axis {axis + 1} ", _flip(axis)
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


def sound_masks(
    collection: str, image: Array, mask: Array, seed: int
) -> Iterator[tuple[str, Array]]:
    """Yield masks that lie right, by kind: the real one, and some without an edge of their own."""
    yield "as drawn", mask
    cross = ndimage.generate_binary_structure(3, 1)
    yield "grown by 2", ndimage.binary_dilation(mask > 0, cross, 2).astype(np.uint8)
    yield "shrunk by 2", ndimage.binary_erosion(mask > 0, cross, 2).astype(np.uint8)
    rng = np.random.default_rng(seed)
    for _ in range(LUMPS.get(collection, 5)):
        yield "lump", lump(rng, image)


def lump(rng: np.random.Generator, image: Array) -> Array:
    """Return a crooked ellipsoid around a voxel of the body, which follows no edge."""
    body = np.argwhere(image > np.percentile(image, 60))
    centre = body[rng.integers(len(body))]
    radii = np.maximum(rng.uniform(0.06, 0.22, 3) * image.shape, 3)
    places = np.indices(image.shape, np.float32)
    level = sum(((p - c) / r) ** 2 for p, c, r in zip(places, centre, radii, strict=True))
    coarse = rng.normal(0, 0.35, [max(2, n // 8) for n in image.shape])
    zoom = [n / c for n, c in zip(image.shape, coarse.shape, strict=True)]
    return np.asarray(level + ndimage.zoom(coarse, zoom, order=1) < 1).astype(np.uint8)


def records_of(data: Path, only: Sequence[str], every: int) -> Iterator[Record]:
    """Yield what the check says of each mask, as it lies and moved; of real ones every n-th."""
    for index, (name, image_file, mask_file) in enumerate(sound_pairs(data)):
        collection = image_file.relative_to(data).parts[0]
        if collection == "phantom" or (only and collection not in only):
            continue
        view, mask_view = (_read(path) for path in (image_file, mask_file))
        image, mask, grid = view.values(), as_labels(mask_view.values()), view.header.grid

        def look(kind: str, move: str, moved: Array, words: str = "") -> Record:
            begin = perf_counter()
            axcodes = tuple(grid.axcodes)  # noqa: B023  it is called at once
            found = content_opinion(image, moved, grid.spacing_mm, axcodes=axcodes)  # noqa: B023
            return {
                "pair": name,  # noqa: B023
                "collection": collection,  # noqa: B023
                "kind": kind,
                "move": move,
                "z": None if found is None else round(found.z, 3),
                "hold": None if found is None or found.hold is None else round(found.hold, 3),
                "named": found is not None and words in found.alternative,
                "seconds": round(perf_counter() - begin, 3),
            }

        for kind, sound in sound_masks(collection, image, mask, sum(map(ord, name)) * 7919):
            yield look(kind, "untouched", sound)
        if collection != "hippocampus" or index % every == 0:
            for move, words, change in moves(mask.shape):
                yield look("as drawn", move, change(mask), words)
        sys.stderr.write(f"{name}\n")


def _read(path: Path) -> Any:
    return read_volume(Store(), str(path), role="volume", budget_bytes=10**10).view


def flagged(record: Record, z: float = DOUBTFUL_Z, hold: float = DOUBTFUL_HOLD) -> bool:
    """Say whether a rule of these thresholds flags a mask."""
    return record["hold"] is not None and record["z"] > z and record["hold"] > hold


def interval(count: int, of: int) -> str:
    """Return a share with its 95 % interval (Wilson 1927)."""
    if not of:
        return "-"
    z, p = 1.96, count / of
    middle, half = p + z * z / (2 * of), z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    low, high = ((middle + sign * half) / (1 + z * z / of) for sign in (-1, 1))
    return f"{count} of {of} ({max(low, 0):.1%} to {high:.1%})"


def mean_share(groups: Sequence[Sequence[Record]], **rule: float) -> float:
    """Return the share that is flagged, as a mean over collections."""
    shares = [sum(flagged(one, **rule) for one in group) / len(group) for group in groups if group]
    return sum(shares) / len(shares)


def report(records: Sequence[Record]) -> dict[str, Any]:
    """Print the tables, and return the numbers that the check itself tells its users."""
    collections = sorted({record["collection"] for record in records})

    def some(collection: str, **wanted: str) -> list[Record]:
        pairs = {"collection": collection, **wanted}
        return [one for one in records if all(one[k] == v for k, v in pairs.items())]

    def sound(collection: str) -> list[Record]:
        return some(collection, move="untouched")

    def moved(collection: str) -> list[Record]:
        found = some(collection, kind="as drawn")
        return [one for one in found if one["move"] not in ("untouched", "shift by 1")]

    _table(
        ["untouched, flagged", *collections],
        [
            [kind, *(_count(some(c, move="untouched", kind=kind)) for c in collections)]
            for kind in KINDS
        ],
    )
    names = list(dict.fromkeys(r["move"] for r in records if r["move"] != "untouched"))
    _table(
        ["moved, flagged", *collections],
        [[move, *(_count(some(c, move=move)) for c in collections)] for move in names],
    )
    rows, shares = [], []
    for left_out in collections:
        rest = [c for c in collections if c != left_out]
        rules = [dict(zip(("z", "hold"), pair, strict=True)) for pair in GRID]
        fine = [r for r in rules if mean_share([sound(c) for c in rest], **r) <= ALLOWED]
        best = max(fine, key=lambda r: mean_share([moved(c) for c in rest], **r))
        drawn = some(left_out, move="untouched", kind="as drawn")
        rule = f"z > {best['z']:g}, hold > {best['hold']:g}"
        found = [_count(group, **best) for group in (drawn, sound(left_out), moved(left_out))]
        rows.append([left_out, rule, *found])
        shares.append([mean_share([kind(left_out)], **best) for kind in (sound, moved)])
    _table(["left out", "rule chosen on the others", "as drawn", "all untouched", "moved"], rows)
    measured = dict(zip(("sound", "moved"), np.mean(shares, axis=0).tolist(), strict=True))
    named = [one["named"] for c in collections for one in moved(c) if flagged(one)]
    seconds = [one["seconds"] for one in records]
    sys.stdout.write(
        f"\nleft out, mean over collections: {measured}\n"
        f"named rightly: {sum(named)} of {len(named)} flagged; seconds: median "
        f"{np.median(seconds):.2f}, most {max(seconds):.2f}\n"
    )
    return measured


def counts_of(records: Sequence[Record]) -> dict[str, dict[str, list[int]]]:
    """Return, by collection and move or kind, how many are flagged, and of how many."""
    found: dict[str, dict[str, list[int]]] = {}
    for one in records:
        what = one["kind"] if one["move"] == "untouched" else one["move"]
        pair = found.setdefault(one["collection"], {}).setdefault(what, [0, 0])
        pair[0] += flagged(one)
        pair[1] += 1
    return found


def _count(group: Sequence[Record], **rule: float) -> str:
    return interval(sum(flagged(one, **rule) for one in group), len(group))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [head, ["---"] * len(head), *rows]
    sys.stdout.write("\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines))


def main() -> None:
    """Measure, or join what was measured, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--only", default="", help="collections, with commas between them")
    parser.add_argument("--every", type=int, default=5, help="move every n-th hippocampus mask")
    parser.add_argument("--join", type=Path, nargs="+", help="files of parts that were measured")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.join:
        parts = [json.loads(path.read_text())["masks"] for path in options.join]
        records = [one for part in parts for one in part]
    else:
        only = [name for name in options.only.split(",") if name]
        records = list(records_of(options.data, only, options.every))
    measured = report(records)
    if options.json and options.join:
        content = {"measured": measured, "flagged": counts_of(records)}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    elif options.json:
        lines = ",\n".join(json.dumps(record) for record in records)
        text = f'{{"measured": {json.dumps(measured)},\n"masks": [\n{lines}\n]}}\n'
        options.json.write_text(text)


if __name__ == "__main__":
    main()
