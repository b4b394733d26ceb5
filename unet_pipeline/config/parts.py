"""Settings that several requests share: storage, windows, cluster, budget, gate."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Voxels = Annotated[int, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegativeInt = Annotated[int, Field(ge=0)]
Remedy = Literal["reorient", "resample-mask", "resample-channels", "sform", "qform"]
NetworkName = Literal["unet", "plain", "unetpp", "unetplus", "unete", "asymmetric", "half_decoder"]
Place = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Trust = Annotated[
    bool,
    Field(
        description="Run what a bundle brings of its own: a network that is a program "
        "(TorchScript, torch.export), expressions and Python code. It could do anything: only for "
        "bundles whose source you know."
    ),
]
ClusterKind = Annotated[str, Field(pattern=r"^(serial|local|cuda|(tcp|tls)://.+:\d+)$")]


class Settings(BaseModel):
    """Settings that name no field but their own, hold finite numbers, and do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StorageSettings(Settings):
    """How to reach object storage. Secrets come from AWS variables or a profile only."""

    model_config = ConfigDict(title="Storage")

    endpoint_url: str | None = Field(
        None,
        title="Endpoint URL",
        description="S3 endpoint, e.g. https://minio.example.org. Default: AWS_ENDPOINT_URL.",
    )
    profile: str | None = Field(None, description="Profile of the AWS credentials file.")
    region: str | None = Field(None, description="S3 region. Default: AWS_DEFAULT_REGION.")


class WindowSettings(Settings):
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


class ClusterSettings(Settings):
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


class Budget(Settings):
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


class GateSettings(Settings):
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
