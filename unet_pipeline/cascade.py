"""A cascade of nnU-Net on workers: the label map of its first stage, handed to the second.

The label map stays where it was made, in memory or in the case's scratch; it is no result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from unet_pipeline.cost import Stopwatch, added
from unet_pipeline.finishing import join_tiles
from unet_pipeline.tasks import StagedCase
from unet_pipeline.tiles import LabelledTile
from unet_pipeline.tiling.box import Index3
from unet_pipeline.volume.decoding import StoredView, keep_labels
from unet_pipeline.volume.first_stage import with_labels
from unet_pipeline.volume_job import VolumeJob


@dataclass(frozen=True)
class FirstLabels:
    """The label map of a first stage on the grid of the file.

    Attributes
    ----------
    seconds, bytes_read
        What it took, but for the network's windows.
    """

    labels: StoredView
    seconds: Mapping[str, float]
    bytes_read: int


def first_stage_of(job: VolumeJob) -> VolumeJob | None:
    """Return what the first stage of a job asks of the workers; nothing of it is written."""
    stage = job.first_stage
    if stage is None:
        return None
    return replace(
        job,
        spec=stage.spec,
        steps=stage.steps,
        overlap=stage.overlap,
        first_stage=None,
        claim=None,
        facts=None,
        label_steps=(),
        content=False,
        confidence="none",
    )


def first_labels(staged: StagedCase, tiles: Sequence[LabelledTile], job: VolumeJob) -> FirstLabels:
    """Join the labels of a first stage, as its scores decide them, and keep them."""
    stopwatch, volume = Stopwatch(), staged.volume
    labels = [*chain.from_iterable(tile.labels for tile in tiles)]
    labels_XYZ = join_tiles(labels, volume.native.shape, job.room)
    kept = keep_labels(
        labels_XYZ, volume.header, budget_bytes=job.memory_bytes, scratch=job.scratch
    )
    stopwatch.lap("merge")
    merged = {"merge": sum(one.seconds for one in labels)}
    seconds = added([staged.seconds, merged, stopwatch.seconds])
    return FirstLabels(kept, seconds, staged.bytes_read)


def shape_of(first: FirstLabels) -> Index3:
    """Return the shape of a label map, once it is made."""
    return first.labels.shape


def with_first_labels(staged: StagedCase, first: FirstLabels, job: VolumeJob) -> StagedCase:
    """Put the labels of a first stage behind the image that the second sees."""
    stopwatch, channels = Stopwatch(), job.spec.bundle.label_channels
    volume = with_labels(staged.volume, first.labels, channels, job.memory_bytes)
    stopwatch.lap("preprocess")
    seconds = added([staged.seconds, first.seconds, stopwatch.seconds])
    return replace(
        staged, volume=volume, seconds=seconds, bytes_read=staged.bytes_read + first.bytes_read
    )
