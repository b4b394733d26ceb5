"""The commands on bundles: inspect, verify, make, convert, prune, calibrate."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.cli.common import names_of, numbers, print_json, request_errors, settings_of
from unet_pipeline.cli.grouped import Options, grouped
from unet_pipeline.cli.options import (
    Endpoint,
    GateOptions,
    Images,
    Json,
    LimitOptions,
    MaskPattern,
    Profile,
    StorageOptions,
    Trust,
)
from unet_pipeline.config import GateSettings, Limits, StorageSettings

if TYPE_CHECKING:
    from unet_pipeline.storage.store import Store

app = typer.Typer(
    help="Make model bundles of weights, look into them, check, convert and prune them.",
    no_args_is_help=True,
)


@dataclass(frozen=True)
class SpaceOptions(Options):
    """What is done to a volume before the network sees it."""

    spacing: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,Z",
            help="Distance of voxels in mm that volumes are resampled to (Spacingd); `file` for "
            "none. Two numbers: in the plane of slices alone.",
            rich_help_panel="Preprocessing",
        ),
    ] = None
    intensity: Annotated[
        str | None,
        typer.Option(
            metavar="KIND[:NUMBERS]",
            help="What becomes of the values. range:A,B maps A..B to 0..1 and clips "
            "(ScaleIntensityRanged; range:A,B,C,D to C..D); zscore (NormalizeIntensityd, of all "
            "channels apart), zscore:nonzero; percentiles:LOW,HIGH to 0..1, clipped; minmax to "
            "0..1; none.",
            rich_help_panel="Preprocessing",
        ),
    ] = None
    axcodes: Annotated[
        str,
        typer.Option(
            metavar="RAS",
            help="Axes that volumes are brought to (Orientationd); `file` for none.",
            rich_help_panel="Preprocessing",
        ),
    ] = "RAS"
    crop_foreground: Annotated[
        bool,
        typer.Option(
            "--crop-foreground",
            help="Crop to the voxels above 0, after the values were mapped (CropForegroundd).",
            rich_help_panel="Preprocessing",
        ),
    ] = False
    preprocessing: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.json",
            help="A list of MONAI transforms in the place of these four, for another order or "
            "others.",
            rich_help_panel="Preprocessing",
        ),
    ] = None


Source = Annotated[
    str,
    typer.Argument(
        help="Bundle, or a trained model of nnU-Net: a folder or URL; or phantom, hippocampus."
    ),
]
Target = Annotated[str, typer.Option(help="Folder or URL of the bundle to write.")]


@app.command()
def inspect(
    bundle: Source,
    trust: Trust = False,
    endpoint_url: Endpoint = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Show what a bundle says of itself: network, depths, labels, window, preprocessing, size.

    Exit status 2, with the reason, for a bundle that `segment` would refuse.
    """
    from unet_pipeline.console import out, pairs_table
    from unet_pipeline.model import open_bundle
    from unet_pipeline.networks.bundle_tools import describe

    with request_errors():
        loaded, network = open_bundle(bundle, _store(endpoint_url, profile), trust=trust)
        found = describe(loaded, network)
    if as_json:
        return print_json(found)
    return out.print(pairs_table(f"Bundle {loaded.name}", found))


