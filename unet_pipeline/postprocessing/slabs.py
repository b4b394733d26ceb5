"""Steps that look at one voxel at a time go through a map slab by slab."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from unet_pipeline.tiling.decision import Labels
from unet_pipeline.volume.disk_arrays import each_slab, largest


def relabel(labels_XYZ: Labels, becomes: Callable[[int], int]) -> Counter[int]:
    """Change labels in place; return how many voxels of each changed, in numeric order."""
    counts = np.zeros(largest(labels_XYZ) + 1, np.int64)
    table = np.array([becomes(label) for label in range(counts.size)], labels_XYZ.dtype)
    for slab in each_slab(labels_XYZ):
        slab_XYZ = labels_XYZ[..., slab]
        counts += np.bincount(slab_XYZ.ravel("F"), minlength=counts.size)
        slab_XYZ[...] = table[slab_XYZ]
    changed = np.flatnonzero((table != np.arange(counts.size)) & (counts > 0))
    return Counter({label: int(counts[label]) for label in changed.tolist()})
