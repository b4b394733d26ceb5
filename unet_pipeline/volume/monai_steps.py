"""MONAI's transforms as steps; scores are taken back exactly as MONAI's ``Invertd`` does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_pipeline.errors import CaseError
from unet_pipeline.tiling.box import Index3
from unet_pipeline.volume import statistics
from unet_pipeline.volume.deskew import HandlesShear, ResampleToGrid, right_angled
from unet_pipeline.volume.grid import VoxelGrid, orientation_to
from unet_pipeline.volume.spacing_grid import shape_and_origin, with_spacing
from unet_pipeline.volume.steps import (
    CropPad,
    Identity,
    MapValues,
    Reorder,
    Resample,
    Resolved,
    check_lengths,
)
from unet_pipeline.volume.views import View, Voxels

SAME_SPACING_MM = 1e-3  # MONAI keeps a spacing that is this close to the wanted one
SAME_PLACE_VOXELS = 1e-6


@dataclass(frozen=True)
class Orient:
    """``Orientationd``: reorder the axes to ``axcodes``."""

    axcodes: str
    needs_voxels = False
    measures = False

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Find the reordering for this grid."""
        return Reorder(orientation_to(grid, self.axcodes))


@dataclass(frozen=True)
class Spacing(HandlesShear):
    """``Spacingd``: resample linearly to ``spacing_mm``; a value <= 0 keeps the file's."""

    spacing_mm: tuple[float, float, float]
    needs_voxels = False
    measures = False

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Find steps, start and shape, as MONAI's ``compute_shape_offset`` does.

        The new grid begins at the old one's first voxel. Where rounding tilts an oblique affine
        by 1e-8 or more, MONAI lets the centres coincide instead, and so do we. A sheared grid
        comes to right angles on the way.
        """
        if grid.is_sheared:
            kept = zip(self.spacing_mm, grid.spacing_mm, strict=True)
            return ResampleToGrid(grid, right_angled(grid, [w if w > 0 else h for w, h in kept]))
        wanted_mm = [
            have if want <= 0 or abs(have - want) <= SAME_SPACING_MM else want
            for want, have in zip(self.spacing_mm, grid.spacing_mm, strict=True)
        ]
        if wanted_mm == list(grid.spacing_mm):
            return Identity()
        check_lengths(grid.shape, grid.spacing_mm, wanted_mm)
        zoomed = with_spacing(grid.affine, wanted_mm)
        shape, origin_mm = shape_and_origin(grid.shape, grid.affine, zoomed)
        start = np.linalg.solve(grid.affine, [*origin_mm, 1.0])[:3]
        start = np.where(np.abs(start) < SAME_PLACE_VOXELS, 0.0, start)
        steps = [want / have for want, have in zip(wanted_mm, grid.spacing_mm, strict=True)]
        return Resample(three(steps, float), three(start.tolist(), float), three(shape, int))


@dataclass(frozen=True)
class Resize:
    """``Resized``: resample linearly to a number of voxels.

    Attributes
    ----------
    shape
        Voxels along each axis; a number <= 0 keeps the volume's.
    longest
        Whether ``shape`` is of the longest axis, and the others keep their proportion to it.
    corners
        Whether the centres of the outermost voxels coincide (``align_corners``), and not the
        borders of the volume.
    """

    shape: Index3
    longest: bool = False
    corners: bool = False
    needs_voxels = False
    measures = False

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Find steps and start, as of ``torch.nn.functional.interpolate``."""
        have = grid.shape
        wanted = [new if new > 0 else old for new, old in zip(self.shape, have, strict=True)]
        if self.longest:
            scale = self.shape[0] / max(have)
            wanted = [max(1, round(n * scale)) for n in have]
        if tuple(wanted) == have:
            return Identity()
        pairs = list(zip(have, wanted, strict=True))
        if self.corners:
            steps = [
                (old - 1) / (new - 1) if min(old, new) > 1 else old / new for old, new in pairs
            ]
            return Resample(three(steps, float), (0.0, 0.0, 0.0), three(wanted, int))
        steps = [old / new for old, new in pairs]
        start = [(step - 1) / 2 for step in steps]
        return Resample(three(steps, float), three(start, float), three(wanted, int))


