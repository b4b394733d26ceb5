"""Sliding windows for code of one's own: where they lie, and how their scores are joined.

The rules are those of ``segment``: windows lie where MONAI places them, and scores are added in
fixed point, so the order in which windows come changes no bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.errors import CaseError
from unet_pipeline.inference.importance import importance_map
from unet_pipeline.inference.spec import Blend
from unet_pipeline.tiling.box import Box, index3
from unet_pipeline.tiling.merge import (
    Scores,
    Sums,
    add_window,
    smallest_label_type,
    weight_sum,
)
from unet_pipeline.tiling.windows import Lattice, Placement, lattice


@dataclass(frozen=True)
class Window:
    """One window of a volume.

    Attributes
    ----------
    start
        Its first voxel; before 0 where a volume is smaller than the window.
    roi_size
        Voxels along each axis.
    """

    start: tuple[int, int, int]
    roi_size: tuple[int, int, int]

    @property
    def box(self) -> Box:
        """The voxels that it covers."""
        return Box.at(self.start, self.roi_size)

    def read(self, volume_CXYZ: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the voxels of a volume under the window, shape C + ``roi_size``.

        What lies outside the volume is 0, as in ``segment``.
        """
        whole = Box.whole(index3(volume_CXYZ.shape[1:]))
        inside = self.box.intersect(whole)
        values_Cxyz = np.zeros((len(volume_CXYZ), *self.roi_size), volume_CXYZ.dtype)
        here, there = inside.within(self.box), inside.within(whole)
        values_Cxyz[(slice(None), *here)] = volume_CXYZ[(slice(None), *there)]
        return values_Cxyz


@dataclass(frozen=True)
class Windows(Sequence[Window]):
    """The windows of a volume, in raster order; they are made as they are asked for.

    Attributes
    ----------
    shape, roi_size
        Voxels of the volume and of a window along each axis.
    lattice
        Where the windows begin.
    """

    shape: tuple[int, int, int]
    roi_size: tuple[int, int, int]
    lattice: Lattice

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.lattice)

    def __iter__(self) -> Iterator[Window]:
        """Go through the windows."""
        return (Window(start, self.roi_size) for start in self.lattice)

    def __getitem__(self, index: Any) -> Any:
        """Return one window."""
        return Window(self.lattice[range(len(self))[index]], self.roi_size)


def plan_windows(
    shape: Sequence[int],
    roi_size: Sequence[int],
    overlap: float = 0.25,
    placement: Placement = "packed",
) -> Windows:
    """Return the windows that cover a volume.

    Parameters
    ----------
    shape
        Voxels along the three axes.
    roi_size
        Voxels of one window.
    overlap
        Share of a window that overlaps the next one, 0 to below 1.
    placement
        ``packed`` as MONAI's ``sliding_window_inference``, or ``evenly`` as nnU-Net.

    Raises
    ------
    ValueError
        For a shape, a window or an overlap that is none.

    Examples
    --------
    >>> windows = plan_windows((10, 9, 3), (4, 4, 6), overlap=0.5)
    >>> len(windows), windows[0].start, windows[-1].start
    (16, (0, 0, -1), (6, 5, -1))
    """
    if len(shape) != 3 or len(roi_size) != 3 or min(*shape, *roi_size) < 1:
        raise ValueError(f"three positive axes are wanted, not {tuple(shape)}, {tuple(roi_size)}")
    if not 0 <= overlap < 1:
        raise ValueError(f"an overlap of 0 to below 1 is wanted, not {overlap}")
    size = index3(roi_size)
    return Windows(index3(shape), size, lattice(shape, size, overlap, placement))


class Merge:
    """Join the scores of windows; the order in which they come changes no bit.

    Sums of all classes are in memory, 8 bytes a voxel and class.

    Parameters
    ----------
    windows
        All windows of the volume; each is to be added once.
    classes
        Channels of the scores.
    blend
        Weight of a window's voxels: ``gaussian`` or ``constant`` as MONAI's, or
        ``gaussian_nnunet``.
    threads
        CPU threads that add one window.

    Examples
    --------
    >>> import numpy as np
    >>> windows = plan_windows((6, 6, 6), (4, 4, 4), overlap=0.5)
    >>> merge = Merge(windows, classes=2)
    >>> for window in windows:
    ...     merge.add(window, np.stack([np.zeros((4, 4, 4)), np.ones((4, 4, 4))]))
    >>> merge.scores()[1].min(), merge.labels().max()
    (np.float32(1.0), np.uint8(1))
    """

    def __init__(
        self, windows: Windows, classes: int, blend: Blend = "gaussian", threads: int = 1
    ) -> None:
        self.windows, self._threads = windows, threads
        self._importance_xyz = importance_map(windows.roi_size, blend)
        self._sums_CXYZ: Sums = np.zeros((classes, *windows.shape), dtype=np.int64)

    def add(self, window: Window, scores_Cxyz: npt.ArrayLike) -> None:
        """Add the scores of one window, shape classes + ``roi_size``.

        Raises
        ------
        ValueError
            For scores of another shape.
        CaseError
            ``scores_not_finite`` for scores that are NaN, infinite or beyond 2**15.
        """
        scores = np.asarray(scores_Cxyz, dtype=np.float32)
        wanted = (len(self._sums_CXYZ), *self.windows.roi_size)
        if scores.shape != wanted:
            raise ValueError(f"scores of shape {wanted} are wanted, not {scores.shape}")
        inside = window.box.intersect(Box.whole(self.windows.shape))
        part = inside.shifted(-v for v in window.start)
        if not add_window(
            self._sums_CXYZ, scores, self._importance_xyz, part, window.start, self._threads
        ):
            raise CaseError(
                "scores_not_finite",
                found="scores that are NaN, infinite or out of range",
                wanted="finite scores below 2**15",
                remedy="Look at what the network is given",
            )

    def scores(self) -> Scores:
        """Return the weighted mean of the scores that were added, float32, shape CXYZ."""
        weights_XYZ = weight_sum(
            Box.whole(self.windows.shape), self.windows.lattice, self._importance_xyz
        )
        return np.asarray(self._sums_CXYZ / weights_XYZ, dtype=np.float32)

    def labels(self) -> npt.NDArray[Any]:
        """Return the class with the largest score for each voxel, shape XYZ."""
        kind = smallest_label_type(len(self._sums_CXYZ))
        return np.asarray(self._sums_CXYZ.argmax(axis=0), dtype=kind)
