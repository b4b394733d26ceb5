"""Feature maps of one layer on one slice: the input first, then a grid of channels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unet_pipeline.report.palette import label_colours
from unet_pipeline.report.planes import View, grey_levels, picture, ras_axes, to_ras

Array = NDArray[Any]
MAX_CHANNELS = 35
_COLUMNS, _CELL, _GAP, _HEAD = 9, 108, 6, 26
_TEXT, _FAINT, _BACKGROUND, _FILL = (235, 235, 235), (160, 160, 160), (0, 0, 0), 0.45


@dataclass(frozen=True)
class Slice:
    """Which slice of a window is drawn.

    Attributes
    ----------
    index
        Voxel of the window along the axis that the view looks along.
    axcodes, spacing_mm
        Of the grid that the window lies on.
    """

    view: View
    index: int
    axcodes: tuple[str, ...]
    spacing_mm: tuple[float, float, float]

    @property
    def axis(self) -> int:
        """The axis of the grid that the view looks along."""
        return ras_axes(self.axcodes)[self.view.along]

    def of(self, array_XYZ: Array, voxels: int) -> Array:
        """Cut the slice out of an array that covers the window with its own number of voxels."""
        own = array_XYZ.shape[self.axis]
        index = min(int((self.index + 0.5) * own / voxels), own - 1)
        thin = np.take(array_XYZ, [index], axis=self.axis)
        return picture(to_ras(thin, self.axcodes), self.view, (0, 0, 0))


def feature_sheet(
    image_XYZ: Array, labels_XYZ: Array, features_CXYZ: Array, where: Slice, title: str
) -> bytes:
    """Return a PNG: the input with its mask, and up to ``MAX_CHANNELS`` channels of a layer.

    Each channel is scaled by itself, its 1st percentile on the slice to black and its 99th to
    white, and drawn voxel by voxel, so that one sees its resolution. Of more channels those are
    drawn that vary most on the slice. A channel of one value is mid-grey.

    Parameters
    ----------
    image_XYZ, labels_XYZ
        What the network sees of the window, and its labels; 0 or less is background.
    features_CXYZ
        The layer's output for the window, on its own grid.
    """
    voxels = image_XYZ.shape[where.axis]
    maps = [where.of(channel_XYZ, voxels) for channel_XYZ in features_CXYZ]
    shown = _most_varied(maps)
    size = _cell_size(where, image_XYZ.shape)
    rows = math.ceil((len(shown) + 1) / _COLUMNS)
    width = _COLUMNS * (size[0] + _GAP) + _GAP
    canvas = Image.new("RGB", (width, _HEAD + rows * (size[1] + _GAP)), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    count = "" if len(shown) == len(maps) else f" ({len(shown)} of {len(maps)}, which vary most)"
    draw.text((_GAP, _HEAD / 2), f"{title}{count}", fill=_TEXT, font=_font(14), anchor="lm")
    cells = [("input", _marked(where.of(image_XYZ, voxels), where.of(labels_XYZ, voxels), size))]
    cells += [(str(number), _scaled(maps[number], size)) for number in shown]
    for index, (text, cell) in enumerate(cells):
        row, column = divmod(index, _COLUMNS)
        corner = _GAP + column * (size[0] + _GAP), _HEAD + row * (size[1] + _GAP)
        canvas.paste(cell, corner)
        at = (corner[0] + 3, corner[1] + 2)
        draw.text(at, text, fill=_TEXT, font=_font(11), stroke_width=2, stroke_fill=_BACKGROUND)
    buffer = BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def _most_varied(maps: Sequence[Array]) -> list[int]:
    deviations = np.array([float(np.std(one)) for one in maps])
    order = np.argsort(-deviations, kind="stable")[:MAX_CHANNELS]
    return sorted(int(index) for index in order)


def _cell_size(where: Slice, shape: Sequence[int]) -> tuple[int, int]:
    """Return a cell's width and height in pixels, in the proportions of the slice in mm."""
    axes = ras_axes(where.axcodes)
    across, down = (
        shape[axes[axis]] * where.spacing_mm[axes[axis]]
        for axis in (where.view.across, where.view.down)
    )
    scale = _CELL / max(across, down)
    return max(round(across * scale), 24), max(round(down * scale), 24)


def _scaled(map_HW: Array, size: tuple[int, int]) -> Image.Image:
    low, high = (float(v) for v in np.percentile(map_HW, (1, 99)))
    span = high - low
    share_HW = np.clip((map_HW - low) / span, 0, 1) if span > 0 else np.full(map_HW.shape, 0.5)
    grey = Image.fromarray(np.rint(share_HW * 255).astype(np.uint8))
    return grey.resize(size, Image.Resampling.NEAREST).convert("RGB")


def _marked(image_HW: Array, labels_HW: Array, size: tuple[int, int]) -> Image.Image:
    grey = grey_levels([image_HW], [labels_HW > 0])[0]
    pixels = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    inside = labels_HW > 0
    pixels[inside] += _FILL * (label_colours(labels_HW[inside]) - pixels[inside])
    return Image.fromarray(np.rint(pixels).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