@app.command()
def verify(
    bundle: Source,
    trust: Trust = False,
    endpoint_url: Endpoint = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Check a bundle as `segment` does before it runs, and run the stored example again.

    Exit status 2 if it does not hold what it says, or if `segment` would refuse it.
    """
    from unet_pipeline.console import out, pairs_table
    from unet_pipeline.model import open_bundle
    from unet_pipeline.networks.bundle_tools import verify_bundle

    with request_errors():
        store = _store(endpoint_url, profile)
        found = verify_bundle(*open_bundle(bundle, store, trust=trust), store)
    if as_json:
        return print_json(found)
    return out.print(pairs_table("Verified", found))


@app.command()
@grouped
def make(
    weights: Annotated[
        str,
        typer.Argument(help="Weights or a checkpoint (.pt, .pth, .ckpt, .safetensors): file, URL."),
    ],
    output: Target,
    network: Annotated[
        str,
        typer.Option(
            metavar="'UNet(...)'|FILE.json",
            help="The network: its constructor's call as it stands in your script, with the values "
            "themselves; or JSON with _target_, or a file of it. Channels, classes and features "
            "that the weights tell may be left out. UNet, BasicUNet, BasicUNetPlusPlus, "
            "AttentionUnet, DynUNet, SegResNet, SwinUNETR, VNet, NestedUNet, AsymmetricUNet.",
        ),
    ],
    *,
    space: SpaceOptions,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,Z",
            help="Voxels of a window (roi_size), as in training; two sizes for a 2-D network.",
        ),
    ] = None,
    slices_along: Annotated[
        str,
        typer.Option(
            metavar="x|y|z",
            help="The axis along which a 2-D network takes slices, after --axcodes: with RAS, z "
            "is axial, y coronal, x sagittal.",
        ),
    ] = "z",
    overlap: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share of a window that overlaps the next.")
    ] = 0.25,
    blend: Annotated[
        str,
        typer.Option(metavar="gaussian|constant", help="Weight of voxels where windows overlap."),
    ] = "gaussian",
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Names of the labels, in the order of the network's channels; background may be "
            "left out. Default: label 1, label 2.",
        ),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Names of the input channels, such as CT, or T1,T2."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--sigmoid",
            metavar="THRESHOLD",
            help="For channels that do not exclude each other (sigmoid): the probability that a "
            "voxel must be above, such as 0.5. A single channel has 0.5 without being asked.",
        ),
    ] = None,
    endpoint_url: Endpoint = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Make a bundle of trained weights, and check it by one window.

    What the weights say is not asked for: channels and classes, and for UNet, BasicUNet, SegResNet
    and SwinUNETR the features. The page docs/your-model.md goes through it step by step.

    Example: `unet-pipeline bundle make best_metric_model.pth --network 'UNet(strides=(2, 2, 2, 2))'
    --spacing 1.5,1.5,2.0 --intensity range:-57,164 --window 160,160,160 --labels spleen
    --output spleen`
    """
    from unet_pipeline.console import out, pairs_table
    from unet_pipeline.making import Wish, make_bundle

    with request_errors():
        store = _store(endpoint_url, profile)
        wish = Wish(
            weights=weights,
            network=network,
            output=output,
            **space.settings(),
            window=numbers(window, int, "--window"),
            slices_along=slices_along,
            overlap=overlap,
            blend=blend,
            labels=names_of(labels),
            channels=names_of(channels),
            threshold=threshold,
        )
        made = make_bundle(wish, store)
    if as_json:
        return print_json(made)
    out.print(pairs_table(f"Bundle {output}", made))
    return out.print(
        f"Next  unet-pipeline segment IMAGES --model {output} --output LABELS",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def convert(
    bundle: Source, output: Target, endpoint_url: Endpoint = None, profile: Profile = None
) -> None:
    """Write a bundle anew with its weights as safetensors, which cannot carry code."""
    from unet_pipeline.console import out
    from unet_pipeline.networks.bundle_tools import convert_bundle
    from unet_pipeline.networks.loading import load_bundle

    with request_errors():
        store = _store(endpoint_url, profile)
        convert_bundle(load_bundle(bundle, store), store, output)
    out.print(f"Bundle  {output}", highlight=False)


@app.command()
def prune(
    bundle: Source,
    output: Target,
    depth: Annotated[int, typer.Option(min=1, help="Depth to keep; 1 is the shallowest.")],
    accurate: Annotated[
        bool,
        typer.Option(
            "--accurate", help="Keep the shallower heads, too, for --depth mean; else only one."
        ),
    ] = False,
    endpoint_url: Endpoint = None,
    profile: Profile = None,
) -> None:
    """Write a bundle of only the part that one depth of a nested U-Net needs.

    Its scores are those of that head, bit for bit; its file is smaller and it runs faster.
    """
    from unet_pipeline.console import out
    from unet_pipeline.networks.bundle_tools import prune_bundle
    from unet_pipeline.networks.loading import load_bundle

    with request_errors():
        store = _store(endpoint_url, profile)
        loaded = load_bundle(bundle, store)
        before, after = prune_bundle(
            loaded, store, output, depth, "accurate" if accurate else "fast"
        )
    share = f"{after:,} of {before:,} parameters ({after / before:.0%})"
    out.print(f"Bundle  {output}: {share}", highlight=False)


@app.command()
@grouped
def calibrate(
    bundle: Source,
    images: Images,
    masks: Annotated[
        str | None,
        typer.Argument(help="Reference masks, found by name. Default: those a manifest names."),
    ] = None,
    mask_pattern: MaskPattern = None,
    loss: Annotated[
        float, typer.Option(min=0.0, help="Dice that adaptive depth may cost on average.")
    ] = 0.002,
    *,
    gate: GateOptions,
    limits: LimitOptions,
    storage: StorageOptions,
    as_json: Json = False,
) -> None:
    """Calibrate adaptive depth on cases that the network was not trained on.

    Of a manifest with a column split, these are the validation cases. Writes the rule, with the
    curve it was chosen from, into the bundle.
    """
    from unet_pipeline import console
    from unet_pipeline.model import policy_of
    from unet_pipeline.networks.loading import load_bundle
    from unet_pipeline.request import open_store
    from unet_pipeline.training.calibrate import calibrate_bundle

    with request_errors():
        store = open_store(settings_of(StorageSettings, **storage.settings()))
        loaded = load_bundle(bundle, store)
        within = settings_of(Limits, **limits.settings())
        policy = policy_of(settings_of(GateSettings, **gate.settings()), within, loaded)
        with console.waiting("Scoring the cohort at every depth"):
            rule = calibrate_bundle(loaded, store, images, masks, loss, policy, mask_pattern)
    if as_json:
        return print_json({"limit": rule.limit, "curve": list(rule.curve)})
    return console.print_rule(rule)


def _store(endpoint_url: str | None, profile: str | None) -> "Store":
    from unet_pipeline.request import open_store

    return open_store(settings_of(StorageSettings, endpoint_url=endpoint_url, profile=profile))
