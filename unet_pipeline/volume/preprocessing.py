"""A bundle's MONAI ``preprocessing`` list, as steps on grids and boxes.

Each supported transform becomes a step. A step is *resolved* once per volume: what it needs of the
whole volume (a mean, a percentile, a bounding box) is measured in one pass over the view and
becomes a plain number. A resolved step then puts a view on top of a view, and knows how to take
scores back: cropped scores are padded with 0, resampled ones are interpolated, exactly as MONAI's
``Invertd`` does. A transform that is not in the table below is refused by name, before any work.

To add a transform: a frozen dataclass with ``resolve``, ``apply`` and ``undo``, and a line in
``_TRANSFORMS``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume import statistics
from unet_pipeline.volume.grid import Orientation, VoxelGrid, orientation_to
from unet_pipeline.volume.views import (
    Framed,
    Mapped,
    Reoriented,
    Resampled,
    ShapeOnly,
    Spacing3,
    View,
    Voxels,
)

SAME_SPACING_MM = 1e-3  # MONAI keeps a spacing that is this close to the wanted one
SAME_PLACE_VOXELS = 1e-6
ORTHOGONAL = 1e-3  # cosine between two axes


class Resolved(Protocol):
    """A step for one volume, all of its numbers known."""

    def apply(self, view: View) -> View:
        """Return the view after this step."""

    def undo(self, scores: View, shape: Index3) -> View:
        """Return scores on the grid of ``shape`` voxels that the step was applied to."""

    def grid(self, grid: VoxelGrid) -> VoxelGrid:
        """Return the grid after this step."""


class Step(Protocol):
    """A transform of the bundle, for any volume."""

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Measure what the step needs of a volume."""

    @property
    def needs_voxels(self) -> bool:
        """Whether the grid after the step depends on voxel values."""

    @property
    def measures(self) -> bool:
        """Whether resolving the step reads voxels."""


@dataclass(frozen=True)
class Prepared:
    """All steps of a bundle, resolved for one volume.

    Attributes
    ----------
    native, model
        The grid of the file and the grid that the network sees.
    """

    native: VoxelGrid
    model: VoxelGrid
    steps: tuple[Resolved, ...]

    def forward(self, view: View) -> View:
        """Return what the network sees of the file's ``view``."""
        for step in self.steps:
            view = step.apply(view)
        return view

    def backward(self, scores: View) -> View:
        """Return scores of the model grid as scores of the native grid."""
        shapes, grid = [], self.native
        for step in self.steps:
            shapes.append(grid.shape)
            grid = step.grid(grid)
        for step, shape in zip(reversed(self.steps), reversed(shapes), strict=True):
            scores = step.undo(scores, shape)
        return scores


def prepare(steps: Sequence[Step], view: View, grid: VoxelGrid) -> Prepared:
    """Resolve the steps of a bundle for one volume, measuring it where a step asks for it."""
    resolved: list[Resolved] = []
    native = grid
    for step in steps:
        now = step.resolve(view, grid)
        view, grid = now.apply(view), now.grid(grid)
        resolved.append(now)
    return Prepared(native, grid, tuple(resolved))


@dataclass(frozen=True)
class _Nothing:
    """Loading, channel and type transforms: done by the reader."""

    needs_voxels = False
    measures = False

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        return self

    def apply(self, view: View) -> View:
        return view

    def undo(self, scores: View, shape: Index3) -> View:
        return scores

    def grid(self, grid: VoxelGrid) -> VoxelGrid:
        return grid


@dataclass(frozen=True)
class _Change(_Nothing):
    """A change of each value, resolved."""

    change: Callable[[Voxels], Voxels]

    def apply(self, view: View) -> View:
        return Mapped(view, self.change)


@dataclass(frozen=True)
class _Reorder:
    orientation: Orientation

    def apply(self, view: View) -> View:
        return Reoriented(view, self.orientation)

    def undo(self, scores: View, shape: Index3) -> View:
        return Reoriented(scores, self.orientation.inverse)

    def grid(self, grid: VoxelGrid) -> VoxelGrid:
        return self.orientation.apply(grid)


@dataclass(frozen=True)
class _Resample:
    steps: Spacing3
    start: Spacing3
    shape: Index3

    def apply(self, view: View) -> View:
        return Resampled(view, self.steps, self.shape, self.start)

    def undo(self, scores: View, shape: Index3) -> View:
        x, y, z = (1.0 / step for step in self.steps)
        i, j, k = (-a / step for a, step in zip(self.start, self.steps, strict=True))
        return Resampled(scores, (x, y, z), shape, (i, j, k))

    def grid(self, grid: VoxelGrid) -> VoxelGrid:
        affine = grid.affine @ np.diag([*self.steps, 1.0])
        affine[:3, 3] = grid.voxel_to_world_mm(self.start)
        return VoxelGrid.of(self.shape, affine)


