"""Kinds of fields that several requests share: places, numbers, and what is said of them once."""

import re
from typing import Annotated, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from unet_pipeline.choices import ClusterName, Confidence, OutputFormat, PostprocessName
from unet_pipeline.config.options import Option
from unet_pipeline.errors import NO_SECRET, has_secret
from unet_pipeline.gate.findings import NAN_IS, Fix


class Settings(BaseModel):
    """Settings that name no field but their own, hold finite numbers, and do not change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        str_max_length=2**16,  # a bound also refuses half a surrogate pair, which JSON cannot hold
    )


def _without_secret(value: str) -> str:
    if has_secret(value):
        raise ValueError("takes no password and no signature: keys come from AWS variables")
    return value


# Panels of --help, which are folded groups of the form.
OF_MASKS, OF_NETWORK = Option(panel="How masks are found"), Option(panel="The network")
OF_LABEL_MAPS, OF_CHANCE = Option(panel="The label maps"), Option(panel="Seed and threads")

# Prefect's server stores what it is given, but holds it against the schema first.
_CHECKED, _IN_SCHEMA = (
    AfterValidator(_without_secret),
    Field(json_schema_extra={"pattern": NO_SECRET}),
)
Url = Annotated[str, _CHECKED, _IN_SCHEMA, Option(metavar="URL")]
Place = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    _CHECKED,
    _IN_SCHEMA,
    Option(metavar="URL"),
]
Voxels = Annotated[int, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegativeInt = Annotated[int, Field(ge=0)]
Axes = Annotated[str, Field(pattern=r"^[xyz](,[xyz])*$"), Option(metavar="x,y,z")]
ClusterKind = Annotated[
    str,
    Field(pattern=rf"^({'|'.join(get_args(ClusterName))}|(tcp|tls)://.+:\d+)$"),
    Option(metavar=f"{'|'.join(get_args(ClusterName))}|tcp://..."),
]


def is_model_set(place: str) -> bool:
    """Say whether a place is a file that lists models (``model_sets.py``), by its name."""
    return place.lower().endswith((".yaml", ".yml"))


Images = Annotated[
    Place,
    Field(
        description="A prefix or folder, a glob, a BIDS tree, or a manifest (.csv or .jsonl with "
        "columns case,image,mask). Any fsspec URL: s3://bucket/prefix, /folder, memory://."
    ),
    Option(argument=True),
]
Masks = Annotated[
    Url | None,
    Field(description="Reference masks, found by name. Default: those that a manifest names."),
]
MasksArgument = Annotated[Masks, Option(argument=True)]
MaskPattern = Annotated[
    str | None,
    Field(
        description="Where the mask of a case lies below the masks (below the images without), "
        "such as {case}/segmentation.nii.gz. {case} is the case's name, or the folder of an image "
        "that is alone in it. Default: masks are found by name."
    ),
    Option(metavar="PATTERN", panel=OF_MASKS.panel),
]
Model = Annotated[
    Place,
    Field(
        description="Bundle of MONAI or trained model of nnU-Net: a folder or URL; or the name of "
        "a bundle that comes with the package: phantom, hippocampus. For segment also a file that "
        "lists models, organs.yaml."
    ),
    Option(metavar="BUNDLE"),
]
Trust = Annotated[
    bool,
    Field(
        description="Run what a bundle brings of its own: a network that is a program "
        "(TorchScript, torch.export), expressions and Python code. It could do anything: only for "
        "bundles whose source you know."
    ),
    OF_NETWORK,
]
IgnorePostprocessing = Annotated[
    bool,
    Field(
        description="Run a bundle without those steps of its postprocessing that are not done "
        "here; otherwise it is refused. Sidecars and the report name them."
    ),
    OF_NETWORK,
]
_STEPS = "|".join(get_args(PostprocessName))
Postprocess = Annotated[
    tuple[Annotated[str, Field(pattern=rf"^({_STEPS})(:[^:]+)*$", max_length=1000)], ...],
    Field(
        description="Steps that change the label map before it is written, in this order. "
        "largest:1,2 keeps the largest part of labels 1 and 2, remove-small:0.5ml removes parts "
        "that are smaller, fill-holes, keep:liver. Labels by number or name; none for all. May be "
        "given again."
    ),
    Option(metavar="STEP", repeat=True, panel=OF_LABEL_MAPS.panel),
]
LabelFormat = Annotated[
    OutputFormat,
    Field(
        description="Format of the label maps. nifti: a file, .nii.gz. ome-zarr: a folder of "
        "chunks at several levels, OME-Zarr 0.5, for viewers that read from the store; of volumes "
        "whose axes lie along those of the world."
    ),
    OF_LABEL_MAPS,
]
ConfidenceWish = Annotated[
    Confidence,
    Field(
        description="How sure the network is of each label. numbers: under each label and along "
        "its border, in record and table. map: of each voxel, too, in a file beside the label map. "
        "Label maps do not depend on it."
    ),
    OF_LABEL_MAPS,
]
Threads = Annotated[
    int | None,
    Field(ge=1, description="CPU threads of one forward pass. Default: all cores."),
]

_FIXES, _NUMBER = get_args(Fix), rf"^{NAN_IS}-?[0-9]{{1,7}}([.][0-9]{{1,6}})?$"


def _one_remedy(value: str) -> str:
    if value not in _FIXES and not re.fullmatch(_NUMBER, value):
        raise ValueError(f"takes {', '.join(_FIXES)} or {NAN_IS}V, V a plain number")
    return value


Remedy = Annotated[
    str,
    AfterValidator(_one_remedy),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "enum": [*_FIXES]}, {"type": "string", "pattern": _NUMBER}]}
    ),
]
