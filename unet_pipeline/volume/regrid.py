"""Bring an array from one voxel grid onto another: without loss where the two only differ in order.

Arrays have the axes XYZ of their grid. Positions are in voxels of the source (``_vox``).
"""

from itertools import permutations, product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from unet_pipeline.volume.disk_arrays import in_file_order, let_go, room_of, zeros
from unet_pipeline.volume.grid import Float, Orientation, VoxelGrid, orientation_to

Array = npt.NDArray[Any]
Method = Literal["nearest", "linear"]
_SLAB_VOXELS = 1_000_000
_TIE = 1e-6  # voxels; positions that rounding moved off a half or a whole are put back


def reordering(source: VoxelGrid, target: VoxelGrid, allowed_mm: float) -> Orientation | None:
    """Return how to reorder ``source``'s axes so that it becomes ``target``, or None if none does.

    Parameters
    ----------
    allowed_mm
        How far corners may then be apart, in mm.
    """
    if sorted(source.shape) != sorted(target.shape):
        return None
    for x, y, z in permutations(range(3)):
        if tuple(source.shape[axis] for axis in (x, y, z)) != target.shape:
            continue
        for flips in product((False, True), repeat=3):
            order = Orientation((x, y, z), (flips[0], flips[1], flips[2]))
            distance = order.apply(source).corners_mm - target.corners_mm
            if np.linalg.norm(distance, axis=1).max() <= allowed_mm:
                return order
    return None


def same_grid(source: VoxelGrid, target: VoxelGrid, allowed_mm: float) -> bool:
    """Say whether two grids have one shape and corners at most ``allowed_mm`` apart."""
    if source.shape != target.shape:
        return False
    distance = np.linalg.norm(source.corners_mm - target.corners_mm, axis=1).max()
    return bool(distance <= allowed_mm)


def reordered(values_XYZ: Array, order: Orientation) -> Array:
    """Return the same voxels in another storage order."""
    values = values_XYZ.transpose(order.source_axes)
    return values[tuple(slice(None, None, -1 if flip else 1) for flip in order.flips)]


def match_grid(
    values_XYZ: Array, source: VoxelGrid, target: VoxelGrid, allowed_mm: float, method: Method
) -> Array:
    """Return the values on ``target``: as they are, reordered or, if need be, resampled.

    Parameters
    ----------
    allowed_mm
        How far corners may be apart for two grids to be the same one, in mm.
    """
    if same_grid(source, target, allowed_mm):
        return values_XYZ
    order = reordering(source, target, allowed_mm)
    if order is not None:
        return in_file_order(reordered(values_XYZ, order))
    return resampled(values_XYZ, source, target, method)


def resampled(
    values_XYZ: Array, source: VoxelGrid, target: VoxelGrid, method: Method, fill: float = 0.0
) -> Array:
    """Return the values at the voxels of ``target``; the affines may be oblique to each other.

    A voxel's value does not depend on the slab it is computed with. The source reaches half a
    voxel beyond the centres of its outermost voxels, whose values hold there; further out is
    ``fill``. Halfway between two voxels the nearest is the one further to the right, the front or
    the head of the patient: a rule of the world, so that the source's storage order does not show.

    Parameters
    ----------
    values_XYZ
        Values on the source, of its shape.
    fill
        Value of the voxels that the source does not reach.

    Returns
    -------
    array
        Shape of ``target``; the type of ``values_XYZ`` for ``nearest``, float32 for ``linear``.
    """
    order = orientation_to(source, "RAS")
    values_XYZ, source = reordered(values_XYZ, order), order.apply(source)
    source_from_target = np.linalg.inv(source.affine) @ target.affine
    dtype = values_XYZ.dtype if method == "nearest" else np.dtype(np.float32)
    values_XYZ = values_XYZ.astype(dtype, copy=False)
    result_XYZ = zeros(target.shape, dtype, room_of(values_XYZ))
    x, y, depth = target.shape
    step = max(1, _SLAB_VOXELS // (x * y))
    for z in range(0, depth, step):
        part = slice(z, min(z + step, depth))
        positions = _positions_vox(source_from_target, (x, y), part)
        inside = np.ones(positions.shape[1:], bool)
        for axis, size in enumerate(source.shape):
            inside &= (positions[axis] >= -0.5) & (positions[axis] <= size - 0.5)
            np.clip(positions[axis], 0, size - 1, out=positions[axis])
        values = _at(values_XYZ, positions, method)
        result_XYZ[:, :, part] = np.where(inside, values, np.asarray(fill, dtype))
        let_go(values_XYZ)
        let_go(result_XYZ[:, :, part])
    return result_XYZ


def _positions_vox(matrix: Float, plane: tuple[int, int], part: slice) -> Float:
    """Return where the voxels of a slab lie in the source, shape 3XYZ; each by itself."""
    x, y = (np.arange(n, dtype=np.float64) for n in plane)
    z = np.arange(part.start, part.stop, dtype=np.float64)
    positions = np.empty((3, len(x), len(y), len(z)))
    for axis in range(3):
        row = matrix[axis]
        positions[axis] = (
            (row[0] * x)[:, None, None] + (row[1] * y)[None, :, None] + (row[2] * z + row[3])
        )
    halves = np.rint(2 * positions)
    near = np.abs(2 * positions - halves) < 2 * _TIE
    positions[near] = halves[near] / 2
    return positions


def _at(values_XYZ: Array, positions_vox: Float, method: Method) -> Array:
    if method == "nearest":
        x, y, z = np.floor(positions_vox + 0.5).astype(np.intp)
        sizes = values_XYZ.shape
        x, y, z = (np.minimum(i, n - 1) for i, n in zip((x, y, z), sizes, strict=True))
        nearest: Array = values_XYZ[x, y, z]
        return nearest
    return np.asarray(
        ndimage.map_coordinates(values_XYZ, positions_vox, order=1, mode="nearest"), np.float32
    )
