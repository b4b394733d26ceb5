"""The request for a training."""

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from unet_pipeline.choices import (
    AugmentationName,
    LossName,
    NetworkName,
    OptimiserName,
    Precision,
    Schedule,
    Upsample,
)
from unet_pipeline.config.fields import (
    OF_CHANCE,
    OF_NETWORK,
    Axes,
    Images,
    MaskPattern,
    MasksArgument,
    NotNegative,
    Place,
    Positive,
    Settings,
    Threads,
    Voxels,
)
from unet_pipeline.config.options import Option
from unet_pipeline.config.parts import Remedies, RemedySettings, Storage, StorageSettings

_LEARNING, _DATA = Option(panel="How it learns"), Option(panel="Data")
_LIMITS = Option(panel="Limits")
_WATCH = Option(panel="While it runs")


class LossSettings(Settings):
    """What the network is trained to make small."""

    model_config = ConfigDict(title="Loss")

    name: Annotated[LossName, Option("loss")] = Field(
        "dice_ce",
        description="dice_ce: Dice + cross-entropy. weighted: the same with a weight for each "
        "class, for small structures. focal: Dice + focal loss, which looks at what is hard. "
        "tversky: false positives and false negatives weigh differently.",
    )
    class_weights: Annotated[tuple[Positive, ...] | None, Option(metavar="W,W,...")] = Field(
        None,
        description="Weight of each class, background first, for weighted and focal. Default: for "
        "weighted the median frequency over the class's own, for focal none.",
    )
    head_weights: Annotated[tuple[NotNegative, ...] | None, Option(metavar="W,W,...")] = Field(
        None,
        description="Weight of each head of a nested network, shallow to deep. Default: each "
        "twice the one before.",
    )
    tversky: tuple[NotNegative, NotNegative] = Field(
        (0.3, 0.7), description="Weights of false positives and of false negatives, for tversky."
    )

    @model_validator(mode="after")
    def _some_weight(self) -> "LossSettings":
        for weights in (self.class_weights, self.head_weights, self.tversky):
            if weights is not None and not sum(weights):
                raise ValueError("takes weights of which at least one is not 0")
        return self


class OptimiserSettings(Settings):
    """How the weights are changed."""

    model_config = ConfigDict(title="Optimiser")

    name: Annotated[OptimiserName, Option("optimiser")] = Field(
        "adamw", description="adamw, or sgd with Nesterov momentum of 0.99."
    )
    learning_rate: float | None = Field(
        None, gt=0, description="Peak learning rate. Default: 0.001 for adamw, 0.01 for sgd."
    )
    weight_decay: float | None = Field(
        None, ge=0, description="Default: 0.01 for adamw, 0.00003 for sgd."
    )
    schedule: Schedule = Field(
        "cosine", description="How the learning rate falls after a warm-up of a twentieth."
    )
    precision: Precision = Field(
        "auto",
        description="Numbers of the forward pass. auto: mixed precision on CUDA, float32 on CPU.",
    )


class ValidationSettings(Settings):
    """When the network is tried on the cases kept aside."""

    model_config = ConfigDict(title="Validation")

    every: Annotated[int | None, Option("validate-every")] = Field(
        None, ge=1, description="Steps between validations. Default: a tenth of all."
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Stop after so many validations without a better Dice. Default: never.",
    )


class CardSettings(Settings):
    """What the model card says that only you can know."""

    model_config = ConfigDict(title="Model card")

    title: str = Field(
        "A network trained with unet-pipeline", description="First line of the model card."
    )
    data: str = Field("Not stated.", description="Where the images and masks come from.")
    licence: str = Field(
        "Not stated. Ask whoever trained this network.",
        description="Terms of the weights, and of the data that they were made from.",
    )
    label_names: tuple[str, ...] = Field(
        (), description="Names of the labels 1, 2 and so on. Default: label 1, label 2."
    )


