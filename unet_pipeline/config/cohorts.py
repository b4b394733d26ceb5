"""Requests about a cohort: check it, plan it, segment it."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from unet_pipeline.choices import OtherRuns, OutputLayout
from unet_pipeline.config.fields import (
    OF_LABEL_MAPS,
    OF_MASKS,
    OF_NETWORK,
    ConfidenceWish,
    IgnorePostprocessing,
    Images,
    LabelFormat,
    MaskPattern,
    Masks,
    Model,
    Place,
    Postprocess,
    Settings,
    Trust,
    Url,
    is_model_set,
)
from unet_pipeline.config.options import Option
from unet_pipeline.config.parts import (
    Budget,
    CaseBudget,
    CaseLimits,
    Cluster,
    ClusterSettings,
    CostSettings,
    GateSettings,
    Limits,
    Storage,
    StorageSettings,
    Windows,
    WindowSettings,
    WorkerSettings,
)
from unet_pipeline.config.stops import StopSettings
from unet_pipeline.shards import PATTERN, Shard, shard_of

_SEVERAL, _EARLIER = Option(panel="Several models"), Option(panel="Earlier results")
NOWHERE = "memory://nothing"  # an output of those who write none
Gate = Annotated[GateSettings, Field(description="Which cases are refused; a look at the voxels.")]


def _a_shard(value: str) -> str:
    shard_of(value)
    return value


_Shard = Annotated[
    str, AfterValidator(_a_shard), Field(max_length=9, json_schema_extra={"pattern": PATTERN})
]


class CheckSettings(Settings):
    """Every image is checked, and every mask is held against its image."""

    images: Images
    masks: Masks = None
    mask_pattern: MaskPattern = None
    model: Annotated[Url | None, Option(metavar="BUNDLE")] = Field(
        None, description="Bundle whose channels and labels the cases must fit. Default: any."
    )
    output: Url | None = Field(
        None,
        description="Prefix of a report with pictures of the doubtful pairs, and of a table. "
        "Default: none is written.",
    )
    fix: Annotated[Url | None, Option(metavar="DIR", panel="Remedies")] = Field(
        None,
        description="Prefix below which the files are written that --remedies put right (reorient, "
        "if none is named), with a manifest of all sound cases that segment takes as IMAGES. Sound "
        "files stay where they are: segment then needs --allow and their prefix, which is printed "
        "at the end. Default: none is written.",
    )
    gate: Gate = GateSettings()
    cluster: Annotated[
        WorkerSettings,
        Field(description="Where voxels are looked at. Default: serial; local if anything else is "
        "said of workers."),
    ] = WorkerSettings(kind="serial")  # fmt: skip
    limits: CaseLimits = Limits()
    storage: Storage = StorageSettings()

    @model_validator(mode="before")
    @classmethod
    def _fix_reorients(cls, values: Any) -> Any:
        """Let what is to be fixed be reoriented where no remedy is named."""
        if not isinstance(values, dict) or not values.get("fix"):
            return values
        gate = values.get("gate") or {}
        gate = gate.model_dump() if isinstance(gate, GateSettings) else gate
        if not isinstance(gate, dict) or gate.get("remedies"):
            return values
        return {**values, "gate": {**gate, "remedies": ("reorient",)}}


class SegmentSettings(Settings):
    """Every volume under Images becomes a label map under Output."""

    images: Images
    model: Model
    output: Place = Field(description="Prefix that label maps, sidecars and reports go to.")
    masks: Url | None = Field(
        None,
        description="Reference masks, found by name; Dice is reported where there is one. "
        "Default: none.",
    )
    mask_pattern: MaskPattern = None
    require_masks: Annotated[bool, OF_MASKS] = Field(
        False,
        description="Quarantine a case whose mask is missing or at fault. Default: it is "
        "segmented, its Dice is not reported, and the fault of the mask is named.",
    )
    depth: Annotated[str | None, Option(metavar="1..n|mean|adaptive"), OF_NETWORK] = Field(
        None,
        pattern=r"^([1-9]\d*|mean|adaptive)$",
        description="Depth of a nested U-Net (UNet++) with deep supervision: 1 is the shallowest "
        "and fastest, mean averages the heads, adaptive goes as deep as each window needs. "
        "Default: the deepest.",
    )
    trust: Trust = False
    ignore_postprocessing: IgnorePostprocessing = False
    postprocess: Postprocess = ()
    labels: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=200, pattern="^[^:,]+$")], ...],
        Option(metavar="LABEL,LABEL"),
    ] = Field(
        (),
        description="Labels to have, by number or name: all others become background, after "
        "--postprocess. The same as --postprocess keep:LABELS at the end. Default: all.",
    )
    also: Annotated[tuple[Place, ...], Option(metavar="BUNDLE", repeat=True), _SEVERAL] = Field(
        (),
        title="Further models",
        description="Another model over the same volumes, of which each is read and decoded once. "
        "The results of each model then go to a folder of its name below the output. May be given "
        "again.",
    )
    ensemble: Annotated[tuple[Place, ...], Option(metavar="BUNDLE", repeat=True), _SEVERAL] = Field(
        (),
        title="Further members",
        description="Another network for the same labels: its scores and those of --model are "
        "averaged in each window, as those of folds are, and decide one label map. All but the "
        "network must be the same. May be given again.",
    )
    within: Annotated[str | None, Option(metavar="LABEL:MM"), _SEVERAL] = Field(
        None,
        title="Within a region",
        pattern=r"^[^:]+:\d{1,4}(\.\d{1,3})?(mm)?$",
        max_length=1000,
        description="Let the models of --also look only around labels of the first one: liver:20 "
        "is the box of the liver and 20 mm on each side. Outside of it their label maps are "
        "background. Default: they look everywhere.",
    )
    combine: Annotated[bool, _SEVERAL] = Field(
        False,
        description="Write one label map of all models, too, in the folder combined: where two "
        "have a label, the model that is named first counts.",
    )
    output_format: LabelFormat = "nifti"
    output_layout: Annotated[OutputLayout, OF_LABEL_MAPS] = Field(
        "auto",
        description="Names of the label maps. simple: the image's, with _dseg. bids: derivatives "
        "of the BIDS tree that the images are, with what BIDS asks for beside them. auto: bids for "
        "a BIDS tree; simple where the output has simple names already, and for OME-Zarr.",
    )
    confidence: ConfidenceWish = "numbers"
    resume: Annotated[bool, _EARLIER] = Field(
        True, description="Skip cases whose input, weights and settings have not changed."
    )
    verify: Annotated[bool, _EARLIER] = Field(
        False,
        description="Read the records of all finished cases, and files of which the store keeps "
        "no etag, and believe neither listings nor the index of the run before.",
    )
    other_runs: Annotated[OtherRuns, _EARLIER] = Field(
        "share",
        title="Where another run is at work",
        description="What to do where another run works on the same output. share: each case is "
        "done by one of them. wait: begin when it has ended. refuse: do not begin.",
    )
    shard: Annotated[_Shard | None, Option(metavar="3/8"), _EARLIER] = Field(
        None,
        title="A part of the cohort",
        description="Take only this part of the cohort's cases, 3/8 the third of eight, so that "
        "runs work on one output side by side. A case's name says in which part it is, and cases "
        "that come or go move no others. Default: all cases.",
    )
    replace: Annotated[bool, _EARLIER] = Field(
        False,
        description="Let label maps of this model take the place of those that another one made. "
        "Default: such a request is refused.",
    )
    version_name: Annotated[str | None, Option(metavar="NAME"), _EARLIER] = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Folder below the output that everything goes to, so that several models have "
        "their results beside each other. Default: the output itself.",
    )
    compare_with: Annotated[Url | None, Option(metavar="URL"), _EARLIER] = Field(
        None,
        description="Output of an earlier run, of another model or version: at the end the label "
        "maps are held against those there, as differences does. Default: none.",
    )
    windows: Windows = WindowSettings()
    cluster: Cluster = ClusterSettings()
    gate: Gate = GateSettings()
    budget: CaseBudget = Budget()
    cost: Annotated[CostSettings, Field(description="What a worker costs.")] = CostSettings()
    stop: Annotated[
        StopSettings,
        Field(description="When to stop though cases are left: the next run goes on with them."),
    ] = StopSettings()
    storage: Storage = StorageSettings()

    @property
    def part(self) -> Shard | None:
        """The part of the cohort that is asked for; None for all of it."""
        return None if self.shard is None else shard_of(self.shard)

    def in_version(self) -> "SegmentSettings":
        """Return the settings with the folder of their version as the output."""
        if not self.version_name:
            return self
        output = f"{self.output.rstrip('/')}/{self.version_name}"
        return self.model_copy(update={"output": output, "version_name": None})

    @model_validator(mode="after")
    def _bids_is_nifti(self) -> "SegmentSettings":
        if self.output_layout == "bids" and self.output_format != "nifti":
            raise ValueError(
                "takes label maps as nifti with output_layout bids: BIDS has no segmentations in "
                "OME-Zarr; take output_layout simple for them"
            )
        return self

    @model_validator(mode="after")
    def _price_is_reckoned(self) -> "SegmentSettings":
        self.stop.check_cost(self.cost)
        return self

    @model_validator(mode="after")
    def _within_another(self) -> "SegmentSettings":
        if any(map(is_model_set, (*self.also, *self.ensemble))):
            raise ValueError("takes a file of models as model, and not in also or ensemble")
        if is_model_set(self.model):
            if self.also or self.ensemble or self.within or self.combine:
                raise ValueError(
                    "takes also, ensemble, within and combine from the file of models, and not "
                    "beside it"
                )
            return self
        if self.within and not self.also:
            raise ValueError("takes within only with also: models that look within the first one's")
        if self.combine and not self.also:
            raise ValueError("takes combine only with also: one label map of several models")
        return self

    def with_model(self, model: str) -> "SegmentSettings":
        """Return the request for one of its models alone."""
        alone = {"also": (), "ensemble": (), "within": None, "combine": False}
        return self.model_copy(update={"model": model, **alone})

    @property
    def of_first(self) -> "SegmentSettings":
        """The request for the first model alone, with the members that it may have."""
        return self.with_model(self.model).model_copy(update={"ensemble": self.ensemble})

    @property
    def label_steps(self) -> tuple[str, ...]:
        """Steps on labels in their order, as ``postprocess`` has them."""
        return (*self.postprocess, *([f"keep:{','.join(self.labels)}"] if self.labels else []))


class PlanSettings(SegmentSettings):
    """What segmenting a cohort would take, by its headers: the settings are those of segment."""

    output: Place = Field(
        NOWHERE, description="As for segment, so that its options can stand here. None is written."
    )
