"""One picture of the faults that ``check`` finds: each planted in the same sound phantom."""

import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from planting import FAULTS, Pair, image_of, moved_mask, rewritten

from benchmarks.pictures.colours import few_colours
from unet_pipeline.checking.pictures import pair_picture
from unet_pipeline.gate.examine import Policy
from unet_pipeline.gate.inspect import inspect
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.records import Case
from unet_pipeline.report.overlay import WIDTH
from unet_pipeline.storage.store import Store

PER_ROW, CELL, TEXT = 4, (240, 236), 76
CORONAL = (WIDTH // 3, 0, 2 * WIDTH // 3, 295)
INK, FAINT, PAPER = (235, 235, 235), (160, 160, 160), (0, 0, 0)


@dataclass(frozen=True)
class Shown:
    """A fault with the words of its picture."""

    title: str
    plant: Callable[[Pair], Pair | None]


def check(work: Path) -> Mapping[str, bytes]:
    """Return the faults side by side, in the coronal plane, each with what the gate says."""
    store = Store()
    write_cohort(store, str(work / "scans"), 1, seed=7)
    files = [work / "scans" / kind / "phantom-01.nii.gz" for kind in ("images", "masks")]
    sound = Pair(files[0].read_bytes(), files[1].read_bytes())
    cells = []
    for shown in _shown():
        pair = shown.plant(sound)
        assert pair is not None
        for file, data in zip(files, (pair.image, pair.mask), strict=True):
            file.write_bytes(data)
        case = Case("case", (str(files[0]),), str(files[1]))
        cells.append(_cell(store, case, shown.title))
    return {"faults.png": _side_by_side(cells)}


def _shown() -> list[Shown]:
    planted = {fault.name: fault.plant for fault in FAULTS}
    return [
        Shown("sound", lambda pair: pair),
        Shown("shifted by 5 voxels", planted["shifted by 5 voxels, axis 1"]),
        Shown("header mirrored", lambda pair: moved_mask(pair, _mirrored)),
        Shown("turned by 5 degrees", planted["turned by 5 degrees"]),
        Shown("spacing doubled", planted["spacing x 2, one axis"]),
        Shown("sheared by 5 degrees", planted["sheared by 5 degrees"]),
        Shown("stored flipped", planted["stored flipped, axis 1"]),
        Shown("voxels flipped", _flipped),
    ]


def _mirrored(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Mirror a grid half a voxel from its middle: there it would be another storage order."""
    affine[:3, 3] += affine[:3, 0] * (shape[0] - 1.5)
    affine[:3, 0] *= -1
    return affine


def _flipped(pair: Pair) -> Pair:
    values: Any = np.asarray(image_of(pair.mask).dataobj)
    return replace(pair, mask=rewritten(pair.mask, values[::-1].copy()))


def _cell(store: Store, case: Case, title: str) -> Image.Image:
    """Draw the coronal plane of the product's own picture, and below it the gate's codes."""
    policy = Policy()
    drawn = pair_picture(store, case, policy)
    assert drawn is not None
    found = inspect(store, case, policy, content=True).findings
    codes = dict.fromkeys(one.code for one in found if one.severity != "pass")
    cell = Image.new("RGB", (CELL[0], CELL[1] + TEXT), PAPER)
    plane = Image.open(io.BytesIO(drawn)).convert("RGB").crop(CORONAL)
    cell.paste(plane.resize(CELL, Image.Resampling.LANCZOS), (0, 0))
    draw, middle = ImageDraw.Draw(cell), CELL[0] // 2
    draw.text((middle, CELL[1] + 10), title, INK, ImageFont.load_default(17), "mm")
    said = "\n".join(codes) or "pass"
    draw.text((middle, CELL[1] + 26), said, FAINT, ImageFont.load_default(15), "ma", align="center")
    return cell


def _side_by_side(cells: list[Image.Image]) -> bytes:
    width, height = cells[0].size
    rows = -(-len(cells) // PER_ROW)
    sheet = Image.new("RGB", (width * PER_ROW, height * rows), PAPER)
    for index, cell in enumerate(cells):
        sheet.paste(cell, (index % PER_ROW * width, index // PER_ROW * height))
    return few_colours(sheet)
