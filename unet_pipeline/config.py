"""Settings of a request: the one place where outside values are checked (pydantic).

The command line and the Prefect run form fill the same objects, so a description written here is
the help text in both. Inside the package nothing knows these classes; it is given plain values.
"""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

Voxels = Annotated[int, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
NotNegativeInt = Annotated[int, Field(ge=0)]
Remedy = Literal["reorient", "resample-mask", "resample-channels", "sform", "qform"]
NetworkName = Literal["unet", "plain", "unetpp", "unetplus", "unete", "asymmetric", "half_decoder"]
Place = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
ClusterKind = Annotated[str, Field(pattern=r"^(serial|local|cuda|(tcp|tls)://.+:\d+)$")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StorageSettings(_Settings):
    """How to reach object storage. Secrets come from AWS variables or a profile only."""

    model_config = ConfigDict(title="Storage")

    endpoint_url: str | None = Field(
        None,
        title="Endpoint URL",
        description="S3 endpoint, e.g. https://minio.example.org. Default: AWS_ENDPOINT_URL.",
    )
    profile: str | None = Field(None, description="Profile of the AWS credentials file.")
    region: str | None = Field(None, description="S3 region. Default: AWS_DEFAULT_REGION.")


class WindowSettings(_Settings):
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


class ClusterSettings(_Settings):
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


class Budget(_Settings):
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


class GateSettings(_Settings):
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


class CheckSettings(_Settings):
    """Every image is checked, and every mask is held against its image."""

    images: str = Field(description="Images, as for segment.")
    masks: str | None = Field(None, description="Masks, found by name.")
    output: str | None = Field(
        None, description="Prefix of the report, the table and the pictures. Default: none."
    )
    model: str | None = Field(
        None, description="Bundle whose channels and labels the cases must fit. Default: any."
    )
    gate: GateSettings = Field(
        GateSettings(content=True), description="Tolerance, remedies and the look at the voxels."
    )
    fix: str | None = Field(
        None, description="Prefix that cases are written to with the remedies applied."
    )
    cluster: ClusterSettings = Field(
        ClusterSettings(kind="serial"), description="Where voxels are looked at."
    )
    storage: StorageSettings = Field(StorageSettings(), description="Object storage.")


class SegmentSettings(_Settings):
    """Every volume under Images becomes a label map under Output."""

    images: str = Field(
        description="A prefix or folder, a glob, a BIDS tree, or a manifest (.csv, .jsonl "
        "with columns case,image,mask). Any fsspec URL: s3://bucket/prefix, /folder, memory://."
    )
    model: str = Field(
        description="Bundle of MONAI or trained model of nnU-Net: a folder or URL; or the name of "
        "a bundle that comes with the package (phantom, hippocampus)."
    )
    output: str = Field(description="Prefix that label maps, sidecars and reports are written to.")
    masks: str | None = Field(
        None, description="Reference masks, found by name; Dice is reported where there is one."
    )
    depth: str | None = Field(
        None,
        pattern=r"^([1-9]\d*|mean|adaptive)$",
        description="Depth of a nested U-Net (UNet++) with deep supervision: 1 is the shallowest "
        "and fastest, mean averages the heads, adaptive goes as deep as each window needs. "
        "Default: the deepest.",
    )
    trust: bool = Field(
        False,
        description="Run what a bundle brings of its own: a network that is a program "
        "(TorchScript, torch.export), expressions and Python code. It could do anything: only for "
        "bundles whose source you know.",
    )
    windows: WindowSettings = Field(WindowSettings(), description="Windows and tiles.")
    cluster: ClusterSettings = Field(ClusterSettings(), description="Where the work runs.")
    storage: StorageSettings = Field(
        StorageSettings(),
        description="Object storage. Keys come from AWS variables or a profile only.",
    )
    budget: Budget = Field(Budget(), description="Limits of one case.")
    gate: GateSettings = Field(GateSettings(), description="Which cases are refused.")
    resume: bool = Field(
        True, description="Skip cases whose input, weights and settings have not changed."
    )

    @field_validator("images", "model", "output")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be empty")
        return value.strip()


class ScoringSettings(_Settings):
    """How label maps are scored against their masks, and how surely it is said."""

    model_config = ConfigDict(title="Scoring")

    surface_mm: float = Field(
        1.0,
        gt=0,
        title="Surface tolerance (mm)",
        description="Distance up to which two surfaces count as the same (normalised surface "
        "Dice), in mm.",
    )
    confidence: float = Field(
        0.95,
        ge=0.5,
        lt=1.0,
        description="Of the intervals (both sides) and of the bound that a choice is held "
        "against (one side).",
    )
    resamples: int = Field(
        2000, ge=200, le=100_000, description="Cohorts drawn anew from the cases (bootstrap)."
    )
    seed: int = Field(0, ge=0, description="Seed of the draws.")


class DepthsSettings(_Settings):
    """Every depth of a nested U-Net is scored on a validation cohort, and one is chosen."""

    images: Place = Field(description="Images, as for segment, that the model was not trained on.")
    masks: str | None = Field(
        None, description="Reference masks, found by name; or named by a manifest."
    )
    model: Place = Field(description="Bundle of a nested U-Net with a head at every depth.")
    output: Place = Field(
        description="Prefix that label maps, the report and the pruned bundle are written to."
    )
    tolerance: float = Field(
        0.005, ge=0.0, lt=1.0, description="Mean Dice that may be lost against the best depth."
    )
    adaptive_loss: float | None = Field(
        0.002,
        ge=0.0,
        lt=1.0,
        title="Loss of adaptive depth",
        description="Mean Dice that adaptive depth may cost; its rule is calibrated to it. None "
        "leaves adaptive depth out.",
    )
    scoring: ScoringSettings = Field(ScoringSettings(), description="Tolerance and confidence.")
    windows: WindowSettings = Field(WindowSettings(), description="Windows and tiles.")
    cluster: ClusterSettings = Field(
        ClusterSettings(), description="Where label maps are made and scored."
    )
    storage: StorageSettings = Field(StorageSettings(), description="Object storage.")
    budget: Budget = Field(Budget(), description="Limits of one case.")
    gate: GateSettings = Field(GateSettings(), description="Which cases are refused.")


class CompareSettings(_Settings):
    """Bundles are scored on one cohort, on the grid of its files, and tested in pairs."""

    images: Place = Field(description="Images, as for segment, that no model was trained on.")
    masks: str | None = Field(
        None, description="Reference masks, found by name; or named by a manifest."
    )
    models: tuple[Place, ...] = Field(
        description="Two bundles or more; the first is what the others are held against. "
        "NAME=BUNDLE gives a name, and bundles of one name are averaged: one network, several "
        "seeds.",
    )
    output: Place = Field(description="Prefix that label maps and the report are written to.")
    pairs: Literal["first", "all"] = Field(
        "first", description="Which pairs to test: each bundle with the first, or all pairs."
    )
    trust: bool = Field(
        False, description="Run networks that are programs. Only for bundles whose source you know."
    )
    scoring: ScoringSettings = Field(ScoringSettings(), description="Tolerance and confidence.")
    windows: WindowSettings = Field(WindowSettings(), description="Windows and tiles.")
    cluster: ClusterSettings = Field(
        ClusterSettings(), description="Where label maps are made and scored."
    )
    storage: StorageSettings = Field(StorageSettings(), description="Object storage.")
    budget: Budget = Field(Budget(), description="Limits of one case.")
    gate: GateSettings = Field(GateSettings(), description="Which cases are refused.")


class LayersSettings(_Settings):
    """The layers of a network are probed and replaced, one by one, on a cohort with masks."""

    images: Place = Field(
        description="Images, as for segment, that the model was not trained on. Some cases are "
        "fitted on, others scored; the seed says which."
    )
    masks: str | None = Field(
        None, description="Reference masks, found by name; or named by a manifest."
    )
    model: Place = Field(description="Bundle: a folder, a URL, or a name: phantom, hippocampus.")
    output: Place = Field(description="Prefix that the report, the table and the pictures go to.")
    layers: tuple[str, ...] = Field(
        (),
        description="Layers to look into: names of modules, or patterns such as upcat_0_*. "
        "Default: the blocks of the network.",
    )
    depth: int | None = Field(
        None, ge=1, description="Depth of a nested U-Net to look into. Default: all of it."
    )
    trust: bool = Field(
        False, description="Run Python code of the bundle. Only for bundles whose source you know."
    )
    fit_cases: int = Field(4, ge=1, description="Cases that means and probes are fitted on.")
    score_cases: int = Field(6, ge=1, description="Other cases, that everything is scored on.")
    windows: int = Field(
        4,
        ge=1,
        le=512,
        description="Windows of a case at most: of a larger one the block with most foreground is "
        "looked at.",
    )
    groups: int = Field(
        4,
        ge=0,
        le=64,
        description="Channel groups of each layer that are also replaced one by one. 0: none.",
    )
    voxels: int = Field(
        12_000,
        ge=100,
        le=1_000_000,
        description="Voxels that the probes are fitted on, equally many of each label.",
    )
    view: Literal["axial", "coronal", "sagittal"] = Field(
        "axial", description="Plane of the feature-map pictures."
    )
    slices: tuple[NotNegativeInt, ...] = Field(
        (),
        description="Slices of the feature-map pictures, as voxels of the model grid of the first "
        "scored case. Default: the one with most foreground.",
    )
    seed: int = Field(0, ge=0, description="Seed of the split and of the drawn voxels.")
    threads: int | None = Field(None, ge=1, description="CPU threads. Default: all cores.")
    memory_gb: float = Field(
        2.0, gt=0, title="Memory (GB)", description="Memory for one decoded volume, in GB."
    )
    gate: GateSettings = Field(GateSettings(), description="Which cases are refused.")
    storage: StorageSettings = Field(StorageSettings(), description="Object storage.")


class LossSettings(_Settings):
    """What the network is trained to make small."""

    model_config = ConfigDict(title="Loss")

    name: Literal["dice_ce", "weighted", "focal", "tversky"] = Field(
        "dice_ce",
        description="dice_ce: Dice + cross-entropy. weighted: the same with a weight for each "
        "class, for small structures. focal: Dice + focal loss, which looks at what is hard. "
        "tversky: false positives and false negatives weigh differently.",
    )
    class_weights: tuple[NotNegative, ...] | None = Field(
        None,
        description="Weight of each class, background first, for weighted and focal. Default: for "
        "weighted the median frequency over the class's own, for focal none.",
    )
    head_weights: tuple[NotNegative, ...] | None = Field(
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


class OptimiserSettings(_Settings):
    """How the weights are changed."""

    model_config = ConfigDict(title="Optimiser")

    name: Literal["adamw", "sgd"] = Field(
        "adamw", description="adamw, or sgd with Nesterov momentum of 0.99."
    )
    learning_rate: float | None = Field(
        None, gt=0, description="Peak learning rate. Default: 0.001 for adamw, 0.01 for sgd."
    )
    weight_decay: float | None = Field(
        None, ge=0, description="Default: 0.01 for adamw, 0.00003 for sgd."
    )
    schedule: Literal["cosine", "poly", "constant"] = Field(
        "cosine", description="How the learning rate falls after a warm-up of a twentieth."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Numbers of the forward pass. auto: mixed precision on CUDA, float32 on CPU.",
    )


class ValidationSettings(_Settings):
    """When the network is tried on the cases kept aside."""

    model_config = ConfigDict(title="Validation")

    every: int | None = Field(
        None, ge=1, description="Steps between validations. Default: a tenth of all."
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Stop after so many validations without a better Dice. Default: never.",
    )


class CardSettings(_Settings):
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
    label_names: tuple[str, ...] = Field((), description="Names of the labels 1, 2 and so on.")


class TrainSettings(_Settings):
    """Train a network on image and mask pairs, and write it as a bundle."""

    images: str = Field(
        description="Images, as for segment. A manifest's column split (train, validation, test) "
        "or fold says which cases are kept aside."
    )
    masks: str | None = Field(
        None, description="Reference masks, found by name. A manifest names them itself."
    )
    output: str = Field(
        description="Folder of the bundle to write. A training that was stopped goes on from the "
        "checkpoint in it."
    )
    network: NetworkName = Field(
        "unetpp",
        description="Network to train: unet or plain, or the nested unetpp, unetplus, unete with a "
        "head at every depth, or asymmetric (half an encoder) or half_decoder.",
    )
    features: tuple[Voxels, ...] | None = Field(
        None, description="Channels of each level, shallow to deep. Default: 16,16,32,64,128."
    )
    upsample: Literal["deconv", "linear"] = Field(
        "deconv", description="Upsampling: learned, or linear. Not for unet."
    )
    attention: bool = Field(False, description="Attention gates on the skips. Not for unet.")
    classes: int | None = Field(
        None,
        ge=2,
        le=256,
        description="Output channels, background included. Default: as many as there are labels.",
    )
    roi_size: tuple[Voxels, Voxels, Voxels] = Field(
        (32, 48, 32), description="Window in voxels; each size divisible by the network's stride."
    )
    spacing: tuple[float, float, float] | None = Field(
        None, description="Model spacing in mm. Default: the median of the cohort."
    )
    steps: int = Field(300, ge=1, description="Optimiser steps.")
    batch: int = Field(2, ge=1, description="Crops per step.")
    loss: LossSettings = Field(LossSettings(), description="Loss, and weights of its parts.")
    optimiser: OptimiserSettings = Field(
        OptimiserSettings(), description="Optimiser, schedule and precision."
    )
    augmentation: Literal["none", "light", "usual"] = Field(
        "light",
        description="Changes to each crop. light: small rotations and zooms, brightness, contrast, "
        "noise. usual: larger ones, and gamma, blur and coarse voxels.",
    )
    flip: str | None = Field(
        None,
        pattern=r"^[xyz](,[xyz])*$",
        description="Axes that crops may be flipped along, where the anatomy allows it: x is "
        "left-right. Default: none.",
    )
    holdout: float = Field(
        0.2,
        ge=0.0,
        lt=1.0,
        description="Share of cases kept aside for validation, chosen by the seed.",
    )
    fold: str | None = Field(
        None, description="Fold to keep aside, of a manifest with a column fold."
    )
    validation: ValidationSettings = Field(
        ValidationSettings(), description="When to validate, and when to stop early."
    )
    checkpoint_every: int = Field(100, ge=1, description="Steps between checkpoints.")
    resume: bool = Field(True, description="Go on from a checkpoint; off: begin anew.")
    seed: int = Field(0, ge=0, description="Seed of the split, the crops and the weights.")
    threads: int | None = Field(None, ge=1, description="CPU threads. Default: all cores.")
    memory_gb: float = Field(
        8.0,
        ge=0,
        title="Memory (GB)",
        description="Memory for decoded volumes; what is over it is kept in temporary files.",
    )
    gate: GateSettings = Field(GateSettings(), description="Which cases are refused.")
    storage: StorageSettings = Field(StorageSettings(), description="Object storage.")

    @model_validator(mode="after")
    def _enough_levels(self) -> "TrainSettings":
        if self.features is not None and len(self.features) < 2:
            raise ValueError("features needs at least two levels")
        return self
