"""A bundle's ``preprocessing`` list, translated to steps.

Each supported transform becomes a step. What has no effect on the image (types, devices, what is
for labels only) is passed over. A transform that is not in the table below is refused by name,
before any work.

To add a transform: a frozen dataclass with ``resolve`` (``steps.py``), and a line in
``_TRANSFORMS``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations, product
from typing import Any

import numpy as np

from unet_pipeline.volume.grid import AXIS_LETTERS
from unet_pipeline.volume.monai_steps import (
    CropForeground,
    Orient,
    PadDivisible,
    Resize,
    ScalePercentiles,
    ScaleRange,
    Spacing,
    Standardise,
)
from unet_pipeline.volume.nnunet_steps import CropNonzero, Permute, Respace
from unet_pipeline.volume.nnunet_values import SCHEMES, Normalise, Scheme
from unet_pipeline.volume.options import Options, brief, unsupported
from unet_pipeline.volume.steps import Identity, Step


def parse_preprocessing(transforms: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """Translate a bundle's list of transform definitions.

    Raises
    ------
    RequestError
        ``transform_unsupported`` for a transform, or an option of one, that has no translation or
        lies out of its range.
    """
    if len(transforms) > _MOST_STEPS:
        raise unsupported(f"number {_MOST_STEPS + 1}", f"at most {_MOST_STEPS} steps")
    return tuple(_translate(_for_image(transform)) for transform in transforms)


def check_channels(steps: Sequence[Step], channels: int) -> None:
    """Check that steps which name a number for each channel name as many as there are.

    Raises
    ------
    RequestError
        ``transform_unsupported``.
    """
    for step in steps:
        match step:
            case Standardise(channel_wise=True):
                counts = [len(numbers) for numbers in (step.subtrahend, step.divisor) if numbers]
            case Normalise():
                counts = [len(step.schemes)]
            case _:
                counts = []
        for count in counts:
            if count != channels:
                found = f"{type(step).__name__} for {count} channels"
                raise unsupported(found, f"one for each of {channels} input channels")


def names_image(transform: Mapping[str, Any]) -> bool:
    """Say whether a transform has to do with the image; one that is for labels only does not."""
    return "keys" not in transform or any(
        value == IMAGE or (isinstance(value, list | tuple) and IMAGE in value)
        for value in transform.values()
    )


def _for_image(transform: Mapping[str, Any]) -> dict[str, Any]:
    """Return a transform for one key: of options with a value for each key, the image's."""
    transform = dict(transform)
    keys = transform.get("keys")
    keys = [keys] if isinstance(keys, str) else keys
    if isinstance(keys, list) and IMAGE in keys:
        for option in _PER_KEY & set(transform):
            value = transform[option]
            if isinstance(value, list) and len(value) == len(keys):
                transform[option] = value[keys.index(IMAGE)]
    return transform


IMAGE = "image"  # the key of a bundle's volumes
_PER_KEY = frozenset({"mode", "padding_mode", "align_corners", "dtype", "anti_aliasing"})
_FINEST_MM, _COARSEST_MM = 0.01, 1000.0  # of a model's spacing
_WIDEST_MARGIN, _LARGEST_FACTOR = 512, 512  # in voxels
_MOST_ALONG = 4096  # voxels of an axis that is resized
_LINEAR = ("trilinear", "bilinear", "linear")


_AXCODES = tuple(
    "".join(letters) for order in permutations(AXIS_LETTERS) for letters in product(*order)
)


def _orient(o: Options) -> Step:
    return Orient(o.choice("axcodes", _AXCODES))


def _space(o: Options) -> Step:
    x, y, z = o.three("pixdim", -_COARSEST_MM, _COARSEST_MM)
    for mm in (x, y, z):
        if 0 < mm < _FINEST_MM:
            raise o.wrong("pixdim", mm, f"from {_FINEST_MM} mm, or 0 for the file's own")
    return Spacing((x, y, z))


def _scale_range(o: Options) -> Step:
    a_min, a_max = o.number("a_min"), o.number("a_max")
    b_min, b_max = _target(o)
    return ScaleRange(a_min, a_max, b_min, b_max, o.flag("clip"))


