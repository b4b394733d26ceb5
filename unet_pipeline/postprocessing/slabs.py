"""Steps that look at one voxel at a time go through a map slab by slab."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from unet_pipeline.tiling.decision import Labels

SLAB_VOXELS = 2**22


def slabs_of(shape: tuple[int, ...]) -> list[slice]:
    """Return places on the last axis, of about ``SLAB_VOXELS`` each."""
    thick = max(1, SLAB_VOXELS // max(1, shape[0] * shape[1]))
    return [slice(z, min(z + thick, shape[2])) for z in range(0, shape[2], thick)]


def relabel(labels_XYZ: Labels, becomes: Callable[[int], int]) -> Counter[int]:
    """Change labels in place; return how many voxels of each changed, in numeric order."""
    counts = np.zeros(int(labels_XYZ.max(initial=0)) + 1, np.int64)
    table = np.array([becomes(label) for label in range(counts.size)], labels_XYZ.dtype)
    for slab in slabs_of(labels_XYZ.shape):
        slab_XYZ = labels_XYZ[..., slab]
        counts += np.bincount(slab_XYZ.ravel("F"), minlength=counts.size)
        slab_XYZ[...] = table[slab_XYZ]
    changed = np.flatnonzero((table != np.arange(counts.size)) & (counts > 0))
    return Counter({label: int(counts[label]) for label in changed.tolist()})
