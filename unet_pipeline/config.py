"""Settings of a request: the one place where outside values are checked (pydantic).

The command line and the Prefect run form fill the same objects, so a description written here is
the help text in both. Inside the package nothing knows these classes; it is given plain values.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Voxels = Annotated[int, Field(gt=0)]
Remedy = Literal["reorient", "resample-mask", "resample-channels", "sform", "qform"]
NetworkName = Literal["unet", "unetpp", "unetplus", "unete", "asymmetric"]
ClusterKind = Annotated[str, Field(pattern=r"^(serial|local|cuda|(tcp|tls)://.+:\d+)$")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StorageSettings(_Settings):
    """How to reach object storage. Secrets come from AWS variables or a profile only."""

    model_config = ConfigDict(title="Storage")

    endpoint_url: str | None = Field(
        None,
        title="Endpoint URL",
        description="S3 endpoint, e.g. https://minio.example.org. Default: AWS_ENDPOINT_URL.",
    )
    profile: str | None = Field(None, description="Profile of the AWS credentials file.")
    region: str | None = Field(None, description="S3 region. Default: AWS_DEFAULT_REGION.")


class WindowSettings(_Settings):
    """How the network's windows are laid over a volume."""

    model_config = ConfigDict(title="Windows")

    overlap: float | None = Field(
        None,
        ge=0.0,
        lt=1.0,
        description="Share of a window that overlaps the next one. Default: the bundle's.",
    )
    blend: Literal["gaussian", "constant"] | None = Field(
        None,
        description="Weight of a window's voxels where windows overlap. Default: the bundle's.",
    )
    batch: int = Field(
        1, ge=1, le=256, description="Windows per forward pass; short batches are padded."
    )
    mirror: str | None = Field(
        None,
        pattern=r"^[xyz](,[xyz])*$",
        description="Axes to mirror windows along, e.g. x,y,z: the scores are averaged over all "
        "combinations, so three axes take eight times as long. Default: none.",
    )
    tile: tuple[Voxels, Voxels, Voxels] | None = Field(
        None,
        description="Voxels of one tile, the unit of fan-out. Default: as large as the memory "
        "budget allows. The label map does not depend on it.",
    )


class ClusterSettings(_Settings):
    """Where the work runs."""

    model_config = ConfigDict(title="Cluster")

    kind: ClusterKind = Field(
        "local",
        description="serial (this process), local (Dask processes on this machine), cuda (one "
        "Dask worker per GPU), or the address of a running scheduler (tcp://host:8786).",
    )
    workers: int | None = Field(
        None, ge=1, description="Worker processes. Default: 1 for local, one per GPU for cuda."
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads of one forward pass. Default: all cores."
    )


class Budget(_Settings):
    """What a case may cost before it is stopped."""

    retries: int = Field(2, ge=0, le=10, description="Tries again after a storage or worker fault.")
    case_minutes: float = Field(
        60.0, gt=0, title="Minutes per case", description="Time limit of one case."
    )
    memory_gb: float = Field(
        2.0,
        gt=0,
        title="Memory (GB)",
        description="Memory for the scores of one tile and for one decoded volume, in GB.",
    )
    scratch: str | None = Field(
        None,
        description="Folder for volumes over the memory budget; all workers must see it. "
        "Default: the system's folder for temporary files.",
    )


class GateSettings(_Settings):
    """What the geometry gate lets pass, and what it may put right."""

    model_config = ConfigDict(title="Gate")

    remedies: tuple[Remedy, ...] = Field(
        (),
        description="What may be put right instead of refused: reorient (storage order, loses "
        "nothing), resample-mask (nearest) and resample-channels (linear) onto the first "
        "channel's grid, and sform or qform, the form to take where a header has both.",
    )
    affine_voxels: float = Field(
        0.05,
        gt=0,
        title="Tolerance (voxels)",
        description="Largest displacement of any corner between the grids of one case, in voxels.",
    )
    content: bool = Field(
        False,
        description="Look also whether each mask lies on the anatomy. It flags cases, and never "
        "fails one.",
    )

    @model_validator(mode="after")
    def _one_form(self) -> "GateSettings":
        if {"sform", "qform"} <= set(self.remedies):
            raise ValueError("takes sform or qform, not both")
        return self


