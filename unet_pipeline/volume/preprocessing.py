"""A bundle's ``preprocessing`` list, translated to steps.

Each supported transform becomes a step. A transform that is not in the table below is refused by
name, before any work.

To add a transform: a frozen dataclass with ``resolve`` (``steps.py``), and a line in
``_TRANSFORMS``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unet_pipeline.errors import RequestError
from unet_pipeline.volume.monai_steps import (
    CropForeground,
    Orient,
    PadDivisible,
    ScalePercentiles,
    ScaleRange,
    Space,
    Standardise,
    three,
)
from unet_pipeline.volume.nnunet_steps import CropNonzero, Permute, Respace
from unet_pipeline.volume.nnunet_values import Normalise, Scheme
from unet_pipeline.volume.steps import Nothing, Step


def parse_preprocessing(transforms: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """Translate a bundle's list of transform definitions.

    Raises
    ------
    RequestError
        ``transform_unsupported`` for a transform, or an option of one, that has no translation.
    """
    return tuple(_translate(dict(transform)) for transform in transforms)


_Arguments = dict[str, Any]


def _orient(a: _Arguments) -> Step:
    return Orient(str(a.pop("axcodes")))


def _space(a: _Arguments) -> Step:
    x, y, z = three(a.pop("pixdim"), float)
    return Space((x, y, z))


def _scale_range(a: _Arguments) -> Step:
    names = ("a_min", "a_max", "b_min", "b_max", "clip")
    return ScaleRange(**{name: a.pop(name) for name in names if name in a})


def _scale_percentiles(a: _Arguments) -> Step:
    names = ("lower", "upper", "b_min", "b_max", "clip", "channel_wise")
    return ScalePercentiles(**{name: a.pop(name) for name in names if name in a})


def _scale_all(a: _Arguments) -> Step:
    """Map the smallest value to ``minv`` and the largest to ``maxv``."""
    low, high = a.pop("minv", 0.0), a.pop("maxv", 1.0)
    return ScalePercentiles(0.0, 100.0, low, high, False, bool(a.pop("channel_wise", False)))


def _standardise(a: _Arguments) -> Step:
    def numbers(name: str) -> tuple[float, ...] | None:
        value = a.pop(name, None)
        return None if value is None else tuple(float(v) for v in np.atleast_1d(value))

    return Standardise(
        numbers("subtrahend"), numbers("divisor"),
        bool(a.pop("nonzero", False)), bool(a.pop("channel_wise", False)),
    )  # fmt: skip


def _crop(a: _Arguments) -> Step:
    return CropForeground(
        three(a.pop("margin", 0), int), three(a.pop("k_divisible", 1), int),
        bool(a.pop("allow_smaller", False)),
    )  # fmt: skip


def _pad(a: _Arguments) -> Step:
    return PadDivisible(three(a.pop("k"), int), str(a.pop("method", "symmetric")))


def _permute(a: _Arguments) -> Step:
    x, y, z = a.pop("source_axes")
    return Permute((x, y, z))


def _crop_nonzero(_: _Arguments) -> Step:
    return CropNonzero()


def _normalise(a: _Arguments) -> Step:
    return Normalise(tuple(Scheme(**scheme) for scheme in a.pop("schemes")))


def _respace(a: _Arguments) -> Step:
    x, y, z = a.pop("spacing_mm")
    return Respace((x, y, z), a.pop("cubic"), a.pop("separate"), a.pop("separate_scores"))


def _nothing(a: _Arguments) -> Step:
    a.clear()
    return Nothing()


# For each transform: its translation, and options that change nothing at these values.
_TRANSFORMS: dict[str, tuple[Callable[[_Arguments], Step], dict[str, tuple[Any, ...]]]] = {
    "Permute": (_permute, {}),
    "CropNonzero": (_crop_nonzero, {}),
    "Normalise": (_normalise, {}),
    "Respace": (_respace, {}),
    "LoadImaged": (_nothing, {}),
    "EnsureChannelFirstd": (_nothing, {}),
    "EnsureTyped": (_nothing, {}),
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
}  # fmt: skip
_ALWAYS_FINE = {"keys", "allow_missing_keys", "lazy", "_requires_", "_desc_"}


def _translate(transform: _Arguments) -> Step:
    target = str(transform.pop("_target_", "a transform without _target_"))
    name = target.rsplit(".", 1)[-1]
    if transform.pop("_disabled_", False) in (True, "true"):
        return Nothing()
    if name not in _TRANSFORMS:
        raise _unsupported(name, f"one of {', '.join(sorted(_TRANSFORMS))}")
    make, harmless = _TRANSFORMS[name]
    arguments = {key: value for key, value in transform.items() if key not in _ALWAYS_FINE}
    try:
        step = make(arguments)
    except (TypeError, ValueError, KeyError) as error:
        raise _unsupported(f"{name} with options that cannot be read", "MONAI's options") from error
    for option, value in arguments.items():
        if value not in harmless.get(option, ()):
            raise _unsupported(f"{name} with {option}={value!r}", f"{name} without it")
    return step


def _unsupported(found: str, wanted: str) -> RequestError:
    return RequestError(
        "transform_unsupported", found=f"preprocessing step {found}", wanted=wanted,
        remedy="Write the bundle's preprocessing with the supported transforms",
    )  # fmt: skip
