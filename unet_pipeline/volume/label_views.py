"""Views of label maps: labels travel as float32, as all voxels of a view do, and are never mixed.

A voxel of a resampled label map has the label that most of its neighbours have, each weighed as for
linear interpolation: what resizing each label's share by itself, and taking the largest, gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unet_pipeline.tiling.box import Box, Index3, index3
from unet_pipeline.volume import label_kernels
from unet_pipeline.volume.layout import in_order
from unet_pipeline.volume.views import View, Voxels

OUTSIDE = -1  # nnU-Net's label of what its crop to other values than 0 leaves, and is 0


@dataclass(frozen=True)
class VotedLabels:
    """A label map of another spacing, the outer faces of both grids in one place.

    Positions and weights are those of ``scipy.ndimage.zoom(order=1, grid_mode=True)``, to the bit.

    Attributes
    ----------
    slices
        Axis along which the nearest slice is taken; None for none.
    lowest
        Whether of labels that weigh the same the lowest is taken. Else it is the nearest voxel's,
        if that is one of them.
    """

    inner: View
    shape: Index3
    slices: int | None = None
    lowest: bool = False
    channels = 1

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape 1XYZ."""
        inner_box = self._inner_box(box)
        labels_XYZ = in_order(self.inner.read(inner_box))[0]
        places, shares = [], []
        for axis, start in enumerate(inner_box.start):
            at_3B, share_B = self._neighbours(axis, np.arange(box.start[axis], box.stop[axis]))
            places.append(at_3B - start)
            shares.append(share_B)
        found_XYZ = np.empty(box.shape, np.float32)
        if box.size:
            label_kernels.vote(labels_XYZ, *places, *shares, self.lowest, found_XYZ)
        return found_XYZ[None]

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view must give."""
        return self.inner.needs(self._inner_box(box))

    def _neighbours(
        self, axis: int, index_B: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return the inner voxels below, above and nearest to voxels, and the weight above."""
        length = self.inner.shape[axis]
        at_B = np.clip((index_B + 0.5) * (length / self.shape[axis]) - 0.5, 0, length - 1)
        nearest_B = np.floor(at_B + 0.5)
        if axis == self.slices:
            at_B = nearest_B
        below_B = np.floor(at_B)
        above_B = np.minimum(below_B + 1, length - 1)
        at_3B = np.stack([below_B, above_B, nearest_B]).astype(np.int64)
        return at_3B, 1 - (1 - (at_B - below_B))  # the last of the weights is what is left of 1

    def _inner_box(self, box: Box) -> Box:
        if not box.size:
            return Box((0, 0, 0), (0, 0, 0))
        ends = [
            self._neighbours(axis, np.array([box.start[axis], box.stop[axis] - 1]))[0]
            for axis in range(3)
        ]
        return Box(index3(at[0, 0] for at in ends), index3(at[1, 1] + 1 for at in ends))


@dataclass(frozen=True)
class OutsideMarked:
    """A label map whose background outside of a mask is a label of its own, ``OUTSIDE``."""

    inner: View
    inside_XYZ: npt.NDArray[np.bool_]
    channels = 1

    @property
    def shape(self) -> Index3:
        """Voxels along each axis."""
        return self.inner.shape

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape 1XYZ."""
        inside_XYZ = self.inside_XYZ[box.within(Box.whole(self.shape))]
        labels = self.inner.read(box)
        marked: Voxels = np.where((labels == 0) & ~inside_XYZ, np.float32(OUTSIDE), labels)
        return marked

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view must give."""
        return self.inner.needs(box)


@dataclass(frozen=True)
class OneHot:
    """A channel for each of some labels of a label map: 1 where it is, 0 elsewhere."""

    inner: View
    labels: tuple[int, ...]

    @property
    def shape(self) -> Index3:
        """Voxels along each axis."""
        return self.inner.shape

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.labels)

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape CXYZ."""
        labels_XYZ = self.inner.read(box)[0]
        found_CXYZ = np.empty((self.channels, *box.shape), np.float32)
        for label, found_XYZ in zip(self.labels, found_CXYZ, strict=True):
            np.equal(labels_XYZ, label, out=found_XYZ)
        return found_CXYZ

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view must give."""
        return self.inner.needs(box)


@dataclass(frozen=True)
class Beside:
    """The channels of several views of one shape, one after the other."""

    views: tuple[View, ...]

    @property
    def shape(self) -> Index3:
        """Voxels along each axis."""
        return self.views[0].shape

    @property
    def channels(self) -> int:
        """Number of channels."""
        return sum(view.channels for view in self.views)

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape CXYZ."""
        return np.concatenate([view.read(box) for view in self.views])

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view of the first must give."""
        return self.views[0].needs(box)


def label_type(labels: Sequence[int]) -> np.dtype[np.signedinteger]:
    """Return the smallest type that holds labels and ``OUTSIDE``."""
    return np.min_scalar_type(-max(labels) - 1)
