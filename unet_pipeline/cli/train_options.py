"""The options of ``train``, in groups."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unet_pipeline.cli.common import names_of, numbers, three
from unet_pipeline.cli.grouped import Options
from unet_pipeline.cli.options import MaxVolumeGb, MaxWindows

if TYPE_CHECKING:  # it imports torch, which takes seconds
    from unet_pipeline.training.card import TrainingNote

_LEARNING, _DATA, _WATCH, _CARD = "How it learns", "Data", "While it runs", "Model card"


@dataclass(frozen=True)
class NetworkOptions(Options):
    """What is trained, and on how large a window."""

    network: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Network to train: unet, plain, unetpp, unetplus, unete, asymmetric or "
            "half_decoder (see the command networks).",
        ),
    ] = "unetpp"
    features: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Channels of each level. Default: 16,16,32,64,128."),
    ] = None
    upsample: Annotated[
        str, typer.Option(metavar="deconv|linear", help="Upsampling: learned, or linear.")
    ] = "deconv"
    attention: Annotated[
        bool, typer.Option("--attention", help="Attention gates on the skips.")
    ] = False
    roi_size: Annotated[
        str, typer.Option(metavar="X,Y,Z", help="Window in voxels of the model spacing.")
    ] = "32,48,32"

    def settings(self) -> dict[str, Any]:
        """Return the values, lists taken apart."""
        features = numbers(self.features, int, "--features")
        return {**asdict(self), "features": features, "roi_size": three(self.roi_size)}


@dataclass(frozen=True)
class LossOptions(Options):
    """What is made small, and the weights of its parts."""

    loss: Annotated[
        str,
        typer.Option(
            metavar="dice_ce|weighted|focal|tversky",
            help="Dice + cross-entropy; the same with a weight for each class (for small "
            "structures); Dice + focal loss; Tversky loss.",
            rich_help_panel=_LEARNING,
        ),
    ] = "dice_ce"
    class_weights: Annotated[
        str | None,
        typer.Option(
            metavar="W,W,...",
            help="For weighted and focal, background first. Default for weighted: measured.",
            rich_help_panel=_LEARNING,
        ),
    ] = None
    head_weights: Annotated[
        str | None,
        typer.Option(
            metavar="W,W,...",
            help="Of a nested network's heads, shallow to deep. Default: each twice the one "
            "before.",
            rich_help_panel=_LEARNING,
        ),
    ] = None
    tversky: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="Weights of false positives and of false negatives.",
            rich_help_panel=_LEARNING,
        ),
    ] = "0.3,0.7"

    def settings(self) -> dict[str, Any]:
        """Return the values, weights as numbers."""
        return {
            "name": self.loss,
            "class_weights": numbers(self.class_weights, float, "--class-weights"),
            "head_weights": numbers(self.head_weights, float, "--head-weights"),
            "tversky": numbers(self.tversky, float, "--tversky"),
        }


@dataclass(frozen=True)
class OptimiserOptions(Options):
    """What takes the steps, and how large they are."""

    optimiser: Annotated[
        str,
        typer.Option(
            metavar="adamw|sgd",
            help="sgd has Nesterov momentum of 0.99.",
            rich_help_panel=_LEARNING,
        ),
    ] = "adamw"
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Peak rate. Default: 0.001 for adamw, 0.01 for sgd.", rich_help_panel=_LEARNING
        ),
    ] = None
    weight_decay: Annotated[
        float | None,
        typer.Option(help="Default: 0.01 for adamw, 0.00003 for sgd.", rich_help_panel=_LEARNING),
    ] = None
    schedule: Annotated[
        str,
        typer.Option(
            metavar="cosine|poly|constant",
            help="How the rate falls after a short warm-up.",
            rich_help_panel=_LEARNING,
        ),
    ] = "cosine"
    precision: Annotated[
        str,
        typer.Option(
            metavar="auto|float32|bfloat16|float16",
            help="auto: mixed precision on CUDA, float32 on a CPU.",
            rich_help_panel=_LEARNING,
        ),
    ] = "auto"

    def settings(self) -> dict[str, Any]:
        """Return the values; the option --optimiser is the optimiser's name."""
        values = asdict(self)
        return {"name": values.pop("optimiser"), **values}


