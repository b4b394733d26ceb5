"""From sums of scores to labels: inside of a tile, on a seam, or part after part of a volume."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from unet_pipeline.choices import Confidence
from unet_pipeline.evaluation.confidence import MarginCounter, TileConfidence
from unet_pipeline.inference.doors import importance_map
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.tiling.decision import Labels
from unet_pipeline.tiling.margins import Margins
from unet_pipeline.tiling.merge import Merged, Partial, weight_sum
from unet_pipeline.volume.disk_arrays import IN_MEMORY, Room, let_go, room_of, zeros
from unet_pipeline.volume.kept import KeptArray, for_others, keep
from unet_pipeline.volume.native import native_labels
from unet_pipeline.volume.steps import Prepared


@dataclass(frozen=True)
class TileLabels:
    """The labels of a box of native voxels, and how sure they are, if that was asked for.

    Attributes
    ----------
    labels
        Shape XYZ; in memory, or in the scratch of the case.
    """

    box: Box
    labels: Labels | KeptArray
    seconds: float
    confidence: TileConfidence | None = None

    @property
    def labels_XYZ(self) -> Labels:  # noqa: N802
        """The labels, read from where they lie."""
        return self.labels[:, :, :]


class Decider:
    """Fills in the labels of a box, part by part, and counts the seconds that it takes."""

    def __init__(
        self,
        prepared: Prepared,
        write_box: Box,
        score_box: Box,
        windows: Iterable[Index3],
        spec: ModelSpec,
        confidence: Confidence,
        room: Room = IN_MEMORY,
    ) -> None:
        begin = perf_counter()
        importance_xyz = importance_map(spec.roi_size, spec.blend)
        self._labels_XYZ: Labels = zeros(write_box.shape, spec.bundle.label_type, room)
        self._weight_XYZ = weight_sum(score_box, windows, importance_xyz)
        self.write_box, self.score_box = write_box, score_box
        self._prepared, self._spec = prepared, spec
        self._threads = spec.threads or os.cpu_count() or 1
        self._counter = (
            None
            if confidence == "none"
            else MarginCounter(
                self._labels_XYZ,
                write_box,
                prepared.native.shape,
                max(spec.bundle.labels) + 1,
                keep=confidence == "map",
                threads=self._threads,
                room=room,
            )
        )
        self._seconds = perf_counter() - begin

    def decide(self, write_box: Box, score_box: Box, partials: Sequence[Partial]) -> None:
        """Decide the labels of some native voxels from the sums of their score box."""
        begin, counter = perf_counter(), self._counter
        part = write_box.within(self.write_box)
        margins_XYZ = None if counter is None else counter.room(write_box)
        if partials:
            weight_XYZ = self._weight_XYZ[score_box.within(self.score_box)]
            merged = Merged(score_box, partials, weight_XYZ)
            self._labels_XYZ[part] = self._native(merged, write_box, margins_XYZ)
        else:
            self._labels_XYZ[part] = _label_outside(self._spec.bundle)
        let_go(self._labels_XYZ[part])
        if counter is not None and margins_XYZ is not None:
            counter.add(write_box, margins_XYZ)
        self._seconds += perf_counter() - begin

    def labels(self, scratch: str | None = None) -> TileLabels:
        """Return what was decided; labels and margins stay in memory, or in scratch."""
        begin = perf_counter()
        found = None if self._counter is None else self._counter.result(scratch)
        kept = self._labels_XYZ if scratch is None else keep(self._labels_XYZ, scratch)
        labels = for_others(kept, room_of(self._labels_XYZ).scratch)
        seconds = self._seconds + perf_counter() - begin
        return TileLabels(self.write_box, labels, seconds, found)

    def _native(self, merged: Merged, write_box: Box, margins_XYZ: Margins | None) -> Labels:
        bundle = self._spec.bundle
        return native_labels(
            merged,
            self._prepared,
            write_box,
            bundle.decision,
            bundle.label_type,
            threads=self._threads,
            margins_XYZ=margins_XYZ,
            background=self._counter is not None and self._counter.keep,
        )


def _label_outside(bundle: Bundle) -> int:
    """Return the label of voxels that the preprocessing cropped away: of 0 in every channel."""
    nothing = (np.zeros((1, 1, 1), np.float32) for _ in range(bundle.out_channels))
    return int(bundle.decision.decide(nothing, bundle.label_type).item())
