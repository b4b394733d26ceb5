"""Three planes of a volume, as a radiologist expects them (arithmetic only, no drawing).

Arrays named ``_XYZ`` have axis 0 to the patient's Right, 1 to Anterior, 2 to Superior. Arrays named
``_HW`` are pictures: row 0 is at the top, column 0 at the left. In radiological convention the
patient's right is on the left of the picture::

            A                  S                  S
        R   +   L          R   +   L          A   +   P
            P                  I                  I
          axial             coronal           sagittal
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.errors import CaseError
from unet_pipeline.volume.counts import counts_per_slice

Array = NDArray[Any]

# A plane that is larger on a side is thinned before it is converted: a picture cannot show more.
_MAX_SIDE = 768


@dataclass(frozen=True)
class View:
    """One of the three standard views.

    Attributes
    ----------
    across, down, along
        The RAS axis that runs across the picture, down the picture, and into it.
    left, right, top, bottom
        The patient's directions at the edges of the picture.
    """

    title: str
    across: int
    down: int
    along: int
    left: str
    right: str
    top: str
    bottom: str


VIEWS = (
    View("Axial", 0, 1, 2, left="R", right="L", top="A", bottom="P"),
    View("Coronal", 0, 2, 1, left="R", right="L", top="S", bottom="I"),
    View("Sagittal", 1, 2, 0, left="A", right="P", top="S", bottom="I"),
)


def ras_axes(axcodes: Sequence[str]) -> tuple[int, ...]:
    """Return the positions of the right-left, front-back and up-down axes in ``axcodes``.

    Raises
    ------
    CaseError
        ``figure_axes`` if the codes do not name each pair of directions once.
    """
    found = [[i for i, code in enumerate(axcodes) if code in p] for p in ("RL", "AP", "SI")]
    if sorted(map(len, found)) != [1, 1, 1] or len(axcodes) != 3:
        raise CaseError(
            "figure_axes",
            found=f"axis codes {tuple(axcodes)}",
            wanted="one each of R or L, A or P, S or I",
            remedy="Pass the axis codes of the voxel grid",
        )
    return tuple(axes[0] for axes in found)


def to_ras(array: Array, axcodes: Sequence[str]) -> Array:
    """Return a 3-D array with its axes to Right, Anterior, Superior; nothing is copied.

    Parameters
    ----------
    axcodes
        The direction in which each axis of ``array`` grows, e.g. ``("L", "P", "S")``.
    """
    axes = ras_axes(axcodes)
    flips = tuple(slice(None, None, 1 if axcodes[axis] in "RAS" else -1) for axis in axes)
    return np.transpose(array, axes)[flips]


def index_in_ras(
    index: Sequence[int], shape: Sequence[int], axcodes: Sequence[str]
) -> tuple[int, ...]:
    """Return where a voxel of an array is in ``to_ras`` of it."""
    return tuple(
        index[axis] if axcodes[axis] in "RAS" else shape[axis] - 1 - index[axis]
        for axis in ras_axes(axcodes)
    )


def busiest_voxel(foreground_XYZ: Array) -> tuple[int, ...] | None:
    """Return, per axis, the index of the slice with most non-zero voxels; None if there are none.

    Of equally full slices the middle one is taken.
    """
    counts = counts_per_slice(foreground_XYZ)
    if not counts[0].any():
        return None
    return tuple(_middle_of_largest(count) for count in counts)


def _middle_of_largest(counts: Array) -> int:
    (largest,) = np.nonzero(counts == counts.max())
    return int(largest[largest.size // 2])


def picture(array_XYZ: Array, view: View, voxel: Sequence[int]) -> Array:
    """Return the slice through ``voxel`` as a picture of at most 768 x 768; nothing is copied."""
    plane = np.moveaxis(array_XYZ, (view.along, view.down, view.across), (0, 1, 2))
    picture_HW = plane[voxel[view.along], ::-1, ::-1]
    rows, columns = (-(-size // _MAX_SIDE) for size in picture_HW.shape)
    return picture_HW[::rows, ::columns]


@dataclass(frozen=True)
class Sliced:
    """A volume, perhaps on disk, of which only the slices of pictures are read.

    Attributes
    ----------
    array_XYZ
        Has a shape, and is read where it is sliced.
    axcodes
        As in ``to_ras``.
    """

    array_XYZ: Any
    axcodes: Sequence[str]

    def picture(self, view: View, voxel: Sequence[int]) -> Array:
        """Return what ``picture`` gives of the volume to Right, Anterior, Superior."""
        axis, index = ras_axes(self.axcodes)[view.along], voxel[view.along]
        if self.axcodes[axis] not in "RAS":
            index = self.array_XYZ.shape[axis] - 1 - index
        part = [slice(None)] * 3
        part[axis] = slice(index, index + 1)
        slab = to_ras(np.asarray(self.array_XYZ[tuple(part)]), self.axcodes)
        at = [0 if along == view.along else i for along, i in enumerate(voxel)]
        return picture(slab, view, at)


def grey_levels(pictures: Sequence[Array], foregrounds: Sequence[Array]) -> list[NDArray[np.uint8]]:
    """Return the pictures as grey levels from 0 to 255, all in one window of intensities.

    The window is the shortest interval that holds 80 % of what is not background, widened by half
    on either side; for a CT of the trunk that is a soft-tissue window. It always holds the middle
    90 % of the foreground, so that a segmented bone or lung is not clipped. Values that are not
    finite become black, pictures of one constant value mid-grey.

    Parameters
    ----------
    pictures
        Real intensities, each (H, W), in any unit.
    foregrounds
        For each picture an array of its shape, not zero where something is segmented.
    """
    peak = max((_largest_size(picture_HW) for picture_HW in pictures), default=0.0) or 1.0
    scaled = [np.asarray(picture_HW, np.float64) / peak for picture_HW in pictures]
    values = np.concatenate([image_HW[np.isfinite(image_HW)] for image_HW in scaled])
    inside = np.concatenate(
        [
            image_HW[np.isfinite(image_HW) & (mask_HW != 0)]
            for image_HW, mask_HW in zip(scaled, foregrounds, strict=True)
        ]
    )
    low, high = _window(values, inside)
    return [_grey(image_HW, low, high) for image_HW in scaled]


def _largest_size(picture_HW: Array) -> float:
    finite = picture_HW[np.isfinite(picture_HW)]
    return max(abs(float(finite.max())), abs(float(finite.min()))) if finite.size else 0.0


def _window(values: Array, inside: Array) -> tuple[float, float]:
    if not values.size:
        return 0.0, 0.0
    lowest, highest = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    body = np.sort(values[values > lowest + 0.1 * (highest - lowest)])
    low, high = _shortest_interval(body if body.size else np.sort(values), share=0.8)
    margin = (high - low) / 2
    low, high = max(low - margin, lowest), min(high + margin, highest)
    if inside.size:
        least, most = (float(v) for v in np.percentile(inside, (5, 95)))
        low, high = min(low, least), max(high, most)
    if high - low < 0.05 * (highest - lowest):
        return lowest, highest
    return low, high


def _shortest_interval(ordered: Array, share: float) -> tuple[float, float]:
    count = max(int(share * ordered.size), 1)
    first = int(np.argmin(ordered[count - 1 :] - ordered[: ordered.size - count + 1]))
    return float(ordered[first]), float(ordered[first + count - 1])


def _grey(image_HW: Array, low: float, high: float) -> NDArray[np.uint8]:
    if high > low:
        shares = (np.clip(image_HW, low, high) - low) / (high - low)
    else:
        shares = np.where(np.isfinite(image_HW), 0.5, np.nan)
    shares[~np.isfinite(image_HW)] = 0.0
    return np.rint(shares * 255).astype(np.uint8)