@dataclass(frozen=True)
class AugmentOptions(Options):
    """What is done to each crop."""

    augmentation: Annotated[
        str,
        typer.Option(
            metavar="none|light|usual",
            help="light: small rotations and zooms, brightness, contrast, noise. usual: larger "
            "ones, and gamma, blur, coarse voxels.",
            rich_help_panel=_LEARNING,
        ),
    ] = "light"
    flip: Annotated[
        str | None,
        typer.Option(
            metavar="x,y,z",
            help="Axes that crops may be flipped along, where the anatomy allows it: x is "
            "left-right. Default: none.",
            rich_help_panel=_LEARNING,
        ),
    ] = None


@dataclass(frozen=True)
class DataOptions(Options):
    """How cases are read, and which are kept aside."""

    spacing: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,Z",
            help="Model spacing in mm. Default: the cohort's median.",
            rich_help_panel=_DATA,
        ),
    ] = None
    classes: Annotated[
        int | None,
        typer.Option(
            help="Output channels, background included. Default: as many as there are labels.",
            rich_help_panel=_DATA,
        ),
    ] = None
    holdout: Annotated[
        float,
        typer.Option(help="Share of cases kept aside, chosen by the seed.", rich_help_panel=_DATA),
    ] = 0.2
    fold: Annotated[
        str | None,
        typer.Option(
            help="Fold to keep aside, of a manifest with a column fold. A column split (train, "
            "validation, test) needs no option.",
            rich_help_panel=_DATA,
        ),
    ] = None
    memory_gb: Annotated[
        float,
        typer.Option(
            help="Memory for decoded volumes, in GB; what is over it is kept in temporary files.",
            rich_help_panel=_DATA,
        ),
    ] = 8.0
    max_volume_gb: MaxVolumeGb = 8.0
    max_windows: MaxWindows = None

    def settings(self) -> dict[str, Any]:
        """Return the values, the spacing as numbers in mm."""
        return {**asdict(self), "spacing": numbers(self.spacing, float, "--spacing")}


@dataclass(frozen=True)
class WatchOptions(Options):
    """When it validates, stops, and leaves a checkpoint."""

    validate_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between validations. Default: a tenth of all.", rich_help_panel=_WATCH
        ),
    ] = None
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many validations without a better Dice. Default: never.",
            rich_help_panel=_WATCH,
        ),
    ] = None
    checkpoint_every: Annotated[
        int, typer.Option(help="Steps between checkpoints.", rich_help_panel=_WATCH)
    ] = 100
    resume: Annotated[
        bool,
        typer.Option(
            help="Go on from the checkpoint of a training that was stopped.",
            rich_help_panel=_WATCH,
        ),
    ] = True

    def settings(self) -> dict[str, Any]:
        """Return the values; those of the validation are a part of their own."""
        return {
            "validation": {"every": self.validate_every, "patience": self.patience},
            "checkpoint_every": self.checkpoint_every,
            "resume": self.resume,
        }


@dataclass(frozen=True)
class CardOptions(Options):
    """What the model card says that the training cannot know."""

    title: Annotated[
        str | None, typer.Option(help="First line of the card.", rich_help_panel=_CARD)
    ] = None
    data: Annotated[
        str | None, typer.Option(help="Where the data come from.", rich_help_panel=_CARD)
    ] = None
    licence: Annotated[
        str | None, typer.Option(help="Terms of the weights.", rich_help_panel=_CARD)
    ] = None
    label_names: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Names of labels 1, 2, ...", rich_help_panel=_CARD),
    ] = None

    def note(self) -> "TrainingNote":
        """Return what is given as a note; the rest has the defaults of the card."""
        from unet_pipeline.training.card import TrainingNote

        given = {"title": self.title, "data": self.data, "licence": self.licence}
        said = {name: text for name, text in given.items() if text}
        return TrainingNote(**said, label_names=names_of(self.label_names))
