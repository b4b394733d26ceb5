"""Parts of settings that several requests share: storage, windows, cluster, limits, gate."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from unet_pipeline.choices import Blend, EngineWish
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.config.fields import Axes, ClusterKind, Remedy, Settings, Threads, Url, Voxels
from unet_pipeline.config.options import Option
from unet_pipeline.config.sites import read_site
from unet_pipeline.gate.findings import NAN_IS

MOST_TOGETHER = 4  # cases that a batch is gathered from; each takes memory in its worker


class AccessSettings(Settings):
    """How to reach object storage. Secrets come from AWS variables or a profile only."""

    model_config = ConfigDict(title="Storage")

    endpoint_url: Url | None = Field(
        None,
        title="Endpoint URL",
        description="S3 endpoint, e.g. https://minio.example.org. Default: AWS_ENDPOINT_URL.",
    )
    profile: Annotated[str | None, Option(metavar="NAME")] = Field(
        None, description="Profile of the AWS credentials file. Default: AWS_PROFILE."
    )
    region: Annotated[str | None, Option(metavar="NAME")] = Field(
        None, description="S3 region. Default: AWS_DEFAULT_REGION."
    )


class StorageSettings(AccessSettings):
    """How to reach object storage, and where else a cohort may lead."""

    allow: Annotated[tuple[Url, ...], Option(metavar="PREFIX", repeat=True)] = Field(
        (),
        description="Prefix that a manifest's URLs, and links in a folder of images or masks, may "
        "lead to, beside the manifest's or images' own folder. May be given again.",
    )


class WindowSettings(Settings):
    """How the network's windows are laid over a volume, and what runs them."""

    model_config = ConfigDict(title="Windows")

    overlap: float | None = Field(
        None,
        ge=0.0,
        lt=1.0,
        description="Share of a window that overlaps the next one. Default: the bundle's.",
    )
    blend: Blend | None = Field(
        None,
        description="Weight of a window's voxels where windows overlap. Default: the bundle's.",
    )
    mirror: Axes | None = Field(
        None,
        description="Axes to mirror windows along: the scores are averaged over all "
        "combinations, so three axes take eight times as long. Default: none.",
    )
    tile: tuple[Voxels, Voxels, Voxels] | None = Field(
        None,
        description="Voxels of one tile, the unit of fan-out. Default: as large as the memory "
        "allows. The label map does not depend on it.",
    )
    batch: int = Field(
        1,
        ge=1,
        le=256,
        description="Windows per forward pass. Small cases share batches, so a worker has one case "
        f"more under way than that, at most {MOST_TOGETHER + 1}; short batches are padded.",
    )
    engine: EngineWish = Field(
        "eager",
        description="What executes the network. eager: PyTorch as it is, the same on every "
        "machine. auto: the fastest on this machine whose labels are eager's. Or by name: compiled "
        "(torch.compile), openvino (CPU), tensorrt (CUDA).",
    )


class WorkerSettings(Settings):
    """Where the work runs."""

    model_config = ConfigDict(title="Cluster")

    kind: Annotated[ClusterKind, Option("cluster")] = Field(
        "local",
        description="serial (this process), local (Dask processes on this machine), cuda (one "
        "Dask worker per GPU), slurm (a job per worker), kubernetes (a pod per worker), or the "
        "address of a running scheduler (tcp://host:8786).",
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="Worker processes; the most that slurm and kubernetes may have at a time. "
        "Default: 1, or one per GPU for cuda.",
    )
    worker_memory_gb: float | None = Field(
        None,
        gt=0,
        title="Memory of a worker (GB)",
        description="Memory of each worker of local, in GB. Results over it go to disk, "
        "and large cases are cut into tiles that fit. Default: an even share of the machine's.",
    )
    minimum: int = Field(
        1, ge=1, description="Workers that slurm and kubernetes keep while a run lasts."
    )
    site: Annotated[str | None, Option(metavar="FILE.yaml")] = Field(
        None,
        description="File (YAML) that says what a job or pod looks like: partition, account, time "
        "limit, GPUs. See deploy/slurm and deploy/kubernetes. Default: no partition or account "
        "of its own.",
    )
    tls: Annotated[str | None, Option(metavar="FOLDER")] = Field(
        None,
        title="TLS",
        description="Folder of certificates (`unet-pipeline certificates`); Dask processes then "
        "talk to none without. Every node must see it. Default: no certificates.",
    )
    wait_minutes: float | None = Field(
        None,
        gt=0,
        title="Wait (minutes)",
        description="How long to wait where there is no worker: for the first, and for another "
        "where all are lost in the middle; then the run stops, and what is done stays. Default: 10 "
        "for slurm and kubernetes, whose jobs and pods stand in a queue, 3 on this machine, 1 "
        "for a running scheduler.",
    )

    @field_validator("site", "tls", mode="before")
    @classmethod
    def _nothing_named(cls, value: Any) -> Any:
        """Take an empty field of a form, or an empty variable, for none."""
        return None if value == "" else value

    def spec(self, batch: int = 1) -> ClusterSpec:
        """Return the settings as plain values.

        Parameters
        ----------
        batch
            Windows per forward pass. Workers have so many cases under way that small ones can fill
            a batch together: while one batch computes, the next one gathers.

        Raises
        ------
        RequestError
            ``site_unreadable`` or ``site_invalid``.
        """
        return ClusterSpec(
            kind=self.kind,
            workers=self.workers,
            calls_at_once=min(batch, MOST_TOGETHER) + 1,
            memory_gb=self.worker_memory_gb,
            minimum=self.minimum,
            site=read_site(self.kind, self.site),
            tls=self.tls,
            wait_minutes=self.wait_minutes,
        )


