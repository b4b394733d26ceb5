"""Options that several commands share: single ones, and groups that fill a part of settings."""

from dataclasses import dataclass
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
Masks = Annotated[
    str | None, typer.Option(help="Reference masks, found by name; gives Dice per label.")
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
        help="Decoded size over which a volume is refused by its header, in GB.",
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
        float,
        typer.Option(
            help="How long the first job or pod may take to come.", rich_help_panel="Cluster"
        ),
    ] = 10.0


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
            "or qform (the form to take where a header has both).",
            rich_help_panel="Remedies",
        ),
    ] = None
    affine_voxels: Annotated[float, _tolerance("--tolerance")] = 0.05

    def settings(self) -> dict[str, Any]:
        """Return the remedies one by one, and the tolerance in voxels."""
        return {"remedies": names_of(self.remedies), "affine_voxels": self.affine_voxels}


@dataclass(frozen=True)
class AffineGateOptions(GateOptions):
    """The same, for commands with another tolerance than the gate's."""

    affine_voxels: Annotated[float, _tolerance("--affine-tolerance")] = 0.05


@dataclass(frozen=True)
class MemoryOptions(Options):
    """How large a case may be, in GB."""

    memory_gb: MemoryGb = 2.0
    max_volume_gb: MaxVolumeGb = 64.0


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
            help="Prefix that a manifest's URLs may lie in, beside the manifest's own folder. May "
            "be given again.",
            rich_help_panel="Storage",
        ),
    ] = None
    endpoint_url: Endpoint = None
    profile: Profile = None

    def settings(self) -> dict[str, Any]:
        """Return the endpoint, the profile and the prefixes that are allowed."""
        allow = self.allow or ()
        return {"endpoint_url": self.endpoint_url, "profile": self.profile, "allow": allow}