def _scale_percentiles(o: Options) -> Step:
    low, high = o.number("lower", 0, 100), o.number("upper", 0, 100)
    if low >= high:
        raise o.wrong("lower", low, f"below upper, which is {high:g}")
    b_min, b_max = _target(o)
    return ScalePercentiles(low, high, b_min, b_max, o.flag("clip"), o.flag("channel_wise"))


def _target(o: Options) -> tuple[float | None, float | None]:
    """Return the range that values are mapped to: both ends, or none."""
    low, high = o.number("b_min", default=None), o.number("b_max", default=None)
    if (low is None) != (high is None):
        raise o.wrong("b_min, b_max", (low, high), "both, or none")
    return low, high


def _scale_all(o: Options) -> Step:
    """Map the smallest value to ``minv`` and the largest to ``maxv``."""
    low, high = o.number("minv", default=0.0), o.number("maxv", default=1.0)
    if low is None or high is None:
        raise o.wrong("minv, maxv", (low, high), "numbers")
    return ScalePercentiles(0.0, 100.0, low, high, False, o.flag("channel_wise"))


def _standardise(o: Options) -> Step:
    shift, divisor = o.numbers("subtrahend", default=None), o.numbers("divisor", default=None)
    apart = o.flag("channel_wise")
    for name, numbers in (("subtrahend", shift), ("divisor", divisor)):
        if numbers and len(numbers) > 1 and not apart:
            raise o.wrong(name, list(numbers), "one number, where channel_wise is not true")
    return Standardise(shift, divisor, o.flag("nonzero"), apart)


def _crop(o: Options) -> Step:
    return CropForeground(
        o.whole("margin", 0, _WIDEST_MARGIN, default=0),
        o.whole("k_divisible", 1, _LARGEST_FACTOR, default=1),
        o.flag("allow_smaller"),
    )


def _pad(o: Options) -> Step:
    method = o.choice("method", ("symmetric", "end"), default="symmetric")
    return PadDivisible(o.whole("k", 0, _LARGEST_FACTOR), method)


def _resize(o: Options) -> Step:
    """Resample to a number of voxels, linearly; MONAI's default, by areas, is not done."""
    longest = o.choice("size_mode", ("all", "longest"), default="all") == "longest"
    found = o.numbers("spatial_size", -_MOST_ALONG, _MOST_ALONG) or ()
    counts = (1,) if longest else (2, 3)
    if len(found) not in counts or any(n != int(n) for n in found) or (longest and found[0] < 1):
        raise o.wrong("spatial_size", found, "a number for each axis; one with size_mode=longest")
    x, y, z = (*map(int, found), -1, -1)[:3]
    o.choice("mode", _LINEAR, default="area")
    corners = o.choice("align_corners", (None, False, True), default=None)
    return Resize((x, y, z), longest, bool(corners))


def _permute(o: Options) -> Step:
    x, y, z = o.choice("source_axes", [list(axes) for axes in permutations(range(3))])
    return Permute((x, y, z))


def _crop_nonzero(_: Options) -> Step:
    return CropNonzero()


def _normalise(o: Options) -> Step:
    return Normalise(tuple(_scheme(scheme) for scheme in o.entries("schemes")))


def _scheme(scheme: Any) -> Scheme:
    if not isinstance(scheme, dict):
        raise unsupported(f"Normalise with {brief(scheme)}", "schemes as definitions")
    o = Options("Normalise", scheme)
    found = Scheme(
        o.choice("name", SCHEMES), o.flag("masked"), o.number("mean", default=0.0),
        o.number("deviation", default=1.0), o.number("low", default=-np.inf),
        o.number("high", default=np.inf),
    )  # fmt: skip
    _refuse_the_rest(o, {})
    return found


def _respace(o: Options) -> Step:
    separate = (None, True, False)
    sizes = o.entries("spacing_mm")
    if len(sizes) != 3:
        raise o.wrong("spacing_mm", sizes, "three sizes")
    each = Options("Respace", dict(zip("xyz", sizes, strict=True)))
    x, y, z = (each.number(axis, _FINEST_MM, _COARSEST_MM, default=None) for axis in "xyz")
    return Respace(
        (x, y, z), o.flag("cubic"), o.choice("separate", separate),
        o.choice("separate_scores", separate),
        o.choice("separate_labels", separate, default=None), o.flag("lowest_labels"),
    )  # fmt: skip


