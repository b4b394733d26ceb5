"""nnU-Net's normalisation of intensities, channel by channel, as a step.

Source: nnU-Net 2's default normalisation schemes; Isensee et al., Nature Methods 18, 2021.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_fill_holes

from unet_pipeline.errors import CaseError
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume import kernels, statistics
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.layout import in_order
from unet_pipeline.volume.steps import Identity, Resolved
from unet_pipeline.volume.views import View, Voxels, slabs

SMALLEST_DEVIATION = 1e-8
WHITE = 255.0


@dataclass(frozen=True)
class Scheme:
    """How nnU-Net normalises one channel.

    Attributes
    ----------
    name
        ``CTNormalization``, ``ZScoreNormalization``, ``NoNormalization``,
        ``RescaleTo01Normalization`` or ``RGBTo01Normalization``.
    masked
        Whether a z-score is of what is not 0 (holes filled), and leaves the rest as it is.
    mean, deviation, low, high
        Of the foreground of all training images, for CT.
    """

    name: str
    masked: bool = False
    mean: float = 0.0
    deviation: float = 1.0
    low: float = -np.inf
    high: float = np.inf

    def measured(self, view: View, channel: int, mask_XYZ: npt.NDArray[np.bool_] | None) -> "Scale":
        """Return the scale of one volume."""
        match self.name:
            case "CTNormalization":
                return Scale(self.low, self.high, self.mean, self.deviation)
            case "ZScoreNormalization":
                mask = mask_XYZ if self.masked else None
                mean, deviation = statistics.mean_and_deviation(
                    view, False, channels=[channel], mask_XYZ=mask
                )
                return Scale(shift=mean, divisor=deviation, masked=self.masked)
            case "RescaleTo01Normalization":
                low, high = statistics.value_range(view, channel)
                return Scale(shift=low, divisor=high - low)
            case "RGBTo01Normalization":
                low, high = statistics.value_range(view, channel)
                if low < 0 or high > WHITE:
                    raise CaseError(
                        "values_not_rgb",
                        found=f"values from {low:g} to {high:g} in channel {channel}",
                        wanted=f"0 to {WHITE:g}, as the model's RGBTo01Normalization asks",
                        remedy="Choose a model for such images",
                    )
                return Scale(divisor=WHITE)
        return Scale()


SCHEMES = (
    "CTNormalization",
    "ZScoreNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)


@dataclass(frozen=True)
class Scale:
    """Clip to [low, high], subtract ``shift``, divide; perhaps only inside a mask."""

    low: float = -np.inf
    high: float = np.inf
    shift: float = 0.0
    divisor: float = 1.0
    masked: bool = False

    def __call__(self, values: Voxels, mask: npt.NDArray[np.bool_] | None = None) -> Voxels:
        """Return the changed values of one channel."""
        divisor = max(self.divisor, SMALLEST_DEVIATION)
        numbers = map(np.float32, (self.low, self.high, self.shift, divisor))
        changed = np.empty(values.shape, np.float32)
        kernels.scale(np.ravel(values), *numbers, changed.reshape(-1))
        if self.masked and mask is not None:
            np.copyto(changed, values, where=~mask)
        return changed


@dataclass(frozen=True)
class Normalise:
    """Normalise each channel by its scheme."""

    schemes: tuple[Scheme, ...]
    needs_voxels = False
    measures = True

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Measure what the schemes ask of this volume."""
        masked = any(scheme.masked for scheme in self.schemes)
        mask_XYZ = filled_nonzero(view) if masked else None
        scales = [s.measured(view, channel, mask_XYZ) for channel, s in enumerate(self.schemes)]
        return Normalised(tuple(scales), mask_XYZ)


@dataclass(frozen=True)
class Normalised(Identity):
    """The scales of one volume, and where what is masked is changed, shape XYZ."""

    scales: tuple[Scale, ...]
    mask_XYZ: npt.NDArray[np.bool_] | None

    def apply(self, view: View) -> View:
        """Return the normalised view."""
        return _NormalisedView(view, self.scales, self.mask_XYZ)


@dataclass(frozen=True)
class _NormalisedView:
    inner: View
    scales: tuple[Scale, ...]
    mask_XYZ: npt.NDArray[np.bool_] | None

    @property
    def shape(self) -> Index3:
        """Voxels along each axis."""
        return self.inner.shape

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.inner.channels

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape CXYZ."""
        whole = Box.whole(self.shape)
        mask_XYZ = None if self.mask_XYZ is None else self.mask_XYZ[box.within(whole)]
        values_CXYZ = in_order(self.inner.read(box))
        pairs = zip(self.scales, values_CXYZ, strict=True)
        changed = [scale(values_XYZ, mask_XYZ) for scale, values_XYZ in pairs]
        return changed[0][None] if len(changed) == 1 else np.stack(changed)

    def bounds(self, axis: int | None) -> tuple[Voxels, Voxels]:
        """Return bounds: those of the inner view, changed as all values are, if none is masked."""
        if any(scale.masked for scale in self.scales):
            return statistics.measured_bounds(self, axis)
        low, high = (
            np.stack([scale(ends) for scale, ends in zip(self.scales, bounds_C111, strict=True)])
            for bounds_C111 in statistics.bounds(self.inner, axis)
        )
        return low, high

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view must give."""
        return self.inner.needs(box)


def filled_nonzero(view: View) -> npt.NDArray[np.bool_]:
    """Return where some channel is not 0, holes filled, shape XYZ."""
    found_XYZ = np.zeros(view.shape, dtype=np.bool_)
    for box in slabs(view):
        found_XYZ[box.within(Box.whole(view.shape))] = (view.read(box) != 0).any(axis=0)
    if found_XYZ.all():  # filling takes several arrays as large
        return found_XYZ
    return np.asarray(binary_fill_holes(found_XYZ))
