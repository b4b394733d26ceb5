"""What the commands share: settings from options, errors in one line, JSON lines."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from unet_pipeline.errors import PipelineError, RequestError

_S = TypeVar("_S", bound=BaseModel)
_NAMED: dict[tuple[str, ...], str] = {  # options that are not named as the last part of the setting
    ("cluster", "kind"): "cluster",
    ("gate", "affine_voxels"): "tolerance (in voxels)",
    ("loss", "name"): "loss",
    ("optimiser", "name"): "optimiser",
    ("validation", "every"): "validate-every",
}

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
Endpoint = Annotated[
    str | None,
    typer.Option(help="S3 endpoint. Default: AWS_ENDPOINT_URL.", rich_help_panel="Storage"),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PREFIX",
        help="Prefix that a manifest's URLs may lie in, beside the manifest's own folder. May be "
        "given again.",
        rich_help_panel="Storage",
    ),
]
Profile = Annotated[
    str | None, typer.Option(help="Profile of the AWS credentials file.", rich_help_panel="Storage")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines for machines.")]
Overlap = Annotated[
    float | None,
    typer.Option(
        help="Share of a window that overlaps the next one, 0 to 1. Default: the bundle's.",
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
Depth = Annotated[
    str | None,
    typer.Option(
        metavar="1..n|mean|adaptive",
        help="Depth of a nested U-Net (UNet++): 1 is the shallowest and fastest; mean averages "
        "its heads; adaptive goes as deep as each window needs. Default: the deepest.",
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
Engine = Annotated[
    str,
    typer.Option(
        metavar="auto|eager|compiled|openvino|tensorrt",
        help="What executes the network. eager is PyTorch as it is; auto takes the fastest on this "
        "machine whose labels are eager's.",
        rich_help_panel="Windows",
    ),
]
HourlyRate = Annotated[
    float | None,
    typer.Option(
        metavar="PRICE",
        help="What an hour of one worker (its GPU and cores) costs. Default: no price is shown.",
        rich_help_panel="Cost",
    ),
]
Currency = Annotated[
    str,
    typer.Option(
        metavar="ABC",
        help="Currency of that rate, three letters, such as EUR.",
        rich_help_panel="Cost",
    ),
]
Batch = Annotated[int, typer.Option(help="Windows per forward pass.", rich_help_panel="Windows")]
Cluster = Annotated[
    str,
    typer.Option(
        metavar="serial|local|cuda|slurm|kubernetes|tcp://...",
        help="This process, Dask workers here, one worker per GPU here, a job or a pod per worker, "
        "or a running scheduler.",
        rich_help_panel="Cluster",
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
Minimum = Annotated[
    int,
    typer.Option(
        min=1,
        help="Workers that slurm and kubernetes keep while the run lasts.",
        rich_help_panel="Cluster",
    ),
]
Site = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.yaml",
        help="What a job or pod looks like: partition, time limit, GPUs; see deploy/slurm and "
        "deploy/kubernetes.",
        rich_help_panel="Cluster",
    ),
]
Tls = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Certificates, of `unet-pipeline certificates`: Dask processes then talk to none "
        "without.",
        rich_help_panel="Cluster",
    ),
]
WaitMinutes = Annotated[
    float,
    typer.Option(help="How long the first job or pod may take to come.", rich_help_panel="Cluster"),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="CPU threads of one forward pass. Default: all cores.", rich_help_panel="Cluster"
    ),
]
Remedies = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="What may be put right instead of refused: reorient (storage order, loses nothing), "
        "resample-mask and resample-channels (onto the first channel's grid), sform or qform "
        "(the form to take where a header has both).",
        rich_help_panel="Remedies",
    ),
]
ToleranceVoxels = Annotated[
    float,
    typer.Option(
        help="Largest displacement of any corner between the grids of one case, in voxels.",
        rich_help_panel="Remedies",
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


@contextmanager
def request_errors(case_too: bool = False) -> Iterator[None]:
    """Turn a wrong request into one line and exit status 2.

    Parameters
    ----------
    case_too
        Also a fault of one object: where no case can be quarantined, it ends the command.
    """
    from unet_pipeline.console import say_error

    try:
        yield
    except PipelineError as error:
        if not isinstance(error, RequestError) and not case_too:
            raise
        say_error(error)
        raise typer.Exit(2) from error


def settings_of(kind: type[_S], **values: Any) -> _S:
    """Fill a settings object; what is wrong with a value becomes one sentence."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(
            "setting_invalid",
            subject=_option(first["loc"]),
            found=repr(first["input"]),
            wanted=first["msg"][0].lower() + first["msg"][1:],
            remedy="See --help",
        ) from error


def _option(place: Sequence[int | str]) -> str:
    """Return the option that fills a place in the settings, such as ``("cluster", "kind")``."""
    names = tuple(part for part in place if isinstance(part, str))  # a number: place in a list
    return "--" + _NAMED.get(names, "".join(names[-1:])).replace("_", "-")


def three(text: str | None) -> tuple[int, ...] | None:
    """Return three whole numbers of ``X,Y,Z``."""
    values = numbers(text, int, "--tile or --roi-size")
    if values is not None and len(values) != 3:
        _wrong_numbers(text, "three whole numbers, X,Y,Z")
    return values


def numbers(text: str | None, kind: Callable[[str], Any], option: str) -> tuple[Any, ...] | None:
    """Return the numbers of ``N,N,...``; ``option`` is named if they are none."""
    try:
        return None if text is None else tuple(kind(part) for part in text.split(","))
    except ValueError:
        _wrong_numbers(text, f"numbers with commas between them for {option}")


def remedies_of(text: str | None) -> tuple[str, ...]:
    """Return the names of ``A,B,...``."""
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _wrong_numbers(text: str | None, wanted: str) -> NoReturn:
    raise RequestError("setting_invalid", found=repr(text), wanted=wanted, remedy="See --help")


def print_json(value: dict[str, Any], when: bool = True) -> None:
    """Print one JSON line, at once."""
    if when:
        sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
        sys.stdout.flush()