def _nothing(o: Options) -> Step:
    """Pass over what leaves values and places as they are; a type without fractions does not."""
    dtype = o.left.get("dtype")
    o.left.clear()
    if str(dtype).rpartition(".")[2] not in _FLOATS:
        o.left["dtype"] = dtype
    return Identity()


_FLOATS = frozenset({"None", "float", "float32", "float64", "double"})
_WITHOUT_EFFECT = (
    "AddChanneld", "CastToTyped", "CopyItemsd", "DataStatsd", "DeleteItemsd", "EnsureChannelFirstd",
    "EnsureTyped", "FlattenSubKeysd", "Identityd", "LoadImaged", "SelectItemsd", "SimulateDelayd",
    "ToCupyd", "ToDeviced", "ToNumpyd", "ToTensord",
)  # fmt: skip
# For each transform: its translation, and options that change nothing at these values.
_Translations = dict[str, tuple[Callable[[Options], Step], dict[str, tuple[Any, ...]]]]
_TRANSFORMS: _Translations = {
    **dict.fromkeys(_WITHOUT_EFFECT, (_nothing, {})),
    "Orientationd": (_orient, {"labels": (None, [["L", "R"], ["P", "A"], ["I", "S"]])}),
    "Spacingd": (
        _space,
        {"mode": ("bilinear", ["bilinear"]), "padding_mode": ("border", ["border"]),
         "diagonal": (False,), "align_corners": (False, [False]), "scale_extent": (False,),
         "recompute_affine": (False,), "dtype": ("float64", "$np.float64")},
    ),
    "ScaleIntensityRanged": (_scale_range, {}),
    "ScaleIntensityd": (_scale_all, {"factor": (None,)}),
    "ScaleIntensityRangePercentilesd": (_scale_percentiles, {"relative": (False,)}),
    "NormalizeIntensityd": (_standardise, {}),
    "CropForegroundd": (_crop, {"source_key": ("image",), "mode": ("constant",)}),
    "DivisiblePadd": (_pad, {"mode": ("constant",)}),
    "Resized": (_resize, {"anti_aliasing": (False,), "anti_aliasing_sigma": (None,),
                          "dtype": ("float32", "$np.float32", "$torch.float32")}),
}  # fmt: skip
SUPPORTED = tuple(sorted(_TRANSFORMS))  # MONAI's names
_OF_NNUNET: _Translations = {
    "Permute": (_permute, {}),
    "CropNonzero": (_crop_nonzero, {}),
    "Normalise": (_normalise, {}),
    "Respace": (_respace, {}),
}
_SPELLINGS = re.compile(r"(D|Dict)$")  # MONAI has ToTensorD and ToTensorDict, too
_SAID = frozenset(
    {"_target_", "_disabled_", "_requires_", "_desc_", "keys", "allow_missing_keys", "lazy"}
)
_MOST_STEPS = 64


def _translate(transform: Mapping[str, Any]) -> Step:
    target = transform.get("_target_")
    if not isinstance(target, str):
        raise unsupported(f"with _target_ {brief(target)}", "the name of a transform")
    name = _SPELLINGS.sub("d", target.rsplit(".", 1)[-1])
    if transform.get("_disabled_", False) in (True, "true"):
        return Identity()
    if name not in _TRANSFORMS | _OF_NNUNET:
        raise unsupported(name, f"one of MONAI's {', '.join(SUPPORTED)}")
    make, harmless = (_TRANSFORMS | _OF_NNUNET)[name]
    options = Options(name, {key: value for key, value in transform.items() if key not in _SAID})
    step = make(options)
    _refuse_the_rest(options, harmless)
    return step


def _refuse_the_rest(options: Options, harmless: Mapping[str, tuple[Any, ...]]) -> None:
    for option, value in options.left.items():
        if value not in harmless.get(option, ()):
            named = f"{options.transform} with {option}={brief(value)}"
            raise unsupported(named, f"{options.transform} without it")
