"""Requests about a cohort: check it, segment it."""

from pydantic import Field, field_validator

from unet_pipeline.config.parts import (
    Budget,
    ClusterSettings,
    CostSettings,
    GateSettings,
    IgnorePostprocessing,
    Limits,
    MaskPattern,
    Settings,
    StorageSettings,
    Trust,
    Url,
    WindowSettings,
)


class CheckSettings(Settings):
    """Every image is checked, and every mask is held against its image."""

    images: Url = Field(description="Images, as for segment.")
    masks: Url | None = Field(None, description="Masks, found by name.")
    mask_pattern: MaskPattern = None
    output: Url | None = Field(
        None, description="Prefix of the report, the table and the pictures. Default: none."
    )
    model: Url | None = Field(
        None, description="Bundle whose channels and labels the cases must fit. Default: any."
    )
    gate: GateSettings = Field(
        GateSettings(content=True), description="Tolerance, remedies and the look at the voxels."
    )
    limits: Limits = Field(Limits(), description="What a case may take.")
    fix: Url | None = Field(
        None, description="Prefix that cases are written to with the remedies applied."
    )
    cluster: ClusterSettings = Field(
        ClusterSettings(kind="serial"), description="Where voxels are looked at."
    )
    storage: StorageSettings = Field(StorageSettings(), description="Object storage.")


class SegmentSettings(Settings):
    """Every volume under Images becomes a label map under Output."""

    images: Url = Field(
        description="A prefix or folder, a glob, a BIDS tree, or a manifest (.csv, .jsonl "
        "with columns case,image,mask). Any fsspec URL: s3://bucket/prefix, /folder, memory://."
    )
    model: Url = Field(
        description="Bundle of MONAI or trained model of nnU-Net: a folder or URL; or the name of "
        "a bundle that comes with the package (phantom, hippocampus)."
    )
    output: Url = Field(description="Prefix that label maps, sidecars and reports are written to.")
    masks: Url | None = Field(
        None, description="Reference masks, found by name; Dice is reported where there is one."
    )
    mask_pattern: MaskPattern = None
    require_masks: bool = Field(
        False,
        description="Quarantine a case whose mask is missing or at fault. Default: it is "
        "segmented, its Dice is not reported, and the fault of the mask is named.",
    )
    depth: str | None = Field(
        None,
        pattern=r"^([1-9]\d*|mean|adaptive)$",
        description="Depth of a nested U-Net (UNet++) with deep supervision: 1 is the shallowest "
        "and fastest, mean averages the heads, adaptive goes as deep as each window needs. "
        "Default: the deepest.",
    )
    trust: Trust = False
    ignore_postprocessing: IgnorePostprocessing = False
    windows: WindowSettings = Field(WindowSettings(), description="Windows and tiles.")
    cluster: ClusterSettings = Field(ClusterSettings(), description="Where the work runs.")
    storage: StorageSettings = Field(
        StorageSettings(),
        description="Object storage. Keys come from AWS variables or a profile only.",
    )
    budget: Budget = Field(Budget(), description="Limits of one case.")
    gate: GateSettings = Field(GateSettings(), description="Which cases are refused.")
    cost: CostSettings = Field(CostSettings(), description="What a worker costs.")
    resume: bool = Field(
        True, description="Skip cases whose input, weights and settings have not changed."
    )

    @field_validator("images", "model", "output")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be empty")
        return value.strip()
