"""Training crops, balanced between foreground and anywhere.

All arrays are in the model space: ``image_CXYZ`` float32, ``labels_XYZ`` small integers. A crop is
a pure function of the sample and of the random generator, so a seed repeats a training run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROI = tuple[int, int, int]
_VOXELS_KEPT_PER_LABEL = 20_000


class Sample(NamedTuple):
    """One case, or one crop of it, in the model space.

    Attributes
    ----------
    image_CXYZ
        float32, normalised.
    labels_XYZ
        Integers; 0 is background.
    """

    image_CXYZ: NDArray[np.float32]
    labels_XYZ: NDArray[Any]


@dataclass(frozen=True)
class CropSource:
    """A sample and where its labels are.

    Parameters
    ----------
    sample
        The whole case.
    foreground_share
        Share of the crops that are sure to hold a voxel of some label (each label equally often);
        the others lie anywhere.
    """

    sample: Sample
    foreground_share: float = 2 / 3
    _voxels_of: Mapping[int, NDArray[np.intp]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_voxels_of", _voxels_by_label(self.sample.labels_XYZ))

    def draw(self, roi_size: ROI, rng: np.random.Generator) -> Sample:
        """Draw one crop of ``roi_size`` voxels; where the case is smaller, it is padded with 0."""
        shape = self.sample.labels_XYZ.shape
        seed_vox = self._foreground_voxel(rng) if rng.random() < self.foreground_share else None
        starts = []
        for axis, (size, window) in enumerate(zip(shape, roi_size, strict=True)):
            low, high = 0, max(size - window, 0)
            if seed_vox is not None:
                low, high = max(low, seed_vox[axis] - window + 1), min(high, seed_vox[axis])
            starts.append(int(rng.integers(low, high, endpoint=True)))
        return cut(self.sample, starts, roi_size)

    def _foreground_voxel(self, rng: np.random.Generator) -> tuple[int, ...] | None:
        if not self._voxels_of:
            return None
        label = rng.choice(sorted(self._voxels_of))
        flat = rng.choice(self._voxels_of[int(label)])
        return tuple(int(v) for v in np.unravel_index(flat, self.sample.labels_XYZ.shape))


def cut(sample: Sample, starts: Sequence[int], roi_size: ROI) -> Sample:
    """Cut the box that begins at ``starts`` (voxels), padded with 0 on both sides to ``roi_size``.

    The padding is split as MONAI's ``sliding_window_inference`` splits it: the smaller half first.
    """
    box = tuple(slice(start, start + size) for start, size in zip(starts, roi_size, strict=True))
    labels_XYZ = sample.labels_XYZ[box]
    missing = [size - have for size, have in zip(roi_size, labels_XYZ.shape, strict=True)]
    pads = [(gap // 2, gap - gap // 2) for gap in missing]
    return Sample(
        np.pad(sample.image_CXYZ[(slice(None), *box)], [(0, 0), *pads]), np.pad(labels_XYZ, pads)
    )


def _voxels_by_label(labels_XYZ: NDArray[Any]) -> dict[int, NDArray[np.intp]]:
    found = {}
    for label in np.unique(labels_XYZ):
        if label > 0:
            flat = np.flatnonzero(labels_XYZ == label)
            found[int(label)] = flat[:: max(1, len(flat) // _VOXELS_KEPT_PER_LABEL)]
    return found
