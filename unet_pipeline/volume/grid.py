"""A voxel grid: all there is to know about where the voxels of a volume lie, and no voxels.

Two spaces. *Voxel* space counts voxels from 0 along the axes of the file (suffix ``_vox``).
*World* space is millimetres in RAS+: x to the patient's right, y to the front, z to the head
(suffix ``_mm``). The affine maps the first to the second.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.tiling.box import Index3

Float = npt.NDArray[np.float64]
AXIS_LETTERS = ("LR", "PA", "IS")
SHEARED = 1e-3  # cosine between two axes, from which on they are at no right angle
FARTHEST_MM = 1e6  # a kilometre; there float32, as headers keep it, hardly tells voxels apart


@dataclass(frozen=True)
class VoxelGrid:
    """Shape and affine of a volume.

    Attributes
    ----------
    shape
        Voxels along each axis.
    rows
        The 4x4 affine by rows, voxel index -> world mm. It may be unusable (singular, not
        finite): the gate decides that, not the type.
    """

    shape: Index3
    rows: tuple[tuple[float, float, float, float], ...]

    def __post_init__(self) -> None:
        if any(n < 1 for n in self.shape):
            raise ValueError(f"VoxelGrid shape must be three numbers >= 1, got {self.shape}")
        if np.shape(self.rows) != (4, 4):
            raise ValueError(f"VoxelGrid affine must be 4x4, got {np.shape(self.rows)}")

    @classmethod
    def of(cls, shape: Any, affine: npt.ArrayLike) -> "VoxelGrid":
        """Make a grid from anything that looks like a shape and a 4x4 matrix."""
        x, y, z = (int(n) for n in shape)
        rows = tuple(tuple(float(v) for v in row) for row in np.asarray(affine, dtype=np.float64))
        return cls((x, y, z), rows)  # type: ignore[arg-type]

    @cached_property
    def affine(self) -> Float:
        """The 4x4 affine as an array (read-only)."""
        affine = np.array(self.rows, dtype=np.float64)
        affine.flags.writeable = False
        return affine

    @property
    def is_a_place(self) -> bool:
        """Whether all numbers of the affine are finite and within ``FARTHEST_MM``."""
        return bool((np.abs(self.affine) <= FARTHEST_MM).all())

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along each axis, in mm."""
        with np.errstate(over="ignore"):
            x, y, z = (float(v) for v in np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)))
        return x, y, z

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, in ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def shear(self) -> float:
        """Largest cosine between two axes, 0 for right angles."""
        unit = self.affine[:3, :3] / np.array(self.spacing_mm)
        return min(float(np.abs(unit.T @ unit - np.eye(3)).max()), 1.0)

    @property
    def is_sheared(self) -> bool:
        """Whether the axes are at no right angles; then a network sees the volume resampled."""
        return self.shear > SHEARED

    @property
    def axcodes(self) -> str:
        """World direction that each axis points to, e.g. ``LPS``."""
        return "".join(
            AXIS_LETTERS[world][1 if sign > 0 else 0]
            for world, sign in closest_axes(self.affine[:3, :3])
        )

    def voxel_to_world_mm(self, points_vox: npt.ArrayLike) -> Float:
        """Map voxel indices of shape (..., 3) to world mm of the same shape."""
        points = np.asarray(points_vox, dtype=np.float64)
        return np.asarray(points @ self.affine[:3, :3].T + self.affine[:3, 3])

    @cached_property
    def corners_mm(self) -> Float:
        """World mm of the eight corner voxels' centres, shape (8, 3)."""
        return self.voxel_to_world_mm(list(product(*((0, n - 1) for n in self.shape))))


@dataclass(frozen=True)
class Orientation:
    """How to reorder a volume's axes.

    Attributes
    ----------
    source_axes
        For each new axis, the old axis that it comes from.
    flips
        For each new axis, whether it runs against the old one.
    """

    source_axes: Index3
    flips: tuple[bool, bool, bool]

    @property
    def inverse(self) -> "Orientation":
        """The reordering that undoes this one."""
        back = [self.source_axes.index(axis) for axis in range(3)]
        return Orientation(
            (back[0], back[1], back[2]),
            (self.flips[back[0]], self.flips[back[1]], self.flips[back[2]]),
        )

    def apply(self, grid: VoxelGrid) -> VoxelGrid:
        """Return the reordered grid: the same voxels at the same places in the world."""
        shape = [grid.shape[axis] for axis in self.source_axes]
        old_from_new = np.zeros((4, 4))
        old_from_new[3, 3] = 1
        for new, (old, flip) in enumerate(zip(self.source_axes, self.flips, strict=True)):
            old_from_new[old, new] = -1 if flip else 1
            old_from_new[old, 3] = shape[new] - 1 if flip else 0
        return VoxelGrid.of(shape, grid.affine @ old_from_new)


def orientation_to(grid: VoxelGrid, axcodes: str) -> Orientation:
    """Return the reordering that brings ``grid`` closest to ``axcodes``, e.g. ``RAS``."""
    have = closest_axes(grid.affine[:3, :3])
    source_axes, flips = [], []
    for letter in axcodes:
        world = next(i for i, pair in enumerate(AXIS_LETTERS) if letter in pair)
        axis = next(i for i, (w, _) in enumerate(have) if w == world)
        source_axes.append(axis)
        flips.append((have[axis][1] > 0) != (letter == AXIS_LETTERS[world][1]))
    return Orientation(
        (source_axes[0], source_axes[1], source_axes[2]), (flips[0], flips[1], flips[2])
    )


def closest_axes(directions: npt.ArrayLike) -> list[tuple[int, int]]:
    """Return for each voxel axis the world axis that it runs along, and its sign.

    Scaling and shear are removed first (the closest orthogonal matrix, from the singular value
    decomposition); then axes are assigned from the clearest to the least clear. This is the rule
    of nibabel's ``io_orientation``, which MONAI follows.
    """
    matrix = np.asarray(directions, dtype=np.float64)
    lengths = np.sqrt((matrix**2).sum(axis=0))
    left, _, right = np.linalg.svd(matrix / np.where(lengths == 0, 1, lengths))
    rotation = left @ right
    found = [(0, 1)] * 3
    for axis in np.argsort(-(rotation**2).max(axis=0), kind="stable"):
        world = int(np.argmax(np.abs(rotation[:, axis])))
        found[axis] = (world, 1 if rotation[world, axis] > 0 else -1)
        rotation[world, :] = 0
    return found
