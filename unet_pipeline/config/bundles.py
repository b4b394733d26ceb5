"""Requests about one bundle: look into it, check, make, convert, prune, calibrate it."""

from typing import Annotated

from pydantic import Field

from unet_pipeline.choices import Blend
from unet_pipeline.config.fields import (
    Images,
    MaskPattern,
    MasksArgument,
    Place,
    Settings,
    Trust,
)
from unet_pipeline.config.options import Option
from unet_pipeline.config.parts import (
    Access,
    AccessSettings,
    CaseLimits,
    Limits,
    Remedies,
    RemedySettings,
    Storage,
    StorageSettings,
)

_SPACE = "Preprocessing"
Source = Annotated[
    Place,
    Field(
        description="Bundle, or a trained model of nnU-Net: a folder or URL; or phantom, "
        "hippocampus."
    ),
    Option(argument=True),
]
Target = Annotated[Place, Field(description="Folder or URL of the bundle to write.")]


class InspectSettings(Settings):
    """What a bundle says of itself is shown, or held against what it does."""

    bundle: Source
    trust: Trust = False
    storage: Access = AccessSettings()


class ConvertSettings(Settings):
    """A bundle is written anew with its weights as safetensors."""

    bundle: Source
    output: Target
    storage: Access = AccessSettings()


class PruneSettings(ConvertSettings):
    """A bundle is written anew with one depth."""

    depth: int = Field(ge=1, description="Depth to keep; 1 is the shallowest.")
    accurate: bool = Field(
        False, description="Keep the shallower heads, too, for --depth mean; else only one."
    )


class CalibrateSettings(Settings):
    """Adaptive depth is calibrated on cases that the network was not trained on."""

    bundle: Source
    images: Images
    masks: MasksArgument = None
    mask_pattern: MaskPattern = None
    loss: float = Field(0.002, ge=0.0, description="Dice that adaptive depth may cost on average.")
    gate: Remedies = RemedySettings()
    limits: CaseLimits = Limits()
    storage: Storage = StorageSettings()


class ConfidenceSettings(Settings):
    """What Dice to expect of how sure a network is: from label maps that were scored."""

    bundle: Source
    labels: Annotated[Place, Option(argument=True)] = Field(
        description="Output of segment with --masks, of this bundle, over cases that it was not "
        "trained on. At least 20 for each label."
    )
    storage: Access = AccessSettings()


class MakeSettings(Settings):
    """A bundle is made of trained weights."""

    weights: Annotated[Place, Option(argument=True)] = Field(
        description="Weights or a checkpoint (.pt, .pth, .ckpt, .safetensors): file, URL."
    )
    output: Target
    network: Annotated[str, Option(metavar="'UNet(...)'|FILE.json")] = Field(
        description="The network: its constructor's call as it stands in your script, with the "
        "values themselves; or JSON with _target_, or a file of it. Channels, classes and features "
        "that the weights tell may be left out. UNet, BasicUNet, BasicUNetPlusPlus, "
        "AttentionUnet, DynUNet, SegResNet, SwinUNETR, VNet, NestedUNet, AsymmetricUNet.",
    )
    window: tuple[int, ...] | None = Field(
        None,
        description="Voxels of a window (roi_size), as in training; two sizes for a 2-D network.",
    )
    slices_along: Annotated[str, Option(metavar="x|y|z")] = Field(
        "z",
        description="The axis along which a 2-D network takes slices, after --axcodes: with RAS, z "
        "is axial, y coronal, x sagittal.",
    )
    overlap: float = Field(
        0.25, ge=0.0, le=0.99, description="Share of a window that overlaps the next."
    )
    blend: Blend = Field("gaussian", description="Weight of voxels where windows overlap.")
    labels: tuple[str, ...] = Field(
        (),
        description="Names of the labels, in the order of the network's channels; background may "
        "be left out. Default: label 1, label 2.",
    )
    channels: tuple[str, ...] = Field(
        (), description="Names of the input channels, such as CT, or T1,T2."
    )
    threshold: Annotated[float | None, Option("sigmoid", metavar="THRESHOLD")] = Field(
        None,
        description="For channels that do not exclude each other (sigmoid): the probability that a "
        "voxel must be above, such as 0.5. A single channel has 0.5 without being asked.",
    )
    spacing: Annotated[str | None, Option(metavar="X,Y,Z", panel=_SPACE)] = Field(
        None,
        description="Distance of voxels in mm that volumes are resampled to (Spacingd); `file` for "
        "none. Two numbers: in the plane of slices alone.",
    )
    intensity: Annotated[str | None, Option(metavar="KIND[:NUMBERS]", panel=_SPACE)] = Field(
        None,
        description="What becomes of the values. range:A,B maps A..B to 0..1 and clips "
        "(ScaleIntensityRanged; range:A,B,C,D to C..D); zscore (NormalizeIntensityd, of all "
        "channels apart), zscore:nonzero; percentiles:LOW,HIGH to 0..1, clipped; minmax to "
        "0..1; none.",
    )
    axcodes: Annotated[str, Option(metavar="RAS", panel=_SPACE)] = Field(
        "RAS", description="Axes that volumes are brought to (Orientationd); `file` for none."
    )
    crop_foreground: Annotated[bool, Option(panel=_SPACE)] = Field(
        False,
        description="Crop to the voxels above 0, after the values were mapped (CropForegroundd).",
    )
    preprocessing: Annotated[str | None, Option(metavar="FILE.json", panel=_SPACE)] = Field(
        None,
        description="A list of MONAI transforms in the place of these four, for another order or "
        "others.",
    )
    storage: Access = AccessSettings()
