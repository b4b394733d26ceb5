"""Numbers about each label of a label map, and about the image under it: a line for each here.

They are in the record of a case under ``statistics``, and in the run's ``statistics.csv`` with a
column each, by what they are called here; nothing else knows which there are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.evaluation.surface_area import surface_areas_mm2
from unet_pipeline.postprocessing.parts import boxes_of, parts_of
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.grid import AXIS_LETTERS, VoxelGrid
from unet_pipeline.volume.views import View

Statistic = float | str
_DECIMALS = 6
_PERCENTILES = (5.0, 50.0, 95.0)


@dataclass(frozen=True)
class Structure:
    """A label of a map, cut out.

    Attributes
    ----------
    mask_XYZ
        The label in ``box``, the smallest that holds all of it.
    parts
        Voxels of each connected part (26 neighbours).
    surface_mm2
        Its surface (``surface_area``).
    """

    mask_XYZ: NDArray[np.bool_]
    box: Box
    grid: VoxelGrid
    parts: NDArray[np.int64]
    surface_mm2: float

    @cached_property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(self.parts.sum())

    @cached_property
    def centroid_mm(self) -> NDArray[np.float64]:
        """Mean of the voxels' centres in world mm (RAS+)."""
        means_vox = []
        for axis, start in enumerate(self.box.start):
            others = tuple(other for other in range(3) if other != axis)
            counts = np.count_nonzero(self.mask_XYZ, axis=others)
            means_vox.append(start + counts @ np.arange(len(counts)) / self.voxels)
        return self.grid.voxel_to_world_mm(means_vox)

    @cached_property
    def extent_mm(self) -> NDArray[np.float64]:
        """Lowest and highest world coordinate of the voxels' box, sides included; shape 2 x 3."""
        ends = np.array([self.box.start, self.box.stop]) - 0.5
        corners_vox = np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(-1, 3)
        corners_mm = self.grid.voxel_to_world_mm(corners_vox)
        return np.stack([corners_mm.min(axis=0), corners_mm.max(axis=0)])

    @property
    def cut(self) -> str:
        """Sides of the volume that it touches, in letters such as ``IR``; empty for none."""
        opposite = {low: high for pair in AXIS_LETTERS for low, high in permutations(pair)}
        ends = zip(self.grid.axcodes, self.box.start, self.box.stop, self.grid.shape, strict=True)
        sides = [
            letter
            for code, start, stop, count in ends
            for letter, touches in ((opposite[code], start == 0), (code, stop == count))
            if touches
        ]
        return "".join(sorted(sides))


@dataclass(frozen=True)
class Intensities:
    """The values of one channel under a label, float32."""

    values: NDArray[np.float32]

    @cached_property
    def percentiles(self) -> dict[float, float]:
        """5 %, median and 95 %, by linear interpolation between values."""
        found = np.percentile(self.values, _PERCENTILES)
        return dict(zip(_PERCENTILES, found.tolist(), strict=True))


OF_SHAPE: Mapping[str, Callable[[Structure], Statistic]] = {
    "voxels": lambda one: one.voxels,
    "volume_ml": lambda one: one.voxels * one.grid.voxel_ml,
    "surface_mm2": lambda one: one.surface_mm2,
    "parts": lambda one: len(one.parts),
    "largest_part": lambda one: one.parts.max() / one.voxels,
    "centroid_x_mm": lambda one: one.centroid_mm[0],
    "centroid_y_mm": lambda one: one.centroid_mm[1],
    "centroid_z_mm": lambda one: one.centroid_mm[2],
    "x_min_mm": lambda one: one.extent_mm[0, 0],
    "y_min_mm": lambda one: one.extent_mm[0, 1],
    "z_min_mm": lambda one: one.extent_mm[0, 2],
    "x_max_mm": lambda one: one.extent_mm[1, 0],
    "y_max_mm": lambda one: one.extent_mm[1, 1],
    "z_max_mm": lambda one: one.extent_mm[1, 2],
    "cut": lambda one: one.cut,
}
OF_INTENSITY: Mapping[str, Callable[[Intensities], float]] = {
    "mean": lambda one: np.mean(one.values, dtype=np.float64),
    "sd": lambda one: np.std(one.values, dtype=np.float64, ddof=int(one.values.size > 1)),
    "p5": lambda one: one.percentiles[5.0],
    "median": lambda one: one.percentiles[50.0],
    "p95": lambda one: one.percentiles[95.0],
}
NOTHING: Mapping[str, Statistic] = {"voxels": 0, "volume_ml": 0.0}  # of a label that is absent


def label_statistics(
    labels_XYZ: NDArray[Any],
    grid: VoxelGrid,
    labels: Iterable[int],
    images: Sequence[View] = (),
) -> dict[str, dict[str, Statistic]]:
    """Return the statistics of each label by its number as text; those of one that is absent, too.

    Parameters
    ----------
    labels_XYZ
        Integers, 0 or more, on ``grid``.
    labels
        Those that are asked about.
    images
        A view for each channel on that grid; of one channel ``mean``, of several ``mean_0``,
        ``mean_1`` and so on.
    """
    wanted = set(labels)
    found = {str(label): dict(NOTHING) for label in sorted(wanted)}
    for label, structure in _structures(labels_XYZ, grid, wanted):
        values: dict[str, Statistic] = {name: of(structure) for name, of in OF_SHAPE.items()}
        for channel, image in enumerate(images):
            ending = f"_{channel}" if len(images) > 1 else ""
            under = Intensities(image.read(structure.box)[0][structure.mask_XYZ])
            values |= {f"{name}{ending}": of(under) for name, of in OF_INTENSITY.items()}
        found[str(label)] = {name: _plain(value) for name, value in values.items()}
    return found


def _structures(
    labels_XYZ: NDArray[Any], grid: VoxelGrid, labels: set[int]
) -> Iterator[tuple[int, Structure]]:
    parts = parts_of(labels_XYZ)
    surfaces_mm2 = surface_areas_mm2(labels_XYZ, grid.affine[:3, :3])
    for label, slices in boxes_of(labels_XYZ).items():
        if label in labels:
            box = Box(tuple(s.start for s in slices), tuple(s.stop for s in slices))
            of_label = parts.voxels[parts.group == label]
            mask_XYZ, surface_mm2 = labels_XYZ[slices] == label, float(surfaces_mm2[label])
            yield label, Structure(mask_XYZ, box, grid, of_label, surface_mm2)


def _plain(value: Statistic) -> Statistic:
    if isinstance(value, str):
        return value
    return int(value) if isinstance(value, int | np.integer) else round(float(value), _DECIMALS)
