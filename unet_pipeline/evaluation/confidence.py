"""How sure a network is of each label: means of the margins under it and along its border.

Margins (``tiling/margins.py``) are whole numbers and are added as such, so neither tiles nor the
order in which they are decided can change a bit. A voxel is counted as soon as the labels of its
six neighbours are decided; at most the margins of a tile's faces are handed on, and those of a
volume only where somebody asks for all of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.tiling.box import Box, Index3, index3
from unet_pipeline.tiling.margins import MOST, Margins
from unet_pipeline.tiling.merge import shared
from unet_pipeline.volume.disk_arrays import (
    IN_MEMORY,
    Room,
    let_go,
    room_of,
    slabs_of,
    zeros,
)
from unet_pipeline.volume.kept import KeptArray, boxes_of, for_others, keep
from unet_pipeline.volume.kernels import count_margins

DOUBTFUL = 51  # margins below are doubtful: 0.2
CONFIDENCE = ("confidence", "confidence_border", "doubtful")  # statistics of a label
_DECIMALS = 6

Sums = NDArray[np.int64]  # for each label five, as ``count_margins`` fills them


@dataclass(frozen=True)
class Piece:
    """The margins of a box of native voxels, shape XYZ; in memory, or in the scratch of a case."""

    box: Box
    margins: Margins | KeptArray

    def parts(self) -> Iterator["Piece"]:
        """Yield what makes up the piece, in memory."""
        if not isinstance(self.margins, KeptArray):
            yield self
            return
        for part in boxes_of(self.box.shape):
            yield Piece(Box.of(part).shifted(self.box.start), self.margins[part])


@dataclass(frozen=True)
class TileConfidence:
    """What a tile knows of the margins under its labels.

    Attributes
    ----------
    sums_L5
        Of the voxels that were counted.
    left
        Margins of those that were not: their neighbours belong to other tiles, or all of them are
        wanted.
    """

    sums_L5: Sums
    left: tuple[Piece, ...]


class MarginCounter:
    """Counts the margins of a tile while its labels are decided.

    Parameters
    ----------
    labels_XYZ
        The labels of ``box``, filled in from outside.
    volume
        Shape of the whole volume.
    labels
        Number of labels, background included: one more than the largest.
    keep
        Whether all margins are wanted afterwards. None is counted then.
    room
        Where they lie meanwhile.
    """

    def __init__(
        self,
        labels_XYZ: NDArray[Any],
        box: Box,
        volume: Index3,
        labels: int,
        *,
        keep: bool,
        threads: int = 1,
        room: Room = IN_MEMORY,
    ) -> None:
        self.keep, self._labels_XYZ, self._box, self._volume = keep, labels_XYZ, box, volume
        self._threads, self._sums_L5 = threads, no_sums(labels)
        self._all_XYZ: Margins = zeros(box.shape if keep else (0, 0, 0), np.uint8, room)
        self._left: list[Piece] = []
        self._decided, self._voxels = Box(box.start, box.start), 0

    def room(self, box: Box) -> Margins:
        """Return where the margins of a box of native voxels are to be filled in."""
        if self.keep:
            return self._all_XYZ[box.within(self._box)]
        return np.zeros(box.shape, np.uint8, order="F")

    def add(self, box: Box, margins_XYZ: Margins) -> None:
        """Take the margins of a box whose labels are now decided."""
        if self.keep:
            let_go(margins_XYZ)
            return
        self._left.append(Piece(box, margins_XYZ))
        self._decided = self._decided.union(box) if self._voxels else box
        self._voxels += box.size
        if self._voxels == self._decided.size:  # else there are holes in it
            self._left = [*self._settled(self._inside(self._decided))]

    def result(self, scratch: str | None = None) -> TileConfidence:
        """Return what was counted, and what was not; all margins stay in memory, or in scratch."""
        if self.keep:
            kept = self._all_XYZ if scratch is None else keep(self._all_XYZ, scratch)
            margins = for_others(kept, room_of(self._all_XYZ).scratch)
            return TileConfidence(self._sums_L5, (Piece(self._box, margins),))
        return TileConfidence(self._sums_L5, tuple(self._left))

    def _inside(self, box: Box) -> Box:
        """Return the voxels of a box whose neighbours are in it, or outside of the volume."""
        start = index3(a + (a > 0) for a in box.start)
        stop = index3(b - (b < n) for b, n in zip(box.stop, self._volume, strict=True))
        if any(a >= b for a, b in zip(start, stop, strict=True)):
            return Box(box.start, box.start)
        return Box(start, stop)

    def _settled(self, inside: Box) -> Iterable[Piece]:
        """Count the voxels of ``inside``, and yield the pieces that are left."""
        for piece in self._left:
            common = piece.box.intersect(inside)
            if not common.size:
                yield piece
                continue
            margins_XYZ = piece.margins[common.within(piece.box)]
            inner = Piece(common, margins_XYZ)
            _count(self._labels_XYZ, self._box, inner, self._sums_L5, self._threads)
            for rest in piece.box.without(common):
                if rest.size:
                    yield Piece(rest, piece.margins[rest.within(piece.box)].copy("F"))


def no_sums(labels: int) -> Sums:
    """Return the sums of no voxels, for this many labels."""
    return np.zeros((labels, 5), np.int64)


def sums_of(labels_XYZ: NDArray[Any], tiles: Sequence[TileConfidence], threads: int = 1) -> Sums:
    """Return the sums over a whole volume: those of its tiles, and of what they have left.

    Parameters
    ----------
    labels_XYZ
        The labels of the volume.
    """
    total_L5 = np.sum([one.sums_L5 for one in tiles], axis=0)
    whole = Box.whole(labels_XYZ.shape)
    left = chain.from_iterable(one.left for one in tiles)
    for piece in chain.from_iterable(one.parts() for one in left):
        _count(labels_XYZ, whole, piece, total_L5, threads)
    found: Sums = total_L5
    return found


def joined(tiles: Sequence[TileConfidence], shape: Index3, room: Room = IN_MEMORY) -> Margins:
    """Return the margins of a volume whose tiles have kept all; of one tile without a copy."""
    pieces = [piece for one in tiles for piece in one.left]
    whole = Box.whole(shape)
    if len(pieces) == 1 and pieces[0].box == whole and isinstance(pieces[0].margins, np.ndarray):
        return pieces[0].margins
    margins_XYZ: Margins = zeros(shape, np.uint8, room)
    for piece in chain.from_iterable(one.parts() for one in pieces):
        within = margins_XYZ[piece.box.within(whole)]
        within[...] = piece.margins[:, :, :]
        let_go(within)
    return margins_XYZ


def confidence_of(sums_L5: Sums, labels: Iterable[int]) -> dict[str, dict[str, float]]:
    """Return the statistics ``CONFIDENCE`` of each label that is there, by its number as text.

    ``confidence`` and ``confidence_border`` are means of the margin as a share of the most, under
    the label and along its border (absent for a label without one); ``doubtful`` is the share of
    voxels with a margin below 0.2.
    """
    found = {}
    for label in labels:
        voxels, margins, border, border_margins, doubtful = sums_L5[label].tolist()
        if voxels:
            values = {"confidence": margins / (MOST * voxels)}
            if border:
                values["confidence_border"] = border_margins / (MOST * border)
            values["doubtful"] = doubtful / voxels
            found[str(label)] = {name: round(value, _DECIMALS) for name, value in values.items()}
    return found


def _count(labels_XYZ: NDArray[Any], box: Box, piece: Piece, sums_L5: Sums, threads: int) -> None:
    """Add a piece to the sums; ``labels_XYZ`` are those of ``box``."""
    margins_XYZ = piece.margins[:, :, :]
    labels_ZYX, margins_zyx = labels_XYZ.T, margins_XYZ.T
    x, y, z = (a - b for a, b in zip(piece.box.start, box.start, strict=True))

    def count(part: slice) -> Sums:
        part_L5 = np.zeros_like(sums_L5)
        start = (z + part.start, y, x)
        count_margins(labels_ZYX, margins_zyx[part], start, DOUBTFUL, part_L5)
        let_go(labels_XYZ[..., start[0] : z + part.stop])
        let_go(margins_XYZ[..., part])
        return part_L5

    for part_L5 in shared(threads, count, _parts(len(margins_zyx), piece, threads)):
        sums_L5 += part_L5


def _parts(depth: int, piece: Piece, threads: int) -> list[slice]:
    """Return places on the last axis: a few for each thread, none of them large."""
    count = max(threads, len(slabs_of(piece.box.shape)))
    ends = np.linspace(0, depth, count + 1).astype(int).tolist()
    return [slice(*ends) for ends in pairwise(ends)]
