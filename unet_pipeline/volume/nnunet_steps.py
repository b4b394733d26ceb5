"""nnU-Net's preprocessing (version 2) as steps, so that its trained models see what they learnt on.

The order is nnU-Net's: axes, crop to what is not 0, normalise (``nnunet_values.py``), resample.
Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation", Nature Methods 18, 2021. The oracle of the tests is its own predictor.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet_pipeline.errors import CaseError
from unet_pipeline.tiling.box import Index3
from unet_pipeline.volume import statistics
from unet_pipeline.volume.grid import Orientation, VoxelGrid
from unet_pipeline.volume.label_views import VotedLabels
from unet_pipeline.volume.spline import Bounds, Spline
from unet_pipeline.volume.steps import CropPad, Identity, Reorder, Resolved, check_lengths
from unet_pipeline.volume.views import Resampled, Spacing3, View

ANISOTROPIC = 3.0  # largest spacing by smallest, above which slices are resampled one by one


@dataclass(frozen=True)
class Permute:
    """Put the axes in another order: nnU-Net's arrays are Z, Y, X, and then as its plan says."""

    source_axes: Index3
    needs_voxels = False
    measures = False

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Nothing to measure."""
        return Reorder(Orientation(self.source_axes, (False, False, False)))


@dataclass(frozen=True)
class CropNonzero:
    """Keep the smallest box that holds every voxel that is not 0 in some channel."""

    needs_voxels = True
    measures = True

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Find the box in one pass over the volume."""
        found = statistics.nonzero_box(view)
        if found is None:
            raise CaseError(
                "no_foreground",
                found="an image of zeros",
                wanted="some other values, as nnU-Net crops to them",
                remedy="Check the image",
            )
        return CropPad(found.start, found.shape)


@dataclass(frozen=True)
class Respace:
    """Resample the image by cubic splines, or linearly, and the scores linearly.

    Attributes
    ----------
    spacing_mm
        Wanted spacing along the model axes; None keeps the file's.
    cubic
        Whether images are interpolated by cubic splines.
    separate
        Whether slices along the axis of largest spacing are resampled one by one, and along it the
        nearest is taken; None for where the spacing is anisotropic.
    separate_labels, lowest_labels
        The same for the label map of a first stage; and whether the lowest of labels that have the
        same share of a voxel is taken, rather than the nearest.
    """

    spacing_mm: tuple[float | None, float | None, float | None]
    cubic: bool = True
    separate: bool | None = None
    separate_scores: bool | None = None
    separate_labels: bool | None = None
    lowest_labels: bool = False
    needs_voxels = False

    @property
    def measures(self) -> bool:
        """Splines are clipped to the range of the volume, which must be measured."""
        return self.cubic

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Find the new shape, and the range of values if splines may leave it."""
        have = tuple(float(np.float32(mm)) for mm in grid.spacing_mm)  # as headers hold it
        want = tuple(h if w is None else w for w, h in zip(self.spacing_mm, have, strict=True))
        check_lengths(grid.shape, have, want)
        x, y, z = (round(h / w * n) for h, w, n in zip(have, want, grid.shape, strict=True))
        if (x, y, z) == grid.shape:
            return Identity()
        if 0 in (x, y, z):
            raise _resampled_away(have, want, grid.shape)
        slices = slice_axis(have, want, self.separate)
        score_slices = slice_axis(want, have, self.separate_scores)
        bounds = statistics.bounds(view, slices) if self.cubic else None
        label_slices = slice_axis(have, want, self.separate_labels)
        return Respaced((x, y, z), slices, score_slices, bounds, label_slices, self.lowest_labels)


@dataclass(frozen=True)
class Respaced:
    """``Respace`` for one volume; attributes as there, and the axes of slices, if they are apart.

    Attributes
    ----------
    bounds
        What splines are clipped to; None where images are interpolated linearly.
    """

    shape: Index3
    slices: int | None
    score_slices: int | None
    bounds: tuple[Bounds, Bounds] | None
    label_slices: int | None = None
    lowest_labels: bool = False

    def apply(self, view: View) -> View:
        """Return the resampled view: in the slices first, then across them."""
        if self.bounds is None:
            return _linear(view, self.shape, self.slices)
        if self.slices is None:
            return Spline(view, _steps(view.shape, self.shape), self.shape, *self.bounds)
        x, y, z = (
            n if axis == self.slices else self.shape[axis] for axis, n in enumerate(view.shape)
        )
        planes = Spline(view, _steps(view.shape, (x, y, z)), (x, y, z), *self.bounds)
        return _linear(planes, self.shape, self.slices)

    def apply_to_labels(self, labels: View) -> View:
        """Return a resampled label map."""
        return VotedLabels(labels, self.shape, self.label_slices, self.lowest_labels)

    def undo(self, scores: View, shape: Index3) -> View:
        """Return scores on the grid of ``shape`` voxels that the step was applied to."""
        return _linear(scores, shape, self.score_slices)

    def grid(self, grid: VoxelGrid) -> VoxelGrid:
        """Return the grid after this step: the outer faces stay where they are."""
        steps = _steps(grid.shape, self.shape)
        affine = grid.affine @ np.diag([*steps, 1.0])
        affine[:3, 3] = grid.voxel_to_world_mm(_first(steps))
        return VoxelGrid.of(self.shape, affine)


def slice_axis(
    current_mm: Sequence[float], new_mm: Sequence[float], separate: bool | None
) -> int | None:
    """Return the axis along which slices are resampled one by one, if there is one.

    Where either spacing is anisotropic (the current one counts first), that is the axis of its
    largest spacing, unless there are two.
    """
    chosen = current_mm
    if separate is None:
        anisotropic = [mm for mm in (current_mm, new_mm) if max(mm) / min(mm) > ANISOTROPIC]
        if not anisotropic:
            return None
        chosen = anisotropic[0]
    elif not separate:
        return None
    largest = [axis for axis, mm in enumerate(chosen) if max(chosen) / mm == 1]
    return largest[0] if len(largest) == 1 else None


def _resampled_away(have: Sequence[float], want: Sequence[float], shape: Index3) -> CaseError:
    extents, sizes = (
        " x ".join(f"{mm:g}" for mm in sizes)
        for sizes in ((n * mm for n, mm in zip(shape, have, strict=True)), want)
    )
    return CaseError(
        "volume_too_small",
        found=f"a volume of {extents} mm",
        wanted=f"more than half a voxel of the model's {sizes} mm, along its axes",
        remedy="Check the spacing in the image's header",
    )


def _steps(inner: Index3, shape: Index3) -> Spacing3:
    x, y, z = (have / want for have, want in zip(inner, shape, strict=True))
    return x, y, z


def _first(steps: Spacing3) -> Spacing3:
    """Return where voxel 0 lies when the outer faces of both grids coincide."""
    x, y, z = (0.5 * step - 0.5 for step in steps)
    return x, y, z


def _linear(view: View, shape: Index3, slices: int | None) -> View:
    steps = _steps(view.shape, shape)
    nearest = () if slices is None else (slices,)
    return Resampled(view, steps, shape, _first(steps), nearest)
