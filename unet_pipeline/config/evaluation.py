"""Requests that ask something of bundles: which depth, which bundle, which layers."""

import re
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from unet_pipeline.choices import Plane
from unet_pipeline.config.fields import (
    OF_CHANCE,
    OF_NETWORK,
    IgnorePostprocessing,
    Images,
    LabelFormat,
    MaskPattern,
    Masks,
    Model,
    NotNegativeInt,
    Place,
    Postprocess,
    Settings,
    Threads,
    Trust,
    Url,
)
from unet_pipeline.config.options import Option
from unet_pipeline.config.parts import (
    Access,
    AccessSettings,
    Budget,
    CaseBudget,
    CaseLimits,
    Cluster,
    ClusterSettings,
    Limits,
    Remedies,
    RemedySettings,
    Storage,
    StorageSettings,
    Windows,
    WindowSettings,
    WorkerSettings,
)

_MEASURED, _PICTURES = Option(panel="What is measured"), Option(panel="Pictures")
_ADAPTIVE = Option(panel="Adaptive depth")
NAMED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._+-]*)=(?P<model>.+)")  # a bundle with a name


class ScoringSettings(Settings):
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
    seed: int = Field(0, ge=0, description="Seed of these draws, any whole number.")


Scoring = Annotated[ScoringSettings, Field(description="How label maps are scored.")]
Alignment = Annotated[  # --tolerance is of Dice where depths are chosen
    Remedies, Option(rename={"affine_voxels": "affine-tolerance"})
]


class DepthsSettings(Settings):
    """Every depth of a nested U-Net is scored on a validation cohort, and one is chosen."""

    images: Annotated[
        Images,
        Field(
            description="Images, as for segment, that the model was not "
            "trained on. Of a manifest with a column split, the validation cases; never those for "
            "training or a test."
        ),
    ]
    masks: Masks = None
    mask_pattern: MaskPattern = None
    model: Annotated[
        Model, Field(description="Bundle of a nested U-Net with a head at every depth.")
    ]
    output: Place = Field(
        description="Prefix that label maps, the report and the pruned bundle are written to."
    )
    output_format: LabelFormat = "nifti"
    trust: Trust = False
    ignore_postprocessing: IgnorePostprocessing = False
    postprocess: Postprocess = ()
    tolerance: float = Field(
        0.005, ge=0.0, lt=1.0, description="Mean Dice that may be lost against the best depth."
    )
    adaptive: Annotated[bool, _ADAPTIVE] = Field(
        True, description="Calibrate adaptive depth, and score it, too."
    )
    adaptive_loss: Annotated[float, _ADAPTIVE] = Field(
        0.002,
        ge=0.0,
        lt=1.0,
        title="Loss of adaptive depth",
        description="Mean Dice that adaptive depth may cost; its rule is calibrated to it.",
    )
    scoring: Scoring = ScoringSettings()
    windows: Windows = WindowSettings()
    cluster: Cluster = ClusterSettings()
    gate: Alignment = RemedySettings()
    budget: CaseBudget = Budget()
    storage: Storage = StorageSettings()


class CompareSettings(Settings):
    """Bundles are scored on one cohort, on the grid of its files, and tested in pairs."""

    images: Annotated[
        Images, Field(description="Images, as for segment, that no model was trained on.")
    ]
    models: Annotated[tuple[Place, ...], Option(argument=True, repeat=True)] = Field(
        description="Two bundles or more; the first is what the others are held against. "
        "NAME=BUNDLE gives a name, and bundles of one name are averaged: one network, several "
        "seeds."
    )
    output: Place = Field(description="Prefix that label maps and the report are written to.")
    masks: Masks = None
    mask_pattern: MaskPattern = None
    all_pairs: bool = Field(False, description="Test all pairs, not only those with the first.")
    split: Literal["validation", "test"] | None = Field(
        None,
        description="Cases to score, by a manifest's column split. Default: the test cases; "
        "without any, those for validation; without these, all that it leaves open.",
    )
    output_format: LabelFormat = "nifti"
    trust: Trust = False
    ignore_postprocessing: IgnorePostprocessing = False
    postprocess: Postprocess = ()
    scoring: Scoring = ScoringSettings()
    windows: Windows = WindowSettings()
    cluster: Cluster = ClusterSettings()
    gate: Alignment = RemedySettings()
    budget: CaseBudget = Budget()
    storage: Storage = StorageSettings()


