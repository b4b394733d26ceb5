"""Which axes of a file are space, and what a fourth one is: channels, or a series of volumes.

Nothing in a header says what a fourth axis is. Whoever reads the file says what it may be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unet_pipeline.errors import CaseError
from unet_pipeline.tiling.box import Index3, index3

ANY_NUMBER = -1  # of channels


@dataclass(frozen=True)
class Axes:
    """What a file may have instead of three axes in space alone.

    Attributes
    ----------
    channels
        Volumes that may follow each other along a fourth axis, as the channels of one image;
        ``ANY_NUMBER`` for any.
    volume
        The one volume to take of a fourth axis, counted from 0; the others are then no channels.
    flat
        Whether a file of two axes is one slice.
    level
        The level to take of a file that has its voxels at several, 0 for the finest.
    optional
        Whether ``volume`` is for files with a fourth axis only; else one of three axes has volume
        0 and no other.
    """

    channels: int = 1
    volume: int | None = None
    flat: bool = False
    optional: bool = False
    level: int = 0


XYZ = Axes()  # and nothing else
OF_LABELS = Axes(flat=True)  # what label maps that are written here may have


@dataclass(frozen=True)
class AxisSelection:
    """What is taken of a file.

    Attributes
    ----------
    spatial
        Voxels along the three axes in space.
    volumes
        Volumes that are taken, one behind the other.
    first, stored
        The first of them, counted from 0, and how many the file holds.
    flat
        Whether the file has two axes.
    """

    spatial: Index3
    volumes: int = 1
    first: int = 0
    stored: int = 1
    flat: bool = False


def select_axes(shape: Sequence[int], axes: Axes) -> AxisSelection:
    """Return what is taken of a file of this shape. Further axes of one voxel are dropped.

    Raises
    ------
    CaseError
        ``not_3d``, or ``volume_outside`` for a volume that the file does not have.
    """
    flat = len(shape) == 2 and axes.flat
    spatial, volumes = [*shape[:3], *([1] if flat else [])], [n for n in shape[3:] if n > 1]
    if len(spatial) == 3 and min(spatial) >= 1 and len(volumes) <= 1:
        stored = volumes[0] if volumes else 1
        if axes.volume is not None and not (axes.optional and stored == 1):
            return AxisSelection(index3(spatial), 1, _inside(axes.volume, stored), stored, flat)
        if stored == 1 or axes.channels in (stored, ANY_NUMBER):
            return AxisSelection(index3(spatial), stored, 0, stored, flat)
    raise CaseError(
        "not_3d",
        found=f"a volume of {' x '.join(map(str, shape)) or 'no'} voxels",
        wanted="three axes of at least one voxel"
        + (f", or {axes.channels} such volumes, one a channel" if axes.channels > 1 else ""),
        remedy=_what_fits(len(shape), volumes),
    )  # fmt: skip


def _inside(volume: int, stored: int) -> int:
    if volume < stored:
        return volume
    raise CaseError(
        "volume_outside",
        found="one volume" if stored == 1 else f"{stored} volumes, 0 to {stored - 1}",
        wanted=f"volume {volume}, counted from 0, as --volume asks for",
        remedy="Give a number that every file has, or run the shorter series by themselves",
    )


def _what_fits(axes: int, volumes: list[int]) -> str:
    if axes == 2:
        return (
            "A 2-D network takes it as one slice (--model); for others give it a third axis of "
            "one voxel (nibabel: data[..., None])"
        )
    if axes < 2 or len(volumes) != 1:
        return "Split the file into 3-D volumes"
    return (
        f"{volumes[0]} channels: take a model of as many (--model); a time series: say which "
        "volume to take, counted from 0 (--volume 0); a one-hot mask: say --remedies onehot"
    )