class ClusterSettings(WorkerSettings):
    """Where the work runs, and on how many threads a network."""

    threads: Threads = None


class Limits(Settings):
    """What a case may take of memory, and ask of the network."""

    model_config = ConfigDict(title="Limits")

    memory_gb: float = Field(
        2.0,
        gt=0,
        title="Memory (GB)",
        description="Memory for the scores of one tile and for one decoded volume, in GB. What is "
        "over it goes to scratch.",
    )
    max_volume_gb: float = Field(
        64.0,
        gt=0,
        title="Largest volume (GB)",
        description="Size over which a volume is refused by its header, in GB: decoded, and again "
        "as the network sees it.",
    )
    max_windows: int | None = Field(
        None,
        ge=1,
        title="Most windows",
        description="Windows over which a case is refused by its header. Default: 1,000, and one "
        "for every ten voxels of the file.",
    )


class Budget(Limits):
    """What a case may cost before it is stopped."""

    retries: int = Field(2, ge=0, le=10, description="Tries again after a storage or worker fault.")
    case_minutes: float = Field(
        60.0,
        gt=0,
        title="Minutes per case",
        description="Time limit of one case, counted while it runs and not while it waits behind "
        "others.",
    )
    scratch: Annotated[str | None, Option(metavar="FOLDER")] = Field(
        None,
        description="Folder for volumes over the memory of a case: each host's own, or one that "
        "all see. Default: the system's folder for temporary files.",
    )

    @field_validator("scratch", mode="before")
    @classmethod
    def _nothing_named(cls, value: Any) -> Any:
        """Take an empty field of a form, or an empty variable, for none."""
        return value or None


class CostSettings(Settings):
    """What an hour of a worker costs, so that a run can say what it cost."""

    model_config = ConfigDict(title="Cost")

    hourly_rate: Annotated[float | None, Option(metavar="PRICE")] = Field(
        None,
        ge=0,
        description="Price of one worker (its GPU and cores) for an hour. Default: no price is "
        "reckoned.",
    )
    currency: Annotated[str, Option(metavar="ABC")] = Field(
        "USD",
        pattern=r"^[A-Z]{3}$",
        description="Currency of that rate, three letters (ISO 4217), such as EUR.",
    )


class RemedySettings(Settings):
    """What the geometry gate lets pass, and what it may put right."""

    model_config = ConfigDict(title="Remedies")

    remedies: tuple[Remedy, ...] = Field(
        (),
        description="What may be put right instead of refused: reorient (storage order, loses "
        "nothing), resample-mask (nearest) and resample-channels (linear) onto the first "
        "channel's grid, sform or qform, the form to take where a header has both, nan-to-zero "
        "(NaN in a mask is background), nan-to-min (NaN in an image is its smallest value) or "
        "nan=V (it is the number V, such as nan=-1024), and onehot (a mask of four axes has a "
        "volume for each label). Default: none.",
    )
    affine_voxels: Annotated[float, Option("tolerance")] = Field(
        0.05,
        gt=0,
        title="Tolerance (voxels)",
        description="Largest displacement of any corner between the grids of one case, in voxels.",
    )
    volume: int | None = Field(
        None,
        ge=0,
        title="Volume of a series",
        description="The volume that is taken of a time series (x, y, z, time), counted from 0 as "
        "nibabel and NumPy do. Default: a series is refused.",
    )
    level: int = Field(
        0,
        ge=0,
        title="Level of a pyramid",
        description="The level that is taken of images and masks in OME-Zarr, 0 for the finest. "
        "Files of one level ignore it.",
    )

    @model_validator(mode="after")
    def _one_form(self) -> "RemedySettings":
        if {"sform", "qform"} <= set(self.remedies):
            raise ValueError("takes sform or qform, not both")
        if sum(one == "nan-to-min" or one.startswith(NAN_IS) for one in self.remedies) > 1:
            raise ValueError("takes one number that NaN in an image stands for")
        return self


class GateSettings(RemedySettings):
    """What the geometry gate lets pass, what it may put right, and whether it reads voxels."""

    content: bool = Field(
        False,
        description="Look also whether each mask lies on the anatomy. It flags cases, and never "
        "fails one.",
    )


Windows = Annotated[WindowSettings, Field(description="Windows and tiles, and what runs them.")]
Cluster = Annotated[ClusterSettings, Field(description="Where the work runs.")]
Access = Annotated[AccessSettings, Field(description="How to reach object storage.")]
Storage = Annotated[
    StorageSettings,
    Field(description="Object storage. Keys come from AWS variables or a profile only."),
]
CaseLimits = Annotated[Limits, Field(description="What a case may take.")]
CaseBudget = Annotated[Budget, Field(description="Limits of one case.")]
Remedies = Annotated[
    RemedySettings, Field(description="Which cases are refused, and what may be put right.")
]
