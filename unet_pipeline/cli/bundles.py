"""The commands on bundles: inspect, verify, convert, prune, calibrate."""

from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.cli.common import print_json, request_errors, settings_of
from unet_pipeline.cli.options import Endpoint, Images, Json, Profile, Trust
from unet_pipeline.config import StorageSettings

if TYPE_CHECKING:
    from unet_pipeline.storage.store import Store

app = typer.Typer(
    help="Look into model bundles, check them, convert and prune them.", no_args_is_help=True
)

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
    """Show what a bundle says of itself: network, depths, labels, window, preprocessing, size."""
    from unet_pipeline.console import out, pairs_table
    from unet_pipeline.networks.bundle_tools import describe
    from unet_pipeline.networks.loading import load_bundle, load_network

    with request_errors():
        store = _store(endpoint_url, profile)
        loaded = load_bundle(bundle, store, trust=trust)
        found = describe(loaded, load_network(loaded, store))
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
    """Check a bundle: weights that fit the network, and the stored example, run again.

    Exit status 2 if it does not hold what it says.
    """
    from unet_pipeline.console import out, pairs_table
    from unet_pipeline.networks.bundle_tools import verify_bundle
    from unet_pipeline.networks.loading import load_bundle

    with request_errors():
        store = _store(endpoint_url, profile)
        found = verify_bundle(load_bundle(bundle, store, trust=trust), store)
    if as_json:
        return print_json(found)
    return out.print(pairs_table("Verified", found))


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
def calibrate(
    bundle: Source,
    images: Images,
    masks: Annotated[
        str | None,
        typer.Argument(help="Reference masks, found by name. Default: those a manifest names."),
    ] = None,
    loss: Annotated[
        float, typer.Option(min=0.0, help="Dice that adaptive depth may cost on average.")
    ] = 0.002,
    endpoint_url: Endpoint = None,
    profile: Profile = None,
    as_json: Json = False,
) -> None:
    """Calibrate adaptive depth on cases that the network was not trained on.

    Of a manifest with a column split, these are the validation cases. Writes the rule, with the
    curve it was chosen from, into the bundle.
    """
    from unet_pipeline import console
    from unet_pipeline.networks.loading import load_bundle
    from unet_pipeline.training.calibrate import calibrate_bundle

    with request_errors():
        store = _store(endpoint_url, profile)
        loaded = load_bundle(bundle, store)
        with console.waiting("Scoring the cohort at every depth"):
            rule = calibrate_bundle(loaded, store, images, masks, loss)
    if as_json:
        return print_json({"limit": rule.limit, "curve": list(rule.curve)})
    return console.print_rule(rule)


def _store(endpoint_url: str | None, profile: str | None) -> "Store":
    from unet_pipeline.request import open_store

    return open_store(settings_of(StorageSettings, endpoint_url=endpoint_url, profile=profile))
