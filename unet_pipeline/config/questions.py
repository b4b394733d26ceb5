"""Requests that ask something of bundles: which depth, which bundle, which layers."""

import re
from typing import Literal

from pydantic import ConfigDict, Field

from unet_pipeline.config.parts import (
    Budget,
    ClusterSettings,
    GateSettings,
    IgnorePostprocessing,
    Limits,
    MaskPattern,
    NotNegativeInt,
    Place,
    Settings,
    StorageSettings,
    Trust,
    Url,
    WindowSettings,
)

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
    seed: int = Field(0, ge=0, description="Seed of the draws.")


class DepthsSettings(Settings):
    """Every depth of a nested U-Net is scored on a validation cohort, and one is chosen."""

    images: Place = Field(
        description="Images, as for segment, that the model was not trained on. Of a manifest with "
        "a column split, the validation cases; never those for training or a test."
    )
    masks: Url | None = Field(
        None, description="Reference masks, found by name; or named by a manifest."
    )
    mask_pattern: MaskPattern = None
    model: Place = Field(description="Bundle of a nested U-Net with a head at every depth.")
    trust: Trust = False
    ignore_postprocessing: IgnorePostprocessing = False
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


class CompareSettings(Settings):
    """Bundles are scored on one cohort, on the grid of its files, and tested in pairs."""

    images: Place = Field(description="Images, as for segment, that no model was trained on.")
    masks: Url | None = Field(
        None, description="Reference masks, found by name; or named by a manifest."
    )
    mask_pattern: MaskPattern = None
    models: tuple[Place, ...] = Field(
        description="Two bundles or more; the first is what the others are held against. "
        "NAME=BUNDLE gives a name, and bundles of one name are averaged: one network, several "
        "seeds.",
    )
    output: Place = Field(description="Prefix that label maps and the report are written to.")
    split: Literal["validation", "test"] | None = Field(
        None,
        description="Cases to score, by a manifest's column split. Default: the test cases; "
        "without any, those for validation; without these, all that it leaves open.",
    )
    pairs: Literal["first", "all"] = Field(
        "first", description="Which pairs to test: each bundle with the first, or all pairs."
    )
    trust: Trust = False
    ignore_postprocessing: IgnorePostprocessing = False
    scoring: ScoringSettings = Field(ScoringSettings(), description="Tolerance and confidence.")
    windows: WindowSettings = Field(WindowSettings(), description="Windows and tiles.")
    cluster: ClusterSettings = Field(
        ClusterSettings(), description="Where label maps are made and scored."
    )
    storage: StorageSettings = Field(StorageSettings(), description="Object storage.")
    budget: Budget = Field(Budget(), description="Limits of one case.")
    gate: GateSettings = Field(GateSettings(), description="Which cases are refused.")


class LayersSettings(Settings):
    """The layers of a network are probed and replaced, one by one, on a cohort with masks."""

    images: Place = Field(
        description="Images, as for segment, that the model was not trained on. Some cases are "
        "fitted on, others scored; the seed says which."
    )
    masks: Url | None = Field(
        None, description="Reference masks, found by name; or named by a manifest."
    )
    mask_pattern: MaskPattern = None
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
    trust: Trust = False
    ignore_postprocessing: IgnorePostprocessing = False
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
    limits: Limits = Field(Limits(), description="What a case may take.")
    gate: GateSettings = Field(GateSettings(), description="Which cases are refused.")
    storage: StorageSettings = Field(StorageSettings(), description="Object storage.")
