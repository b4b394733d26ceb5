"""One colour per label, the same in the overlay pictures and on the report page."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

# Okabe and Ito, "Color universal design" (2008), without black; ordered to read well on grey.
_HUES: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)


def _mixed(colour: Colour, other: int, share: float) -> Colour:
    red, green, blue = (round(part + (other - part) * share) for part in colour)
    return red, green, blue


PALETTE: tuple[Colour, ...] = (
    *_HUES,
    *(_mixed(hue, 255, 0.45) for hue in _HUES),
    *(_mixed(hue, 0, 0.35) for hue in _HUES),
)


def label_colours(labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Return the colour of each label, (..., 3): label 1 has the first one, and so on, round."""
    return np.take(np.asarray(PALETTE, np.uint8), labels - 1, axis=0, mode="wrap")


def colour_of(label: int) -> Colour:
    """Return the colour of a label."""
    return PALETTE[(label - 1) % len(PALETTE)]


def label_colour(label: int) -> str:
    """Return the colour of a label as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour_of(label))