@dataclass(frozen=True)
class ScaleRange(Identity):
    """``ScaleIntensityRanged``: map [a_min, a_max] to [b_min, b_max]."""

    a_min: float
    a_max: float
    b_min: float | None = None
    b_max: float | None = None
    clip: bool = False

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Nothing to measure."""
        return MapValues(self)

    def __call__(self, values: Voxels) -> Voxels:
        """Map the values; a range of width 0 is only shifted, as in MONAI."""
        width = self.a_max - self.a_min
        if width == 0:
            return values - np.float32(self.a_min) + np.float32(self.b_min or 0.0)
        values = values - np.float32(self.a_min)
        values /= np.float32(width)
        if self.b_min is not None and self.b_max is not None:
            values *= np.float32(self.b_max - self.b_min)
            values += np.float32(self.b_min)
        return np.clip(values, self.b_min, self.b_max, out=values) if self.clip else values


@dataclass(frozen=True)
class ScalePercentiles(Identity):
    """``ScaleIntensityRangePercentilesd``: as ``ScaleRange``, from percentiles of the volume."""

    lower: float
    upper: float
    b_min: float | None
    b_max: float | None
    clip: bool = False
    channel_wise: bool = False
    measures = True

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Measure the two percentiles, of the whole volume or of each channel."""
        groups = [[c] for c in range(view.channels)] if self.channel_wise else [None]
        scales = []
        for group in groups:
            low, high = statistics.percentiles(view, (self.lower, self.upper), channels=group)
            scales.append(ScaleRange(low, high, self.b_min, self.b_max, self.clip))
        return MapValues(_PerChannel(tuple(scales)))


@dataclass(frozen=True)
class Standardise(Identity):
    """``NormalizeIntensityd``: subtract a mean and divide by a deviation, given or measured."""

    subtrahend: tuple[float, ...] | None = None
    divisor: tuple[float, ...] | None = None
    nonzero: bool = False
    channel_wise: bool = False
    measures = True

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Measure mean and population deviation, of the whole volume or of each channel."""
        groups = [[c] for c in range(view.channels)] if self.channel_wise else [None]
        shifts = []
        for index, group in enumerate(groups):
            mean, deviation = 0.0, 1.0
            if self.subtrahend is None or self.divisor is None:
                mean, deviation = statistics.mean_and_deviation(view, self.nonzero, channels=group)
            shifts.append(
                _Shift(
                    mean if self.subtrahend is None else self.subtrahend[index],
                    (deviation if self.divisor is None else self.divisor[index]) or 1.0,
                    self.nonzero,
                )
            )
        return MapValues(_PerChannel(tuple(shifts)))


@dataclass(frozen=True)
class _Shift:
    mean: float
    deviation: float
    nonzero: bool

    def __call__(self, values: Voxels) -> Voxels:
        shifted = values - np.float32(self.mean)
        shifted /= np.float32(self.deviation)
        return np.where(values != 0, shifted, values) if self.nonzero else shifted


@dataclass(frozen=True)
class _PerChannel:
    """One change for all channels, or one for each."""

    changes: tuple[Callable[[Voxels], Voxels], ...]

    def __call__(self, values: Voxels) -> Voxels:
        if len(self.changes) == 1:
            return self.changes[0](values)
        return np.stack([change(v) for change, v in zip(self.changes, values, strict=True)])


@dataclass(frozen=True)
class CropForeground:
    """``CropForegroundd``: keep the bounding box of voxels above 0, with a margin."""

    margin: Index3 = (0, 0, 0)
    k_divisible: Index3 = (1, 1, 1)
    allow_smaller: bool = False
    needs_voxels = True
    measures = True

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Find the box in one pass over the volume."""
        found = statistics.foreground_box(view)
        if found is None:
            raise CaseError(
                "no_foreground",
                found="no voxel above 0",
                wanted="some, as the bundle crops to the foreground (CropForegroundd)",
                remedy="Check the image, and whether it has the units the bundle was trained on",
            )
        start = [a - m for a, m in zip(found.start, self.margin, strict=True)]
        stop = [b + m for b, m in zip(found.stop, self.margin, strict=True)]
        if self.allow_smaller:
            start = [max(a, 0) for a in start]
            stop = [min(b, n) for b, n in zip(stop, view.shape, strict=True)]
        shape = [b - a for a, b in zip(start, stop, strict=True)]
        wider = [-(-n // k) * k for n, k in zip(shape, self.k_divisible, strict=True)]
        start = [a - (w - n) // 2 for a, n, w in zip(start, shape, wider, strict=True)]
        return CropPad((start[0], start[1], start[2]), (wider[0], wider[1], wider[2]))


@dataclass(frozen=True)
class PadDivisible:
    """``DivisiblePadd``: pad with 0 to sizes divisible by ``k``, on both sides or at the end."""

    k: Index3
    method: str = "symmetric"
    needs_voxels = False
    measures = False

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Find the padded shape."""
        sizes = [-(-n // k) * k if k > 0 else n for n, k in zip(view.shape, self.k, strict=True)]
        before = [
            (s - n) // 2 if self.method == "symmetric" else 0
            for n, s in zip(view.shape, sizes, strict=True)
        ]
        return CropPad((-before[0], -before[1], -before[2]), (sizes[0], sizes[1], sizes[2]))


def three(value: Any, kind: Callable[[Any], Any]) -> tuple[Any, Any, Any]:
    """Expand one number, or up to three, as MONAI does: the last is repeated."""
    values = [kind(v) for v in np.atleast_1d(value).tolist()]
    values = (values + [values[-1]] * 3)[:3]
    return values[0], values[1], values[2]
