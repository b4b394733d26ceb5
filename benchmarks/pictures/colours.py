"""Pictures of few colours, which are a third as large."""

import io

import numpy as np
from PIL import Image

GREYS = np.array([*range(0, 255, 8), 255], np.uint8)


def few_colours(image: Image.Image) -> bytes:
    """Return a PNG of at most 256 colours, of which 33 are grey.

    Grey noise is most of a volume, and would leave no colour for its labels: so greys are rounded
    by themselves.
    """
    pixels = np.asarray(image.convert("RGB"))
    grey = np.ptp(pixels.astype(np.int16), axis=2) < 6
    pixels = np.where(grey[..., None], GREYS[(pixels[..., 1:2].astype(np.int16) + 4) // 8], pixels)
    kinds = np.unique(pixels[~grey], axis=0)
    palette = [*np.repeat(GREYS, 3)]
    if len(kinds):
        chosen = Image.fromarray(kinds[None]).quantize(256 - len(GREYS)).getpalette() or []
        palette += chosen[: 3 * (256 - len(GREYS))]
    colours = Image.new("P", (1, 1))
    colours.putpalette([int(value) for value in palette])
    few = Image.fromarray(pixels).quantize(palette=colours, dither=Image.Dither.NONE)
    out = io.BytesIO()
    few.save(out, "PNG", optimize=True)
    return out.getvalue()
