"""What the metadata of OME-Zarr say of an image: its axes, and where a level lies in the world.

https://ngff.openmicroscopy.org/0.5, and RFC 4 for the orientation of axes. Whatever else stands in
the metadata leaves no trace.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_pipeline.errors import CaseError
from unet_pipeline.storage.names import is_safe
from unet_pipeline.volume.formats.zarr_bytes import damaged
from unet_pipeline.volume.header import Remark

_SPACE = ("x", "y", "z")
_MM = {
    "angstrom": 1e-7, "nanometer": 1e-6, "micrometer": 1e-3, "millimeter": 1.0, "centimeter": 10.0,
    "decimeter": 100.0, "meter": 1e3,
}  # fmt: skip
DIRECTIONS = {
    "left-to-right": (0, 1), "right-to-left": (0, -1),
    "posterior-to-anterior": (1, 1), "anterior-to-posterior": (1, -1),
    "inferior-to-superior": (2, 1), "superior-to-inferior": (2, -1),
}  # fmt: skip
NOT_STATED = Remark(
    "orientation_assumed", "whose metadata do not say which way the body lies",
    "an orientation of each axis (OME-NGFF, RFC 4)",
    "x is taken to go to the patient's right, y to the front, z to the head",
)  # fmt: skip
_NO_UNIT = Remark(
    "unit_unknown", "without a unit of length", "millimetres", "millimetres are taken"
)


@dataclass(frozen=True)
class Level:
    """One level of an image.

    Attributes
    ----------
    path
        Of its array, below the image.
    space
        Which axis of the array is x, y and z; None for the z of an image that has none.
    beside
        The other axes of the array, time and channels.
    """

    path: str
    space: tuple[int, int, int | None]
    beside: tuple[int, ...]
    affine: npt.NDArray[np.float64]
    remarks: tuple[Remark, ...]


def parse_level(attributes: Mapping[str, Any], wanted: int) -> Level:
    """Return a level of the first image that the attributes of a group describe.

    Raises
    ------
    CaseError
        ``level_missing``, ``transform_unsupported``, ``unit_unsupported``.
    KeyError, TypeError, ValueError
        For anything that is no such description.
    """
    image = attributes["multiscales"][0]
    version = attributes.get("version", image.get("version", "0.4"))
    if version not in {"0.4", "0.5"}:
        raise damaged("not_ome_zarr", "metadata of another version")
    levels = image["datasets"]
    if not isinstance(levels, list) or wanted >= len(levels):
        raise CaseError(
            "level_missing",
            found=f"{len(levels)} levels, from 0",
            wanted=f"level {wanted}, as --level asks for",
            remedy="Give a level that every image has",
        )
    axes, dataset = image["axes"], levels[wanted]
    path = dataset["path"]
    if not isinstance(path, str) or not is_safe(path):
        raise ValueError("no path below the group")
    names = [axis["name"] for axis in axes]
    if len(set(names)) != len(names) or not {"x", "y"} <= set(names):
        raise ValueError("axes without x and y")
    scale, shift = np.ones(len(axes)), np.zeros(len(axes))
    for transforms in (dataset["coordinateTransformations"], image.get(_TRANSFORMS, [])):
        for transform in transforms:
            scale, shift = _then(transform, scale, shift)
    x, y, z = (names.index(name) if name in names else None for name in _SPACE)
    if x is None or y is None:
        raise ValueError("axes without x and y")
    beside = tuple(axis for axis in range(len(axes)) if axis not in (x, y, z))
    affine, remarks = _affine([None if a is None else axes[a] for a in (x, y, z)],
                              [(1.0, 0.0) if a is None else (scale[a], shift[a])
                               for a in (x, y, z)])  # fmt: skip
    return Level(path, (x, y, z), beside, affine, remarks)


_TRANSFORMS = "coordinateTransformations"


def _then(
    transform: Mapping[str, Any], scale: npt.NDArray[np.float64], shift: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    kind = transform["type"]
    if kind == "identity":
        return scale, shift
    if kind not in {"scale", "translation"} or "path" in transform:
        raise CaseError(
            "transform_unsupported",
            found="a place in the world that is given otherwise",
            wanted="numbers of a scale and a translation",
            remedy="Write the image with OME-Zarr 0.4 or 0.5, resampled along its axes",
        )
    numbers = transform[kind]
    if len(numbers) != len(scale) or not all(type(n) in (int, float) for n in numbers):
        raise ValueError("no number for each axis")
    values = np.array([float(n) for n in numbers])
    return (scale * values, shift * values) if kind == "scale" else (scale, shift + values)


def _affine(
    axes: Sequence[Mapping[str, Any] | None], numbers: Sequence[tuple[float, float]]
) -> tuple[npt.NDArray[np.float64], tuple[Remark, ...]]:
    """Return the affine to RAS+ in mm from the axes x, y and z, and what was assumed."""
    ways = [None if axis is None else _direction(axis) for axis in axes]
    stated = all(way is not None for axis, way in zip(axes, ways, strict=True) if axis is not None)
    here = [way if way and stated else (index, 1) for index, way in enumerate(ways)]
    if len({world for world, _ in here}) != 3:
        raise ValueError("two axes of one direction")
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, (world, sign), (step, start)) in enumerate(
        zip(axes, here, numbers, strict=True)
    ):
        mm = 1.0 if axis is None else _mm(axis)
        affine[world, column], affine[world, 3] = sign * mm * step, sign * mm * start
    no_unit = any(axis is not None and axis.get("unit") is None for axis in axes)
    return affine, (*(() if stated else (NOT_STATED,)), *((_NO_UNIT,) if no_unit else ()))


def _direction(axis: Mapping[str, Any]) -> tuple[int, int] | None:
    stated = axis.get("orientation")
    return None if stated is None else DIRECTIONS.get(stated["value"])


def _mm(axis: Mapping[str, Any]) -> float:
    unit = axis.get("unit")
    if unit is None:
        return 1.0
    if unit not in _MM:
        raise CaseError(
            "unit_unsupported",
            found="axes in a unit that is not known here",
            wanted=", ".join(_MM),
            remedy="Write the image in one of these",
        )
    return _MM[unit]