@dataclass(frozen=True)
class _Frame:
    start: Index3
    shape: Index3

    def apply(self, view: View) -> View:
        return Framed(view, self.start, self.shape)

    def undo(self, scores: View, shape: Index3) -> View:
        x, y, z = (-a for a in self.start)
        return Framed(scores, (x, y, z), shape)

    def grid(self, grid: VoxelGrid) -> VoxelGrid:
        affine = grid.affine.copy()
        affine[:3, 3] = grid.voxel_to_world_mm(self.start)
        return VoxelGrid.of(self.shape, affine)


@dataclass(frozen=True)
class Orient:
    """``Orientationd``: reorder the axes to ``axcodes``."""

    axcodes: str
    needs_voxels = False
    measures = False

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Find the reordering for this grid."""
        return _Reorder(orientation_to(grid, self.axcodes))


@dataclass(frozen=True)
class Space:
    """``Spacingd``: resample linearly to ``spacing_mm``; a value <= 0 keeps the file's."""

    spacing_mm: tuple[float, float, float]
    needs_voxels = False
    measures = False

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Find steps, start and shape: MONAI's ``compute_shape_offset`` decides.

        The new grid begins at the old one's first voxel. Where rounding tilts an oblique affine
        by 1e-8 or more, MONAI lets the centres coincide instead, and so do we.
        """
        from monai.data.utils import compute_shape_offset, zoom_affine  # imports torch

        axes = grid.affine[:3, :3] / grid.spacing_mm
        if np.abs(axes.T @ axes - np.eye(3)).max() > ORTHOGONAL:
            raise CaseError(
                "axes_not_orthogonal",
                found="a sheared grid, whose axes are not at right angles",
                wanted="axes at right angles, as the bundle's Spacingd resamples along them",
                remedy="Resample the volume to an orthogonal grid first",
            )
        wanted_mm = [
            have if want <= 0 or abs(have - want) <= SAME_SPACING_MM else want
            for want, have in zip(self.spacing_mm, grid.spacing_mm, strict=True)
        ]
        if wanted_mm == list(grid.spacing_mm):
            return _Nothing()
        zoomed = zoom_affine(grid.affine.copy(), wanted_mm, diagonal=False)
        shape, origin_mm = compute_shape_offset(grid.shape, grid.affine, zoomed)
        start = np.linalg.solve(grid.affine, [*origin_mm, 1.0])[:3]
        start = np.where(np.abs(start) < SAME_PLACE_VOXELS, 0.0, start)
        steps = [want / have for want, have in zip(wanted_mm, grid.spacing_mm, strict=True)]
        return _Resample(_three(steps, float), _three(start.tolist(), float), _three(shape, int))


@dataclass(frozen=True)
class ScaleRange(_Nothing):
    """``ScaleIntensityRanged``: map [a_min, a_max] to [b_min, b_max]."""

    a_min: float
    a_max: float
    b_min: float | None = None
    b_max: float | None = None
    clip: bool = False

    def resolve(self, view: View, grid: VoxelGrid) -> Resolved:
        """Nothing to measure."""
        return _Change(self)

    def __call__(self, values: Voxels) -> Voxels:
        """Map the values; a range of width 0 is only shifted, as in MONAI."""
        width = self.a_max - self.a_min
        if width == 0:
            return values - np.float32(self.a_min) + np.float32(self.b_min or 0.0)
        values = (values - np.float32(self.a_min)) / np.float32(width)
        if self.b_min is not None and self.b_max is not None:
            values = values * np.float32(self.b_max - self.b_min) + np.float32(self.b_min)
        return np.clip(values, self.b_min, self.b_max) if self.clip else values


@dataclass(frozen=True)
class ScalePercentiles(_Nothing):
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
        return _Change(_PerChannel(tuple(scales)))


@dataclass(frozen=True)
class Standardise(_Nothing):
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
        return _Change(_PerChannel(tuple(shifts)))


@dataclass(frozen=True)
class _Shift:
    mean: float
    deviation: float
    nonzero: bool

    def __call__(self, values: Voxels) -> Voxels:
        shifted = (values - np.float32(self.mean)) / np.float32(self.deviation)
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
        return _Frame((start[0], start[1], start[2]), (wider[0], wider[1], wider[2]))


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
        return _Frame((-before[0], -before[1], -before[2]), (sizes[0], sizes[1], sizes[2]))


def parse_preprocessing(transforms: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """Translate a bundle's list of transform definitions.

    Raises
    ------
    RequestError
        ``transform_unsupported`` for a transform, or an option of one, that has no translation.
    """
    return tuple(_translate(dict(transform)) for transform in transforms)


_Arguments = dict[str, Any]


def _orient(a: _Arguments) -> Step:
    return Orient(str(a.pop("axcodes")))


def _space(a: _Arguments) -> Step:
    x, y, z = _three(a.pop("pixdim"), float)
    return Space((x, y, z))


def _scale_range(a: _Arguments) -> Step:
    names = ("a_min", "a_max", "b_min", "b_max", "clip")
    return ScaleRange(**{name: a.pop(name) for name in names if name in a})


def _scale_percentiles(a: _Arguments) -> Step:
    names = ("lower", "upper", "b_min", "b_max", "clip", "channel_wise")
    return ScalePercentiles(**{name: a.pop(name) for name in names if name in a})


def _scale_all(a: _Arguments) -> Step:
    """Map the smallest value to ``minv`` and the largest to ``maxv``."""
    low, high = a.pop("minv", 0.0), a.pop("maxv", 1.0)
    return ScalePercentiles(0.0, 100.0, low, high, False, bool(a.pop("channel_wise", False)))


def _standardise(a: _Arguments) -> Step:
    def numbers(name: str) -> tuple[float, ...] | None:
        value = a.pop(name, None)
        return None if value is None else tuple(float(v) for v in np.atleast_1d(value))

    return Standardise(
        numbers("subtrahend"), numbers("divisor"),
        bool(a.pop("nonzero", False)), bool(a.pop("channel_wise", False)),
    )  # fmt: skip


def _crop(a: _Arguments) -> Step:
    return CropForeground(
        _three(a.pop("margin", 0), int), _three(a.pop("k_divisible", 1), int),
        bool(a.pop("allow_smaller", False)),
    )  # fmt: skip


def _pad(a: _Arguments) -> Step:
    return PadDivisible(_three(a.pop("k"), int), str(a.pop("method", "symmetric")))


def _nothing(a: _Arguments) -> Step:
    a.clear()
    return _Nothing()


# For each transform: its translation, and options that change nothing at these values.
_TRANSFORMS: dict[str, tuple[Callable[[_Arguments], Step], dict[str, tuple[Any, ...]]]] = {
    "LoadImaged": (_nothing, {}),
    "EnsureChannelFirstd": (_nothing, {}),
    "EnsureTyped": (_nothing, {}),
    "Orientationd": (_orient, {"labels": (None, [["L", "R"], ["P", "A"], ["I", "S"]])}),
    "Spacingd": (
        _space,
        {"mode": ("bilinear", ["bilinear"]), "padding_mode": ("border", ["border"]),
         "diagonal": (False,), "align_corners": (False, [False]), "scale_extent": (False,),
         "recompute_affine": (False,), "dtype": ("float64", "$np.float64")},
    ),
    "ScaleIntensityRanged": (_scale_range, {}),
    "ScaleIntensityd": (_scale_all, {"factor": (None,)}),
    "ScaleIntensityRangePercentilesd": (_scale_percentiles, {"relative": (False,)}),
    "NormalizeIntensityd": (_standardise, {}),
    "CropForegroundd": (_crop, {"source_key": ("image",), "mode": ("constant",)}),
    "DivisiblePadd": (_pad, {"mode": ("constant",)}),
}  # fmt: skip
_ALWAYS_FINE = {"keys", "allow_missing_keys", "lazy", "_requires_", "_desc_"}


def _translate(transform: _Arguments) -> Step:
    target = str(transform.pop("_target_", "a transform without _target_"))
    name = target.rsplit(".", 1)[-1]
    if transform.pop("_disabled_", False) in (True, "true"):
        return _Nothing()
    if name not in _TRANSFORMS:
        raise _unsupported(name, f"one of {', '.join(sorted(_TRANSFORMS))}")
    make, harmless = _TRANSFORMS[name]
    arguments = {key: value for key, value in transform.items() if key not in _ALWAYS_FINE}
    try:
        step = make(arguments)
    except (TypeError, ValueError, KeyError) as error:
        raise _unsupported(f"{name} with options that cannot be read", "MONAI's options") from error
    for option, value in arguments.items():
        if value not in harmless.get(option, ()):
            raise _unsupported(f"{name} with {option}={value!r}", f"{name} without it")
    return step


def _three(value: Any, kind: Callable[[Any], Any]) -> tuple[Any, Any, Any]:
    """Expand one number, or up to three, as MONAI does: the last is repeated."""
    values = [kind(v) for v in np.atleast_1d(value).tolist()]
    values = (values + [values[-1]] * 3)[:3]
    return values[0], values[1], values[2]


def _unsupported(found: str, wanted: str) -> RequestError:
    return RequestError(
        "transform_unsupported", found=f"preprocessing step {found}", wanted=wanted,
        remedy="Write the bundle's preprocessing with the supported transforms",
    )  # fmt: skip


def covered_box(prepared: Prepared, write_box: Box) -> Box:
    """Return the model voxels whose scores decide the labels of a box of native voxels."""
    return prepared.backward(ShapeOnly(prepared.model.shape)).needs(write_box)