class DifferencesSettings(Settings):
    """Two sets of label maps of the same cases are held against each other, without masks."""

    old: Annotated[Place, Option(argument=True)] = Field(
        description="Prefix that the earlier label maps were written to: an output of segment."
    )
    new: Annotated[Place, Option(argument=True)] = Field(description="Prefix of the later ones.")
    output: Url | None = Field(
        None, description="Prefix of a report with pictures, and of a table. Default: none."
    )
    storage: Access = AccessSettings()


class ViewSettings(Settings):
    """The cases of a run are shown in a browser of this machine."""

    run: Annotated[Place, Option(argument=True)] = Field(
        description="Folder of a run, such as s3://results/runs/20261121T013000Z-3f2a, or the "
        "output that it wrote to, for its latest run."
    )
    port: int = Field(0, ge=0, le=65535, description="Port on 127.0.0.1. 0: a free one.")
    storage: Access = AccessSettings()


class StatisticsSettings(Settings):
    """Label maps that exist already are measured, whoever made them."""

    labels: Annotated[Place, Option(argument=True)] = Field(
        description="Label maps: a prefix or folder, a glob or a file; an output of segment, too. "
        "Of a folder where some are named like label maps (_seg, _mask, _dseg ...), these."
    )
    images: Url | None = Field(
        None,
        description="Images that they lie on, found by name: then the values under each label are "
        "measured, too, and the report has pictures. Default: the label maps alone.",
    )
    mask_pattern: Annotated[
        MaskPattern,
        Field(
            description="Where the label map of an image lies below the label maps, such as "
            "{case}/segmentation.nii.gz. Default: they are found by name."
        ),
    ] = None
    label_names: Url | None = Field(
        None,
        description="File with the names of the labels: a table of BIDS (dseg.tsv, with index and "
        'name), or JSON ({"1": "liver"}, or a dataset.json). Default: the only dseg.tsv among '
        "the label maps, or what the record of one of ours says.",
    )
    output: Url | None = Field(
        None, description="Prefix of a report with pictures, and of tables. Default: none."
    )
    gate: Remedies = RemedySettings()
    cluster: Annotated[
        WorkerSettings,
        Field(description="Where label maps are measured. Default: serial; local if anything else "
        "is said of workers."),
    ] = WorkerSettings(kind="serial")  # fmt: skip
    limits: CaseLimits = Limits()
    storage: Storage = StorageSettings()


class LayersSettings(Settings):
    """The layers of a network are probed and replaced, one by one, on a cohort with masks."""

    images: Annotated[
        Images,
        Field(
            description="Images, as for segment, that the model was not "
            "trained on. Some cases are fitted on, others scored; the seed says which."
        ),
    ]
    model: Model
    output: Place = Field(description="Prefix that the report, the table and the pictures go to.")
    masks: Masks = None
    mask_pattern: MaskPattern = None
    layers: tuple[str, ...] = Field(
        (),
        description="Layers to look into: names of modules, or patterns such as upcat_0_*. "
        "Default: the blocks of the network.",
    )
    depth: Annotated[int | None, OF_NETWORK] = Field(
        None, ge=1, description="Depth of a nested U-Net to look into. Default: all of it."
    )
    trust: Trust = False
    ignore_postprocessing: IgnorePostprocessing = False
    fit_cases: Annotated[int, _MEASURED] = Field(
        4, ge=1, description="Cases that means and probes are fitted on."
    )
    score_cases: Annotated[int, _MEASURED] = Field(
        6, ge=1, description="Other cases, that everything is scored on."
    )
    windows: Annotated[int, _MEASURED] = Field(
        4,
        ge=1,
        le=512,
        description="Windows of a case at most: of a larger one the block with most foreground is "
        "looked at.",
    )
    groups: Annotated[int, _MEASURED] = Field(
        4,
        ge=0,
        le=64,
        description="Channel groups of each layer that are also replaced one by one. 0: none.",
    )
    voxels: Annotated[int, _MEASURED] = Field(
        12_000,
        ge=100,
        le=1_000_000,
        description="Voxels that the probes are fitted on, equally many of each label.",
    )
    view: Annotated[Plane, _PICTURES] = Field(
        "axial", description="Plane of the feature-map pictures."
    )
    slices: Annotated[tuple[NotNegativeInt, ...], _PICTURES] = Field(
        (),
        description="Slices of the feature-map pictures, as voxels of the model grid of the first "
        "scored case. Default: the one with most foreground.",
    )
    seed: Annotated[int, OF_CHANCE] = Field(
        0, ge=0, description="Seed of the split and of the drawn voxels."
    )
    threads: Annotated[Threads, OF_CHANCE] = None
    gate: Remedies = RemedySettings()
    limits: CaseLimits = Limits()
    storage: Storage = StorageSettings()
