"""One picture per case: the label map over the image in three planes, for the eye of a reader.

Pixel coordinates are (x, y) from the top left. The picture holds no text from a file's header.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unet_pipeline.errors import CaseError
from unet_pipeline.report.palette import label_colour, label_colours
from unet_pipeline.report.planes import (
    VIEWS,
    Sliced,
    View,
    busiest_voxel,
    grey_levels,
    index_in_ras,
    picture,
    ras_axes,
    to_ras,
)
from unet_pipeline.volume.disk_arrays import let_go

Array = NDArray[Any]
Labels = NDArray[np.int64]
Size = tuple[int, int]

WIDTH, HEIGHT = 900, 340
_CELL = WIDTH // 3
_LETTER = 20
_TITLE_Y, _LEGEND_Y = HEIGHT - 34, HEIGHT - 12
_BOX = (_CELL - 2 * _LETTER, _TITLE_Y - 12 - 2 * _LETTER)
_FILL = 0.3
_LINES = 8  # of a slice of a label map that are read at once
_PNG_LEVEL = 3  # half the time of the usual 6, for files a twentieth larger
_TEXT, _FAINT, _BACKGROUND = (235, 235, 235), (160, 160, 160), (0, 0, 0)
_LONGEST_NAME = 28
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class _Panel:
    """One view, ready to draw.

    Attributes
    ----------
    grey, labels, reference
        Pictures of one shape (H, W).
    extent_mm
        Width and height of the picture in mm.
    """

    view: View
    grey: NDArray[np.uint8]
    labels: Labels
    reference: Labels | None
    extent_mm: tuple[float, float]


def overlay_png(
    image_XYZ: Array,
    labels_XYZ: Array,
    spacing_mm: Sequence[float],
    reference_XYZ: Array | None = None,
    *,
    axcodes: Sequence[str] = ("R", "A", "S"),
    dashed: str = "reference",
    names: Mapping[int, str] = MappingProxyType({}),
    place: Sequence[int] | None = None,
) -> bytes:
    """Return a PNG of 900 x 340 pixels with an axial, a coronal and a sagittal plane.

    Each plane is the slice with most foreground; if the label map is empty, of the reference mask;
    if that is empty too, the central one. Labels are filled, half transparent, and outlined; the
    reference mask is outlined in dashed white. The three planes share one scale in mm unless one
    of them would become too small to see. Only these slices are converted, not the volume.

    Parameters
    ----------
    image_XYZ
        Intensities, (X, Y, Z), any real type; may hold NaN. Only three slices are read, so it may
        be an array on disk.
    labels_XYZ, reference_XYZ
        Integer labels of the same shape, 0 for background.
    spacing_mm
        Voxel size along each axis, in mm.
    axcodes
        The direction in which each axis grows.
    dashed
        What the legend calls the reference.
    names
        Names of labels for the legend; it shows the number of a label without one.
    place
        Voxel that the planes go through, as index of the arrays. Default: as above.

    Raises
    ------
    CaseError
        ``figure_shape``, ``figure_spacing`` or ``figure_axes`` if the parts do not fit together.
    """
    _check(image_XYZ, labels_XYZ, reference_XYZ, spacing_mm)
    axes = ras_axes(axcodes)
    spacing = tuple(float(spacing_mm[axis]) for axis in axes)
    labels = to_ras(labels_XYZ, axcodes)
    reference = None if reference_XYZ is None else to_ras(reference_XYZ, axcodes)
    image = Sliced(image_XYZ, axcodes)
    voxel = None if place is None else index_in_ras(place, image_XYZ.shape, axcodes)
    return _png(_draw(_panels(image, labels, reference, spacing, voxel), dashed, names))


def _check(
    image: Array, labels: Array, reference: Array | None, spacing_mm: Sequence[float]
) -> None:
    shapes = [array.shape for array in (image, labels, reference) if array is not None]
    if len(image.shape) != 3 or 0 in image.shape or set(shapes) != {image.shape}:
        raise CaseError(
            "figure_shape",
            found=f"shapes {', '.join(map(str, shapes))}",
            wanted="one shape of three axes, none of them empty",
            remedy="Bring image, label map and reference mask onto one voxel grid",
        )
    if len(spacing_mm) != 3 or not all(math.isfinite(mm) and mm > 0 for mm in spacing_mm):
        raise CaseError(
            "figure_spacing",
            found=f"spacing {tuple(map(float, spacing_mm))} mm",
            wanted="three finite numbers above 0",
            remedy="Correct the voxel size of the image",
        )


def _panels(
    image: Sliced,
    labels: Array,
    reference: Array | None,
    spacing: Sequence[float],
    voxel: tuple[int, ...] | None = None,
) -> list[_Panel]:
    if voxel is None:
        voxel = busiest_voxel(labels)
    if voxel is None and reference is not None:
        voxel = busiest_voxel(reference)
    if voxel is None:
        voxel = tuple(size // 2 for size in labels.shape)
    extents_mm = [size * mm for size, mm in zip(labels.shape, spacing, strict=True)]
    slices = [image.picture(view, voxel) for view in VIEWS]
    label_maps = [_integers(picture(labels, view, voxel)) for view in VIEWS]
    masks: list[Labels | None] = [None] * len(VIEWS)
    if reference is not None:
        masks = [_integers(picture(reference, view, voxel)) for view in VIEWS]
    marked = [a if b is None else a | b for a, b in zip(label_maps, masks, strict=True)]
    return [
        _Panel(view, grey, label_map, mask, (extents_mm[view.across], extents_mm[view.down]))
        for view, grey, label_map, mask in zip(
            VIEWS, grey_levels(slices, marked), label_maps, masks, strict=True
        )
    ]


def _integers(picture_HW: Array) -> Labels:
    """Return a slice of labels; a few lines at a time, for it may touch all pages of a map."""
    slow = int(np.argmax(np.abs(picture_HW.strides)))
    found: Labels = np.empty(picture_HW.shape, np.int64)
    source, target = (np.moveaxis(array, slow, 0) for array in (picture_HW, found))
    for first in range(0, len(source), _LINES):
        part = slice(first, first + _LINES)
        target[part] = np.nan_to_num(source[part], nan=0, posinf=0, neginf=0)
        let_go(source[part])
    return found


def _draw(panels: Sequence[_Panel], dashed: str, names: Mapping[int, str]) -> Image.Image:
    canvas = Image.new("RGB", (WIDTH, HEIGHT), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    common = min(_fit(panel.extent_mm) for panel in panels)
    for index, panel in enumerate(panels):
        scale = common if common * max(panel.extent_mm) >= 64 else _fit(panel.extent_mm)
        width, height = (max(round(mm * scale), 2) for mm in panel.extent_mm)
        x = index * _CELL + (_CELL - width) // 2
        y = _LETTER + (_BOX[1] - height) // 2
        canvas.paste(_painted(panel, (width, height)), (x, y))
        _letters(draw, panel.view, (x, y), (width, height))
        _footer(draw, panel.view.title, index * _CELL + _LETTER, scale)
    _legend(draw, panels, dashed, names)
    return canvas


def _fit(extent_mm: tuple[float, float]) -> float:
    """Return the pixels per mm with which an extent fills the box of its cell."""
    return min(pixels / mm for pixels, mm in zip(_BOX, extent_mm, strict=True))


def _painted(panel: _Panel, size: Size) -> Image.Image:
    """Return a panel of ``size`` pixels: grey, then fill and outline, then the reference."""
    shrinks = size[0] < panel.grey.shape[1] or size[1] < panel.grey.shape[0]
    method = Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC
    grey = np.asarray(Image.fromarray(panel.grey).resize(size, method), np.float32)
    pixels = np.repeat(grey[..., None], 3, axis=2)
    labels = _enlarged(panel.labels, size)
    colours = label_colours(labels).astype(np.float32)
    filled = labels != 0
    pixels[filled] += _FILL * (colours[filled] - pixels[filled])
    outline = _outline(labels)
    pixels[outline] = colours[outline]
    if panel.reference is not None:
        edge = _outline(_enlarged(panel.reference, size))
        pixels[edge & _dashes(edge.shape)] = 255
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def _enlarged(labels_HW: Labels, size: Size) -> Labels:
    """Return the nearest label of each pixel."""
    rows, columns = (
        (np.arange(pixels) * 2 + 1) * voxels // (2 * pixels)
        for pixels, voxels in zip(size[::-1], labels_HW.shape, strict=True)
    )
    return labels_HW[np.ix_(rows, columns)]


def _outline(labels_HW: Labels) -> NDArray[np.bool_]:
    """Return the pixels of a label that touch another label, the background or the edge."""
    framed = np.pad(labels_HW, 1)
    neighbours = (framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:])
    touches = np.logical_or.reduce([part != labels_HW for part in neighbours])
    outline: NDArray[np.bool_] = touches & (labels_HW != 0)
    return outline


def _dashes(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a tilted checkerboard: it cuts a line of any usual direction into dashes."""
    y, x = np.indices(shape)
    checks: NDArray[np.bool_] = ((2 * x + y) // 9 + (2 * y - x) // 9) % 2 == 0
    return checks


def _letters(draw: ImageDraw.ImageDraw, view: View, corner: Size, size: Size) -> None:
    (x, y), (width, height), gap = corner, size, _LETTER // 2
    places = {
        view.left: (x - gap, y + height / 2),
        view.right: (x + width + gap, y + height / 2),
        view.top: (x + width / 2, y - gap),
        view.bottom: (x + width / 2, y + height + gap),
    }
    for letter, place in places.items():
        draw.text(place, letter, fill=_TEXT, font=_font(18), anchor="mm")


def _footer(draw: ImageDraw.ImageDraw, title: str, x: int, scale: float) -> None:
    """Draw a panel's title on the left and its scale bar on the right."""
    y = _TITLE_Y
    draw.text((x, y), title, fill=_FAINT, font=_font(15), anchor="lm")
    length_mm = _round_length(80 / scale)
    end = x + _BOX[0]
    text = f"{length_mm:g} mm"
    draw.text((end, y), text, fill=_TEXT, font=_font(15), anchor="rm")
    right = end - round(draw.textlength(text, font=_font(15))) - 6
    left = right - max(round(length_mm * scale), 1)
    draw.line([(left, y - 3), (left, y + 3)], fill=_TEXT)
    draw.line([(right, y - 3), (right, y + 3)], fill=_TEXT)
    draw.line([(left, y), (right, y)], fill=_TEXT)


def _round_length(most_mm: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, ... mm that is not above ``most_mm``."""
    power = 10.0 ** math.floor(math.log10(most_mm))
    return next(factor * power for factor in (5, 2, 1) if factor * power <= most_mm * (1 + 1e-9))


def _legend(
    draw: ImageDraw.ImageDraw, panels: Sequence[_Panel], dashed: str, names: Mapping[int, str]
) -> None:
    """Draw the colour of each label in the picture, as many as fit."""
    labels = sorted({int(label) for panel in panels for label in np.unique(panel.labels) if label})
    x, y, font = float(_LETTER), _LEGEND_Y, _font(15)
    if panels[0].reference is not None:
        for start in (x, x + 9, x + 18):
            draw.line([(start, y), (start + 5, y)], fill=(255, 255, 255), width=2)
        draw.text((x + 28, y), dashed, fill=_FAINT, font=font, anchor="lm")
        x += 48 + draw.textlength(dashed, font=font)
    for index, label in enumerate(labels):
        length = draw.textlength(_shortened(names.get(label, "")) or str(label), font=font)
        if x + 17 + length > WIDTH - (_LETTER if index == len(labels) - 1 else 90):
            draw.text((x, y), f"+ {len(labels) - index} more", fill=_FAINT, font=font, anchor="lm")
            return
        draw.rectangle([(x, y - 6), (x + 12, y + 6)], fill=label_colour(label))
        text = _shortened(names.get(label, "")) or str(label)
        draw.text((x + 17, y), text, fill=_TEXT, font=font, anchor="lm")
        x += 33 + draw.textlength(text, font=font)
    if not labels:
        draw.text((x, y), "no label in these planes", fill=_FAINT, font=font, anchor="lm")


def _shortened(name: str) -> str:
    """Return a name on one line, cut where it is long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}\u2026"


@cache
def _font(size: int) -> _Font:
    return ImageFont.load_default(size)


def _png(canvas: Image.Image) -> bytes:
    buffer = BytesIO()
    canvas.save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()
