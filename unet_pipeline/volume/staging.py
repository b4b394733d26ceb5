"""Bring a case's voxels to where tiles can read them: in memory while they fit, else in scratch.

gzip cannot be sought, so a file is decoded once, as a stream. Volumes within the budget stay in
memory as stored; larger ones go to a chunked Zarr array in a scratch folder that all workers see.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from unet_pipeline.cost import Stopwatch, added
from unet_pipeline.storage.sidecar import InputDigest
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.versions import Versions
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume.axes import XYZ, Axes
from unet_pipeline.volume.decoding import NanRule, StoredView, read_volume
from unet_pipeline.volume.forms import Form
from unet_pipeline.volume.header import Header
from unet_pipeline.volume.probe import MOST_BYTES
from unet_pipeline.volume.regrid import match_grid, same_grid
from unet_pipeline.volume.steps import Prepared, Step, prepare
from unet_pipeline.volume.views import View, Voxels, materialised


@dataclass(frozen=True)
class Stacked:
    """Several one-channel views of one shape as the channels of one."""

    inner: tuple[StoredView, ...]

    @property
    def shape(self) -> Index3:
        """Voxels along each axis."""
        return self.inner[0].shape

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.inner)

    def read(self, box: Box) -> Voxels:
        """Return the voxels of ``box``, shape CXYZ."""
        if len(self.inner) == 1:
            return self.inner[0].read(box)
        return np.concatenate([view.read(box) for view in self.inner])

    def needs(self, box: Box) -> Box:
        """Return the box that the innermost view must give."""
        return self.inner[0].needs(box)


@dataclass(frozen=True)
class Decoded:
    """The channels of a case as its files have them, on one grid: read once, for any network.

    Attributes
    ----------
    voxels
        Stored values of each channel, in memory or in scratch.
    header
        That of the first channel.
    inputs
        Digests of the files that were read.
    seconds
        What that took: ``read`` (fetch and decode), and ``preprocess`` to bring them on one grid.
    """

    voxels: Stacked
    header: Header
    inputs: tuple[InputDigest, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Staged:
    """A case, ready to be cut into tiles.

    Attributes
    ----------
    native
        The file's voxels.
    model
        What the network sees.
    prepared
        The way between the two.
    inputs
        Digests of the files that were read.
    seconds
        What that took: ``preprocess``.
    """

    native: Stacked
    model: View
    prepared: Prepared
    header: Header
    inputs: tuple[InputDigest, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)


def decode(
    store: Store,
    urls: Sequence[str],
    *,
    budget_bytes: int,
    scratch: str | None = None,
    form: Form | None = None,
    allowed_voxels: float = 0.0,
    most_bytes: int = MOST_BYTES,
    versions: Versions | None = None,
    axes: Axes = XYZ,
    nan: NanRule = None,
) -> Decoded:
    """Decode the channels of a case.

    Parameters
    ----------
    budget_bytes
        What may be held in memory of the stored voxels.
    scratch
        Scratch folder for volumes over the budget. Default: one that lasts as long as the process.
    form
        The form of the header to take where there are two.
    allowed_voxels
        Channels that lie further than this from the grid of the first, in voxels of its smallest
        spacing, are resampled onto it. Whether they may be is the gate's to say.
    most_bytes
        Decoded bytes that a channel may claim.
    versions
        Versions of files that the gate has read; others are not read (``input_changed``).
    axes
        What a file may have instead of three axes in space.
    nan
        What NaN stands for; by default it is refused.
    """
    stopwatch = Stopwatch()
    read = [
        read_volume(
            store, url, role=f"image{i}", budget_bytes=budget_bytes // len(urls), scratch=scratch,
            form=form, most_bytes=most_bytes, versions=versions, axes=axes, nan=nan,
        )
        for i, url in enumerate(urls)
    ]  # fmt: skip
    stopwatch.lap("read")
    first, *others = [view for one in read for view in one.views]
    allowed_mm = allowed_voxels * min(first.header.grid.spacing_mm)
    native = Stacked((first, *(_onto(first, other, allowed_mm) for other in others)))
    stopwatch.lap("preprocess")
    inputs = tuple(digest for one in read for digest in one.inputs)
    return Decoded(native, first.header, inputs, stopwatch.seconds)


def stage(decoded: Decoded, steps: Sequence[Step], budget_bytes: int) -> Staged:
    """Measure what the steps of a network need of a volume, and make the view that it sees.

    Parameters
    ----------
    budget_bytes
        What may be held in memory of the preprocessed voxels; what is more is made tile by tile.
    """
    stopwatch = Stopwatch()
    prepared = prepare(steps, decoded.voxels, decoded.header.grid)
    stopwatch.lap("preprocess")
    return stage_prepared(decoded, prepared, budget_bytes, stopwatch.seconds)


def stage_prepared(
    decoded: Decoded, prepared: Prepared, budget_bytes: int, seconds: Mapping[str, float]
) -> Staged:
    """Do so where the steps are resolved already, which took ``seconds``."""
    stopwatch, native = Stopwatch(), decoded.voxels
    model = prepared.forward(native)
    if 4 * model.channels * int(np.prod(model.shape)) <= budget_bytes:
        model = materialised(model)
    stopwatch.lap("preprocess")
    took = added([seconds, stopwatch.seconds])
    return Staged(native, model, prepared, decoded.header, decoded.inputs, took)


def stage_further(staged: Staged, steps: Sequence[Step], budget_bytes: int) -> Staged:
    """Return a volume after further steps: what several networks begin with is then done once.

    It is to the bit what ``stage`` makes of all steps at once, for a voxel's value does not
    depend on the box that it is read with.
    """
    stopwatch = Stopwatch()
    more = prepare(steps, staged.model, staged.prepared.model)
    model = more.forward(staged.model)
    if model is not staged.model and 4 * model.channels * int(np.prod(model.shape)) <= budget_bytes:
        model = materialised(model)
    stopwatch.lap("preprocess")
    prepared = replace(
        staged.prepared, model=more.model, steps=(*staged.prepared.steps, *more.steps)
    )
    seconds = added([staged.seconds, stopwatch.seconds])
    return replace(staged, model=model, prepared=prepared, seconds=seconds)


def _onto(first: StoredView, other: StoredView, allowed_mm: float) -> StoredView:
    """Return a channel on the grid of the first; values are then as the header scales them."""
    source, target = other.header.grid, first.header.grid
    if same_grid(source, target, allowed_mm):
        return other
    values_XYZ = other.read(Box.whole(other.shape))[0]
    values_XYZ = match_grid(values_XYZ, source, target, allowed_mm, "linear")
    header = replace(other.header, grid=target, dtype=values_XYZ.dtype, slope=1.0, inter=0.0)
    return StoredView(header, values_XYZ, None, other.value_range)
