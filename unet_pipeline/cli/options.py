"""Options that several commands share: single ones, and groups that fill a part of settings."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from unet_pipeline.cli.common import names_of
from unet_pipeline.cli.grouped import Options

Images = Annotated[
    str,
    typer.Argument(
        help="A prefix or folder, a glob, a BIDS tree, or a manifest (.csv or .jsonl with columns "
        "case,image,mask). Any URL: s3://bucket/prefix, /folder, memory://."
    ),
]
Model = Annotated[
    str,
    typer.Option(
        help="Bundle of MONAI or trained model of nnU-Net: a folder or URL; or the name of a "
        "bundle of ours: phantom, hippocampus."
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run what a bundle brings of its own: programs (TorchScript, torch.export), "
        "expressions and Python code; only for bundles whose source you know.",
    ),
]
IgnorePostprocessing = Annotated[
    bool,
    typer.Option(
        "--ignore-postprocessing",
        help="Run a bundle without those steps of its postprocessing that are not done here, such "
        "as the largest component; otherwise it is refused. Sidecars and the report name them.",
    ),
]
Masks = Annotated[
    str | None, typer.Option(help="Reference masks, found by name; gives Dice per label.")
]
MaskPattern = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="Where the mask of a case lies below the masks (below IMAGES without), such as "
        "'{case}/segmentation.nii.gz'; {case} may be the folder of an image that is alone in it. "
        "Default: masks are found by name.",
    ),
]
ListFiles = Annotated[
    bool,
    typer.Option("--list", help="Show what each file was taken for, and why, and do no more."),
]
Depth = Annotated[
    str | None,
    typer.Option(
        metavar="1..n|mean|adaptive",
        help="Depth of a nested U-Net (UNet++): 1 is the shallowest and fastest; mean averages "
        "its heads; adaptive goes as deep as each window needs. Default: the deepest.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines for machines.")]

Overlap = Annotated[
    float | None,
    typer.Option(
        help="Share of a window that overlaps the next one, 0 to 1. Default: the bundle's.",
        rich_help_panel="Windows",
    ),
]
Mirror = Annotated[
    str | None,
    typer.Option(
        metavar="x,y,z",
        help="Axes to mirror windows along; scores are averaged. Three axes take eight times "
        "as long.",
        rich_help_panel="Windows",
    ),
]
Tile = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,Z",
        help="Voxels of one tile, the unit of fan-out. Default: as large as memory allows. "
        "The label map does not depend on it.",
        rich_help_panel="Windows",
    ),
]
Batch = Annotated[int, typer.Option(help="Windows per forward pass.", rich_help_panel="Windows")]
Engine = Annotated[
    str,
    typer.Option(
        metavar="auto|eager|compiled|openvino|tensorrt",
        help="What executes the network. eager is PyTorch as it is; auto takes the fastest on this "
        "machine whose labels are eager's.",
        rich_help_panel="Windows",
    ),
]

Workers = Annotated[
    int | None,
    typer.Option(
        help="Worker processes; the most at a time for slurm and kubernetes. Default: 1, or one "
        "per GPU for cuda.",
        rich_help_panel="Cluster",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="CPU threads of one forward pass. Default: all cores.", rich_help_panel="Cluster"
    ),
]

MemoryGb = Annotated[
    float,
    typer.Option(
        help="Memory for the scores of one tile and for one decoded volume, in GB.",
        rich_help_panel="Limits",
    ),
]
MaxVolumeGb = Annotated[
    float,
    typer.Option(
        help="Size over which a volume is refused by its header, in GB: decoded, and again as the "
        "network sees it.",
        rich_help_panel="Limits",
    ),
]

MaxWindows = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Windows over which a case is refused by its header. Default: 1,000, and one for "
        "every ten voxels of the file.",
        rich_help_panel="Limits",
    ),
]

Endpoint = Annotated[
    str | None,
    typer.Option(help="S3 endpoint. Default: AWS_ENDPOINT_URL.", rich_help_panel="Storage"),
]
Profile = Annotated[
    str | None, typer.Option(help="Profile of the AWS credentials file.", rich_help_panel="Storage")
]


@dataclass(frozen=True)
class ClusterOptions(Options):
    """Where the work runs."""

    kind: Annotated[
        str,
        typer.Option(
            "--cluster",
            metavar="serial|local|cuda|slurm|kubernetes|tcp://...",
            help="This process, Dask workers here, one worker per GPU here, a job or a pod per "
            "worker, or a running scheduler.",
            rich_help_panel="Cluster",
        ),
    ] = "local"
    workers: Workers = None
    minimum: Annotated[
        int,
        typer.Option(
            min=1,
            help="Workers that slurm and kubernetes keep while the run lasts.",
            rich_help_panel="Cluster",
        ),
    ] = 1
    threads: Threads = None
    site: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.yaml",
            help="What a job or pod looks like: partition, time limit, GPUs; see deploy/slurm and "
            "deploy/kubernetes.",
            rich_help_panel="Cluster",
        ),
    ] = None
    tls: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Certificates, of `unet-pipeline certificates`: Dask processes then talk to none "
            "without.",
            rich_help_panel="Cluster",
        ),
    ] = None
    wait_minutes: Annotated[
        float | None,
        typer.Option(
            help="How long to wait where there is no worker: for the first, and for another where "
            "all are lost. Default: 10 for slurm and kubernetes, 3 here, 1 for a running "
            "scheduler.",
            rich_help_panel="Cluster",
        ),
    ] = None


def _tolerance(option: str) -> Any:
    return typer.Option(
        option,
        help="Largest displacement of any corner between the grids of one case, in voxels.",
        rich_help_panel="Remedies",
    )


@dataclass(frozen=True)
class GateOptions(Options):
    """What the geometry gate lets pass, and what it may put right."""

    remedies: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="What may be put right instead of refused: reorient (storage order, loses "
            "nothing), resample-mask and resample-channels (onto the first channel's grid), sform "
            "or qform (the form to take where a header has both), nan-to-zero (NaN in a mask is "
            "background), nan-to-min (NaN in an image is its smallest value) or nan=V (it is the "
            "number V, such as nan=-1024), onehot (a mask of four axes has a volume for each "
            "label).",
            rich_help_panel="Remedies",
        ),
    ] = None
    affine_voxels: Annotated[float, _tolerance("--tolerance")] = 0.05
    volume: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="The volume to take of a time series (x, y, z, time), counted from 0. Default: a "
            "series is refused.",
            rich_help_panel="Remedies",
        ),
    ] = None
    level: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="The level to take of images and masks in OME-Zarr, 0 for the finest.",
            rich_help_panel="Remedies",
        ),
    ] = 0

    def settings(self) -> dict[str, Any]:
        """Return the remedies one by one, the tolerance in voxels, the volume and level to take."""
        return {**asdict(self), "remedies": names_of(self.remedies)}


@dataclass(frozen=True)
class AffineGateOptions(GateOptions):
    """The same, for commands with another tolerance than the gate's."""

    affine_voxels: Annotated[float, _tolerance("--affine-tolerance")] = 0.05


