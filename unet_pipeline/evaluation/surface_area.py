"""The surface of each label of a map in mm^2, by Crofton's formula.

The area of a surface is twice the mean, over all directions, of how often lines of one direction
meet it, per mm^2 across them. Here directions are the 13 in which a voxel has neighbours, and lines
those through the centres of voxels. Each direction counts as much as the part of a sphere that is
nearer to it than to any other (its Voronoi cell). Lehmann and Legland, Efficient N-Dimensional
surface estimation using Crofton formula and run-length encoding, Insight Journal 2012; SimpleITK's
``Perimeter`` is the same where voxels are cubes. It takes the cells of cubes for all voxels, and
this the cells of the grid.
"""

from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import SphericalVoronoi

from unet_pipeline.tiling.compiling import compiled
from unet_pipeline.volume.disk_arrays import each_slab, largest

Float = npt.NDArray[np.float64]
STEPS = np.array([step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)])


def surface_areas_mm2(labels_XYZ: npt.NDArray[Any], axes_mm: Float) -> Float:
    """Return the surface of each label, by its number; that of background is 0.

    A side of the volume closes a label that touches it: what lies there counts as surface.

    Parameters
    ----------
    labels_XYZ
        Integers, 0 or more.
    axes_mm
        The affine without its last row and column: a column for a step along each axis.
    """
    count = largest(labels_XYZ) + 1
    if labels_XYZ.flags.f_contiguous:  # along memory
        labels_XYZ, axes_mm = labels_XYZ.T, axes_mm[:, ::-1]
    met = np.zeros((count, len(STEPS)), np.int64)
    dense = np.ascontiguousarray(labels_XYZ)
    for part in each_slab(dense.T):
        _count_crossings(dense, part.start - (part.start == 0), part.stop, met)
    areas_mm2: Float = met @ mm2_of_crossings(tuple(map(tuple, axes_mm.tolist())))
    areas_mm2[0] = 0.0
    return areas_mm2


@lru_cache(maxsize=32)
def mm2_of_crossings(axes_mm: tuple[tuple[float, ...], ...]) -> Float:
    """Return what a crossing along each of ``STEPS`` adds to a surface."""
    lengths_mm = np.linalg.norm(vectors_mm := STEPS @ np.transpose(axes_mm), axis=1)
    towards = vectors_mm / lengths_mm[:, None]
    cells = SphericalVoronoi(np.concatenate([towards, -towards])).calculate_areas()
    shares = cells[: len(STEPS)] / (2 * np.pi)
    across_mm2 = abs(np.linalg.det(axes_mm)) / lengths_mm  # of each line
    return np.asarray(2 * shares * across_mm2)


@compiled
def _count_crossings(labels: Any, start: int, stop: int, met: Any) -> None:
    """Count where a line along a step enters or leaves a label, in ``met[label, step]``.

    Lines within planes ``start`` to ``stop``, and from each to the next; plane -1 is background.
    Two planes are held, with a border of background; a row is first compared with all rows beside
    it, which is quick, and looked at voxel by voxel where anything differs.
    """
    depth, height, width = labels.shape
    here = np.zeros((height + 4, width + 4), labels.dtype)
    above = np.zeros((height + 4, width + 4), labels.dtype)
    differs = np.zeros(width + 2, labels.dtype)
    if start >= 0:
        above[2 : height + 2, 2 : width + 2] = labels[start]
    for plane in range(start, stop):
        here, above = above, here
        above[:] = 0
        if plane + 1 < depth:
            above[2 : height + 2, 2 : width + 2] = labels[plane + 1]
        for row in range(1, height + 3):
            one, after = here[row, 1:-1], here[row, 2:]
            for x in range(width + 2):
                differs[x] = one[x] ^ after[x]
            for other in (here[row + 1], above[row - 1], above[row], above[row + 1]):
                left, middle, right = other[:-2], other[1:-1], other[2:]
                for x in range(width + 2):
                    differs[x] |= (one[x] ^ left[x]) | (one[x] ^ middle[x]) | (one[x] ^ right[x])
            rows = (here[row], here[row + 1], above[row - 1], above[row], above[row + 1])
            for x in range(width + 2):
                if differs[x]:
                    _count_at(rows, x + 1, met)


@compiled
def _count_at(rows: Any, x: int, met: Any) -> None:
    """Count at one voxel, along all steps in their order; without branches, for noise has many."""
    label, step = rows[0][x], 0
    for i in range(5):
        for k in range(x + 1 if i == 0 else x - 1, x + 2):
            neighbour = rows[i][k]
            differs = np.int64(label != neighbour)
            met[label, step] += differs
            met[neighbour, step] += differs
            step += 1