class CheckSettings(_Settings):
    """Every image is checked, and every mask is held against its image."""

    images: str = Field(description="Images, as for segment.")
    masks: str | None = Field(None, description="Masks, found by name.")
    output: str | None = Field(
        None, description="Prefix of the report, the table and the pictures. Default: none."
    )
    model: str | None = Field(
        None, description="Bundle whose channels and labels the cases must fit. Default: any."
    )
    gate: GateSettings = Field(
        GateSettings(content=True), description="Tolerance, remedies and the look at the voxels."
    )
    fix: str | None = Field(
        None, description="Prefix that cases are written to with the remedies applied."
    )
    cluster: ClusterSettings = Field(
        ClusterSettings(kind="serial"), description="Where voxels are looked at."
    )
    storage: StorageSettings = Field(StorageSettings(), description="Object storage.")


class SegmentSettings(_Settings):
    """Every volume under Images becomes a label map under Output."""

    images: str = Field(
        description="A prefix or folder, a glob, a BIDS tree, or a manifest (.csv, .jsonl "
        "with columns case,image,mask). Any fsspec URL: s3://bucket/prefix, /folder, memory://."
    )
    model: str = Field(
        description="Bundle: a folder, a URL, or the name of one that comes with the package "
        "(phantom, hippocampus)."
    )
    output: str = Field(description="Prefix that label maps, sidecars and reports are written to.")
    masks: str | None = Field(
        None, description="Reference masks, found by name; Dice is reported where there is one."
    )
    depth: str | None = Field(
        None,
        pattern=r"^([1-9]\d*|mean|adaptive)$",
        description="Depth of a nested U-Net (UNet++) with deep supervision: 1 is the shallowest "
        "and fastest, mean averages the heads, adaptive goes as deep as each window needs. "
        "Default: the deepest.",
    )
    trust: bool = Field(
        False,
        description="Run a bundle's network that is a program (TorchScript, torch.export), which "
        "could do anything. Only for bundles whose source you know.",
    )
    windows: WindowSettings = Field(WindowSettings(), description="Windows and tiles.")
    cluster: ClusterSettings = Field(ClusterSettings(), description="Where the work runs.")
    storage: StorageSettings = Field(
        StorageSettings(),
        description="Object storage. Keys come from AWS variables or a profile only.",
    )
    budget: Budget = Field(Budget(), description="Limits of one case.")
    gate: GateSettings = Field(GateSettings(), description="Which cases are refused.")
    resume: bool = Field(
        True, description="Skip cases whose input, weights and settings have not changed."
    )

    @field_validator("images", "model", "output")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be empty")
        return value.strip()


class TrainSettings(_Settings):
    """Train a network on image and mask pairs, and write it as a bundle."""

    images: str = Field(description="Images, as for segment.")
    masks: str = Field(description="Reference masks, found by name.")
    output: str = Field(description="Folder of the bundle to write.")
    network: NetworkName = Field(
        "unetpp",
        description="Network to train: unet, or the nested unetpp, unetplus, unete with a head at "
        "every depth, or asymmetric, with half an encoder.",
    )
    features: tuple[Voxels, ...] | None = Field(
        None, description="Channels of each level, shallow to deep. Default: 16,16,32,64,128."
    )
    roi_size: tuple[Voxels, Voxels, Voxels] = Field(
        (32, 48, 32), description="Window in voxels; each size divisible by the network's stride."
    )
    spacing: tuple[float, float, float] | None = Field(
        None, description="Model spacing in mm. Default: the median of the cohort."
    )
    steps: int = Field(300, ge=1, description="Optimiser steps.")
    batch: int = Field(2, ge=1, description="Crops per step.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW.")
    holdout: float = Field(
        0.2, ge=0.0, lt=1.0, description="Share of cases kept aside for validation."
    )
    seed: int = Field(0, ge=0, description="Seed of the split, the crops and the weights.")
    threads: int | None = Field(None, ge=1, description="CPU threads. Default: all cores.")
    storage: StorageSettings = Field(StorageSettings(), description="Object storage.")

    @model_validator(mode="after")
    def _enough_levels(self) -> "TrainSettings":
        if self.features is not None and len(self.features) < 2:
            raise ValueError("features needs at least two levels")
        return self