@dataclass(frozen=True)
class LimitOptions(Options):
    """What a case may take of memory, and ask of the network."""

    memory_gb: MemoryGb = 2.0
    max_volume_gb: MaxVolumeGb = 64.0
    max_windows: MaxWindows = None


@dataclass(frozen=True)
class CostOptions(Options):
    """What an hour of a worker costs."""

    hourly_rate: Annotated[
        float | None,
        typer.Option(
            metavar="PRICE",
            help="What an hour of one worker (its GPU and cores) costs. Default: no price is "
            "shown.",
            rich_help_panel="Cost",
        ),
    ] = None
    currency: Annotated[
        str,
        typer.Option(
            metavar="ABC",
            help="Currency of that rate, three letters, such as EUR.",
            rich_help_panel="Cost",
        ),
    ] = "USD"


@dataclass(frozen=True)
class StorageOptions(Options):
    """How to reach object storage, and what of it a manifest may name."""

    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PREFIX",
            help="Prefix that a manifest's URLs, and links in a folder of images or masks, may "
            "lead to, beside the manifest's or images' own folder. May be given again.",
            rich_help_panel="Storage",
        ),
    ] = None
    endpoint_url: Endpoint = None
    profile: Profile = None

    def settings(self) -> dict[str, Any]:
        """Return the endpoint, the profile and the prefixes that are allowed."""
        allow = self.allow or ()
        return {"endpoint_url": self.endpoint_url, "profile": self.profile, "allow": allow}
