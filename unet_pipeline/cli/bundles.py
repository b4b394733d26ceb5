"""The commands on bundles: inspect, verify, make, convert, prune, calibrate, confidence."""

from dataclasses import asdict

import typer

from unet_pipeline.cli.commands import SAID
from unet_pipeline.cli.common import print_json
from unet_pipeline.cli.generated import from_settings
from unet_pipeline.cli.options import Json
from unet_pipeline.config import (
    CalibrateSettings,
    ConfidenceSettings,
    ConvertSettings,
    InspectSettings,
    MakeSettings,
    PruneSettings,
)

app = typer.Typer(
    help=SAID["bundle"][1],
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@app.command()
@from_settings
def inspect(settings: InspectSettings, as_json: Json = False) -> None:
    """Show what a bundle says of itself: network, depths, labels, window, preprocessing, size.

    Exit status 2, with the reason, for a bundle that `segment` would refuse.
    """
    from unet_pipeline.console import out, pairs_table
    from unet_pipeline.networks.bundle_tools import describe
    from unet_pipeline.opening import open_bundle
    from unet_pipeline.request import open_store

    store = open_store(settings.storage)
    loaded, network = open_bundle(settings.bundle, store, trust=settings.trust)
    found = describe(loaded, network)
    if as_json:
        return print_json(found)
    return out.print(pairs_table(f"Bundle {loaded.name}", found))


@app.command()
@from_settings
def verify(settings: InspectSettings, as_json: Json = False) -> None:
    """Check a bundle as `segment` does before it runs, and run the stored example again.

    Exit status 2 if it does not hold what it says, or if `segment` would refuse it.
    """
    from unet_pipeline.console import out, pairs_table
    from unet_pipeline.networks.bundle_tools import verify_bundle
    from unet_pipeline.opening import open_bundle
    from unet_pipeline.request import open_store

    store = open_store(settings.storage)
    found = verify_bundle(*open_bundle(settings.bundle, store, trust=settings.trust), store)
    if as_json:
        return print_json(found)
    return out.print(pairs_table("Verified", found))


@app.command()
@from_settings
def make(settings: MakeSettings, as_json: Json = False) -> None:
    """Make a bundle of trained weights, and check it by one window.

    What the weights say is not asked for: channels and classes, and for UNet, BasicUNet, SegResNet
    and SwinUNETR the features. The page docs/your-model.md goes through it step by step.

    Example: `unet-pipeline bundle make best_metric_model.pth --network 'UNet(strides=(2, 2, 2, 2))'
    --spacing 1.5,1.5,2.0 --intensity range:-57,164 --window 160,160,160 --labels spleen
    --output spleen`
    """
    from unet_pipeline.bundle_making import BundleRequest, make_bundle
    from unet_pipeline.console import out, pairs_table
    from unet_pipeline.request import open_store

    request = BundleRequest(**settings.model_dump(exclude={"storage"}))
    made = make_bundle(request, open_store(settings.storage))
    if as_json:
        return print_json(made)
    out.print(pairs_table(f"Bundle {request.output}", made))
    return out.print(
        f"Next  unet-pipeline segment IMAGES --model {request.output} --output LABELS",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
@from_settings
def convert(settings: ConvertSettings) -> None:
    """Write a bundle anew with its weights as safetensors, which cannot carry code."""
    from unet_pipeline.console import out
    from unet_pipeline.networks.bundle_tools import convert_bundle
    from unet_pipeline.networks.loading import load_bundle
    from unet_pipeline.request import open_store

    store = open_store(settings.storage)
    convert_bundle(load_bundle(settings.bundle, store), store, settings.output)
    out.print(f"Bundle  {settings.output}", highlight=False)


@app.command()
@from_settings
def prune(settings: PruneSettings) -> None:
    """Write a bundle of only the part that one depth of a nested U-Net needs.

    Its scores are those of that head, bit for bit; its file is smaller and it runs faster.
    """
    from unet_pipeline.console import out
    from unet_pipeline.networks.bundle_tools import prune_bundle
    from unet_pipeline.networks.loading import load_bundle
    from unet_pipeline.request import open_store

    store, output = open_store(settings.storage), settings.output
    loaded = load_bundle(settings.bundle, store)
    before, after = prune_bundle(
        loaded, store, output, settings.depth, "accurate" if settings.accurate else "fast"
    )
    share = f"{after:,} of {before:,} parameters ({after / before:.0%})"
    out.print(f"Bundle  {output}: {share}", highlight=False)


@app.command()
@from_settings
def calibrate(settings: CalibrateSettings, as_json: Json = False) -> None:
    """Calibrate adaptive depth on cases that the network was not trained on.

    Of a manifest with a column split, these are the validation cases. Writes the rule, with the
    curve it was chosen from, into the bundle.
    """
    from unet_pipeline import console
    from unet_pipeline.networks.loading import load_bundle
    from unet_pipeline.opening import policy_for
    from unet_pipeline.request import open_store
    from unet_pipeline.training.calibrate import calibrate_bundle

    store, images, masks = open_store(settings.storage), settings.images, settings.masks
    loaded = load_bundle(settings.bundle, store)
    policy = policy_for(settings.gate, settings.limits, loaded)
    with console.waiting("Scoring the cohort at every depth"):
        rule = calibrate_bundle(
            loaded, store, images, masks, settings.loss, policy, settings.mask_pattern
        )
    if as_json:
        return print_json({"limit": rule.limit, "curve": list(rule.curve)})
    return console.print_rule(rule)


@app.command()
@from_settings
def confidence(settings: ConfidenceSettings, as_json: Json = False) -> None:
    """Learn what Dice to expect of how sure a network is, from label maps that were scored.

    Writes the curve of each label into the bundle. From then on `segment` predicts the Dice of
    each label without a mask, with an interval of 90 %.

    Example: `unet-pipeline segment scans/val --masks labels/val --model liver --output val`, then
    `unet-pipeline bundle confidence liver val`
    """
    from unet_pipeline.console import out, pairs_table
    from unet_pipeline.networks.loading import load_bundle
    from unet_pipeline.request import open_store
    from unet_pipeline.training.dice_calibration import calibrate_dice, described

    store = open_store(settings.storage)
    loaded = load_bundle(settings.bundle, store)
    found = calibrate_dice(loaded, store, settings.labels)
    if as_json:
        return print_json(asdict(found))
    return out.print(pairs_table(f"Predicted Dice of {loaded.name}", described(found, loaded)))