class TrainSettings(Settings):
    """Train a network on image and mask pairs, and write it as a bundle."""

    images: Annotated[
        Images,
        Field(
            description="Images, as for segment. A manifest's column "
            "split (train, validation, test) or fold says which cases are kept aside."
        ),
    ]
    masks: MasksArgument = None
    mask_pattern: MaskPattern = None
    output: Place = Field(
        description="Folder of the bundle to write. A training that was stopped goes on from the "
        "checkpoint in it."
    )
    network: NetworkName = Field(
        "unetpp",
        description="Network to train: unet or plain, or the nested unetpp, unetplus, unete with a "
        "head at every depth, or asymmetric (half an encoder) or half_decoder.",
    )
    features: Annotated[tuple[Voxels, ...] | None, OF_NETWORK] = Field(
        None, description="Channels of each level, shallow to deep. Default: 16,16,32,64,128."
    )
    upsample: Annotated[Upsample, OF_NETWORK] = Field(
        "deconv", description="Upsampling: learned, or linear. Not for unet."
    )
    attention: Annotated[bool, OF_NETWORK] = Field(
        False, description="Attention gates on the skips. Not for unet."
    )
    classes: Annotated[int | None, _DATA] = Field(
        None,
        ge=2,
        le=256,
        description="Output channels, background included. Default: as many as there are labels.",
    )
    roi_size: tuple[Voxels, Voxels, Voxels] = Field(
        (32, 48, 32), description="Window in voxels; each size divisible by the network's stride."
    )
    spacing: Annotated[tuple[Positive, Positive, Positive] | None, _DATA] = Field(
        None, description="Model spacing in mm. Default: the median of the cohort."
    )
    steps: int = Field(
        300, ge=1, description="Steps of the optimiser; a checkpoint is written now and then."
    )
    batch: int = Field(2, ge=1, description="Crops of a window's size that each step takes.")
    loss: Annotated[LossSettings, _LEARNING] = Field(
        LossSettings(), description="Loss, and weights of its parts."
    )
    optimiser: Annotated[OptimiserSettings, _LEARNING] = Field(
        OptimiserSettings(), description="Optimiser, schedule and precision."
    )
    augmentation: Annotated[AugmentationName, _LEARNING] = Field(
        "light",
        description="Changes to each crop. light: small rotations and zooms, brightness, contrast, "
        "noise. usual: larger ones, and gamma, blur and coarse voxels.",
    )
    flip: Annotated[Axes | None, _LEARNING] = Field(
        None,
        description="Axes that crops may be flipped along, where the anatomy allows it: x is "
        "left-right. Default: none.",
    )
    holdout: Annotated[float, _DATA] = Field(
        0.2,
        ge=0.0,
        lt=1.0,
        description="Share of cases kept aside for validation, chosen by the seed.",
    )
    fold: Annotated[str | None, Option(metavar="NAME", panel=_DATA.panel)] = Field(
        None,
        description="Fold to keep aside, of a manifest with a column fold. Default: by holdout.",
    )
    validation: Annotated[ValidationSettings, _WATCH] = Field(
        ValidationSettings(), description="When to validate, and when to stop early."
    )
    checkpoint_every: Annotated[int, _WATCH] = Field(
        100, ge=1, description="Steps between checkpoints."
    )
    resume: Annotated[bool, _WATCH] = Field(
        True, description="Go on from a checkpoint; off: begin anew."
    )
    seed: Annotated[int, OF_CHANCE] = Field(
        0, ge=0, description="Seed of the split, the crops and the weights."
    )
    threads: Annotated[Threads, OF_CHANCE] = None
    memory_gb: Annotated[float, _DATA] = Field(
        8.0,
        ge=0,
        title="Memory (GB)",
        description="Memory for decoded volumes; what is over it is kept in temporary files.",
    )
    max_volume_gb: Annotated[float, _LIMITS] = Field(
        8.0,
        gt=0,
        title="Largest volume (GB)",
        description="Size over which a volume is left out by its header, in GB: decoded, and again "
        "as the network sees it. One is in memory as a whole.",
    )
    max_windows: Annotated[int | None, _LIMITS] = Field(
        None,
        ge=1,
        title="Most windows",
        description="Windows of the network over which a case is left out by its header. Default: "
        "1,000, and one for every ten voxels of the file.",
    )
    gate: Remedies = RemedySettings()
    card: CardSettings = Field(CardSettings(), description="What the model card says.")
    storage: Storage = StorageSettings()

    @model_validator(mode="after")
    def _enough_levels(self) -> "TrainSettings":
        if self.features is not None and len(self.features) < 2:
            raise ValueError("features needs at least two levels")
        return self
