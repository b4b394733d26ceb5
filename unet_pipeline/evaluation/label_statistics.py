"""Numbers about each label of a label map, and about the image under it: a line for each here.

They are in the record of a case under ``statistics``, and in the run's ``statistics.csv`` with a
column each, by what they are called here; nothing else knows which there are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.evaluation.intensities import CountedValues, Intensities, Values, padding_of
from unet_pipeline.evaluation.surface_area import surface_areas_mm2
from unet_pipeline.postprocessing.parts import parts_of
from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.compiling import compiled
from unet_pipeline.volume.disk_arrays import each_slab, largest
from unet_pipeline.volume.grid import AXIS_LETTERS, VoxelGrid
from unet_pipeline.volume.kept import each_box
from unet_pipeline.volume.views import View

Statistic = float | str
_DECIMALS = 6
_VOXELS_AT_ONCE = 2**25  # of labels whose values are in memory, 4 bytes each


@dataclass(frozen=True)
class Structure:
    """A label of a map, by how it lies in the slices.

    Attributes
    ----------
    slices
        Its voxels in each slice along each axis.
    parts
        Voxels of each connected part (26 neighbours).
    surface_mm2
        Its surface (``surface_area``).
    """

    slices: tuple[NDArray[np.int64], ...]
    grid: VoxelGrid
    parts: NDArray[np.int64]
    surface_mm2: float

    @cached_property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(self.parts.sum())

    @cached_property
    def box(self) -> Box:
        """The smallest that holds all of it."""
        there = [np.flatnonzero(counts) for counts in self.slices]
        return Box(tuple(int(n[0]) for n in there), tuple(int(n[-1]) + 1 for n in there))  # type: ignore[arg-type]

    @cached_property
    def centroid_mm(self) -> NDArray[np.float64]:
        """Mean of the voxels' centres in world mm (RAS+)."""
        means_vox = [counts @ np.arange(len(counts)) / self.voxels for counts in self.slices]
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
    "mean": lambda one: one.mean,
    "sd": lambda one: one.sd,
    "p5": lambda one: one.percentiles[5.0],
    "median": lambda one: one.percentiles[50.0],
    "p95": lambda one: one.percentiles[95.0],
}
PADDING = "padding"  # share of the label where the image has the value that fills up a scan
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
    labels_XYZ = np.asfortranarray(labels_XYZ)  # along memory, as a file has them
    found = {str(label): dict(NOTHING) for label in sorted(set(labels))}
    there: list[int] = []
    for label, structure in _structures(labels_XYZ, grid):
        if str(label) in found:
            there.append(label)
            values = {name: _plain(of(structure)) for name, of in OF_SHAPE.items()}
            found[str(label)] = values
    voxels = {label: int(found[str(label)]["voxels"]) for label in there}
    for channel, image in enumerate(images):
        ending = f"_{channel}" if len(images) > 1 else ""
        padding = padding_of(image, labels_XYZ.shape)
        for label, under in _intensities(labels_XYZ, image, voxels):
            numbers = {f"{name}{ending}": _plain(of(under)) for name, of in OF_INTENSITY.items()}
            share = 0.0 if padding is None else under.share_of(padding)
            found[str(label)] |= numbers | {f"{PADDING}{ending}": _plain(share)}
    return found


def _structures(labels_XYZ: NDArray[Any], grid: VoxelGrid) -> Iterator[tuple[int, Structure]]:
    with ThreadPoolExecutor(1) as pool:  # what takes longest, beside what comes next
        surfaces = pool.submit(surface_areas_mm2, labels_XYZ, grid.affine[:3, :3])
        parts = parts_of(labels_XYZ)
        sizes = {int(parts.group[of_label[0]]): parts.voxels[of_label] for of_label in parts.groups}
        surfaces_mm2 = surfaces.result()
    slices = tuple(np.zeros((len(surfaces_mm2), n), np.int64) for n in labels_XYZ.shape)
    for part in each_slab(labels_XYZ):
        _count_slices(labels_XYZ.T, part.start, part.stop, *slices)
    for label in np.flatnonzero(slices[0].any(axis=1)).tolist():
        if label:
            of_label = tuple(counts[label] for counts in slices)
            yield label, Structure(of_label, grid, sizes[label], float(surfaces_mm2[label]))


def _intensities(
    labels_XYZ: NDArray[Any], image: View, voxels: Mapping[int, int]
) -> Iterator[tuple[int, Intensities]]:
    """Yield the values under each label; as many labels at once as have ``_VOXELS_AT_ONCE``.

    A speck of a label far from the rest of it makes a box of the whole volume, so values are not
    looked for label by label.
    """
    most = largest(labels_XYZ) if voxels else 0
    for group in _groups(voxels):
        if voxels[group[0]] > _VOXELS_AT_ONCE:
            yield group[0], CountedValues.of(_values_of(labels_XYZ, image, group[0]))
            continue
        ends = np.cumsum([voxels[label] for label in group])
        places = np.full(most + 1, -1, np.int64)
        places[group] = [0, *ends[:-1]]
        values = np.empty(int(ends[-1]), np.float32)
        for part in each_box(labels_XYZ):
            read = np.ascontiguousarray(image.read(Box.of(part))[0].T)
            _sort_in(labels_XYZ[part].ravel("F"), read.ravel(), places, values)
        for label, under in zip(group, np.split(values, ends[:-1]), strict=True):
            yield label, Values(under)


def _values_of(labels_XYZ: NDArray[Any], image: View, label: int) -> Iterator[NDArray[np.float32]]:
    for part in each_box(labels_XYZ):
        under = labels_XYZ[part] == label
        if under.any():
            yield image.read(Box.of(part))[0].T[under.T]  # along memory; their order is no matter


def _groups(voxels: Mapping[int, int]) -> Iterator[list[int]]:
    group: list[int] = []
    for label in voxels:
        if group and sum(voxels[one] for one in [*group, label]) > _VOXELS_AT_ONCE:
            yield group
            group = []
        group.append(label)
    if group:
        yield group


@compiled
def _count_slices(
    labels_ZYX: Any, start: int, stop: int, along_x: Any, along_y: Any, along_z: Any
) -> None:
    """Count the voxels of each label, but background, in slices along each axis.

    Only slices ``start`` to ``stop`` of the first axis are looked at.
    """
    _, height, width = labels_ZYX.shape
    for z in range(start, stop):
        for y in range(height):
            for x in range(width):
                label = labels_ZYX[z, y, x]
                if label:
                    along_x[label, x] += 1
                    along_y[label, y] += 1
                    along_z[label, z] += 1


@compiled
def _sort_in(labels: Any, values: Any, places: Any, sorted_values: Any) -> None:
    """Put values where the next one of their label goes; a place below 0 is of no label asked."""
    for i in range(labels.size):
        place = places[labels[i]]
        if place >= 0:
            sorted_values[place] = values[i]
            places[labels[i]] = place + 1


def _plain(value: Statistic) -> Statistic:
    if isinstance(value, str):
        return value
    return int(value) if isinstance(value, int | np.integer) else round(float(value), _DECIMALS)
