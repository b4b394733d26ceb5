"""What one case asks of the workers: plain values, which can be pickled and run anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from unet_pipeline.choices import Confidence, OutputFormat
from unet_pipeline.gate.examine import Examined, Policy
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.postprocessing import LabelStep
from unet_pipeline.records import Part
from unet_pipeline.storage.claims import Claim
from unet_pipeline.storage.sidecar import (
    RunFacts,
)
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Index3
from unet_pipeline.volume.combined import CombinedPart
from unet_pipeline.volume.disk_arrays import Room
from unet_pipeline.volume.region import Region
from unet_pipeline.volume.steps import Step


@dataclass(frozen=True)
class FirstStage:
    """The model whose label map the network of a job takes; attributes as of ``VolumeJob``."""

    spec: ModelSpec
    steps: tuple[Step, ...]
    overlap: float


@dataclass(frozen=True)
class VolumeJob:
    """Everything that one case asks of the workers.

    Attributes
    ----------
    images, mask, parts
        URLs of the channels and of the reference mask, or its parts, as of ``Case``.
    claim, facts
        Where the case is written and what may be replaced there, and what its record says of the
        run; None if nothing is to be written.
    tile
        Native voxels of a tile; None for as large as ``memory_bytes`` allows.
    scratch
        What the folder of this case is called, for volumes over ``memory_bytes``. It need not
        exist; it is removed with the case, on all hosts.
    label_steps
        What is done to the label map before it is written.
    policy
        What the gate holds the case against.
    examined
        What the gate saw in the headers.
    content
        Whether to look if the mask lies on the anatomy.
    output_format
        That of the label map.
    confidence
        What is wanted of how sure the labels are.
    seconds
        Seconds per stage that the case took before the workers.
    said
        What the record says for other programs, besides.
    region
        Where the network looks; None for the whole volume.
    combined
        Label maps of other models that are combined, where no network is run.
    first_stage
        The first stage of a cascade, whose label map the network takes beside the image.
    memory_steps
        In what it takes less memory than was asked for, as the record says.
    """

    case: str
    images: tuple[str, ...]
    mask: str | None
    parts: tuple[Part, ...]
    claim: Claim | None
    facts: RunFacts | None
    store: Store
    spec: ModelSpec
    steps: tuple[Step, ...]
    overlap: float
    tile: Index3 | None
    memory_bytes: int
    label_steps: tuple[LabelStep, ...]
    policy: Policy
    examined: Examined
    content: bool = False
    output_format: OutputFormat = "nifti"
    confidence: Confidence = "none"
    scratch: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)
    region: Region | None = None
    combined: tuple[CombinedPart, ...] = ()
    first_stage: FirstStage | None = None
    memory_steps: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """URLs of the label maps of other models that this one is made with."""
        within = (self.region.label_map,) if self.region is not None else ()
        return (*within, *(part.label_map for part in self.combined))

    @property
    def room(self) -> Room:
        """Where its label map and its mask may lie."""
        return Room(self.memory_bytes, self.scratch)

    @property
    def margins(self) -> Confidence:
        """What tiles hand on: all margins also where the numbers are of a changed label map."""
        return "map" if self.confidence == "numbers" and self.label_steps else self.confidence


def within(job: VolumeJob, call_bytes: int | None) -> VolumeJob:
    """Return a job that takes no more memory than a call of a worker may."""
    if call_bytes is None:
        return job
    return replace(job, memory_bytes=min(job.memory_bytes, call_bytes))
