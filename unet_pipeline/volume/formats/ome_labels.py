"""Label maps as OME-Zarr 0.5 (Zarr 3): a pyramid of chunks, encoded one after the other.

Axes keep the order and the direction that the voxels have, and say by RFC 4 where they go; so a
label map lies on its image voxel for voxel, in readers that know that RFC and in those that do not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from numcodecs import zstd

from unet_pipeline.errors import CaseError
from unet_pipeline.records import json_bytes
from unet_pipeline.storage.label_maps import Objects
from unet_pipeline.tiling.box import Index3, index3
from unet_pipeline.volume.disk_arrays import let_go
from unet_pipeline.volume.formats.ome_metadata import DIRECTIONS
from unet_pipeline.volume.formats.protocol import NO_LEGEND, Legend
from unet_pipeline.volume.grid import VoxelGrid, closest_axes
from unet_pipeline.volume.header import Header

SMALL_ENOUGH = 256  # voxels along the longest axis of the coarsest level
_CHUNK, _CHUNK_OF_SLICE = 128, 512  # voxels along an axis: of a volume, and of a single slice
_ZSTD_LEVEL = 3
_ALLOWED_VOXELS = 1e-3  # that a corner may be off: headers in float32 are not exact
_WAYS = {towards: name for name, towards in DIRECTIONS.items()}


class OmeLabels:
    """Label maps of OME-Zarr 0.5, with names and colours of their labels."""

    def check(self, header: Header) -> None:
        """Refuse a grid that is oblique to the axes of the world.

        Raises
        ------
        CaseError
            ``grid_not_axis_aligned``.
        """
        _along_the_world(header.grid)

    def encode(
        self, values_XYZ: npt.NDArray[Any], like: Header, legend: Legend = NO_LEGEND
    ) -> Objects:
        """Return the chunks of each level, with its metadata behind them; then those of the image.

        Every chunk is stored, also where it is all background: so a copy that is not complete can
        be told from a whole one. Raises as ``check``.
        """
        return _Objects(values_XYZ, like, legend)


@dataclass(frozen=True)
class _Axis:
    """An axis in space: its name, where it goes, and where its voxels lie along it."""

    name: str
    way: str
    step_mm: float
    start_mm: float

    def as_dict(self) -> dict[str, Any]:
        towards = {"type": "anatomical", "value": self.way}
        return {"name": self.name, "type": "space", "unit": "millimeter", "orientation": towards}


@dataclass(frozen=True)
class _Objects:
    """The objects of a label map, encoded whenever they are gone through."""

    values_XYZ: npt.NDArray[Any]
    like: Header
    legend: Legend

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        axes = _along_the_world(self.like.grid)
        levels = steps_of_levels(self.like.grid)
        flat = self.like.flat and _is_assumed_slice(self.like.grid)
        for number, (x, y, z) in enumerate(levels):
            level_ZYX = self.values_XYZ[::x, ::y, ::z].T
            level = level_ZYX[0] if flat else level_ZYX
            for name, data in _array(level, "yx" if flat else "zyx"):
                yield f"{number}/{name}", data
        yield "zarr.json", _root(axes[:2] if flat else axes, levels, self.legend)


def steps_of_levels(grid: VoxelGrid) -> list[Index3]:
    """Return how many voxels of the finest level each voxel of a level stands for, level by level.

    Each level takes every second voxel of the one before, along the axes that are finest; so voxels
    become cubes before they become larger. The label of a voxel is that of a voxel of the image.
    """
    step, levels = (1, 1, 1), [(1, 1, 1)]
    while max(_shape(grid.shape, step)) > SMALL_ENOUGH:
        shape, mm = _shape(grid.shape, step), np.multiply(grid.spacing_mm, step)
        finest = min(one for one, n in zip(mm, shape, strict=True) if n > 1)
        step = index3(
            old * 2 if n > 1 and one < 2 * finest else old
            for old, n, one in zip(step, shape, mm, strict=True)
        )
        levels.append(step)
    return levels


def _shape(shape: Index3, step: Index3) -> Index3:
    return index3(-(-n // one) for n, one in zip(shape, step, strict=True))


def _along_the_world(grid: VoxelGrid) -> list[_Axis]:
    """Return the axes x, y and z of a grid: OME-Zarr 0.5 has a scale and a translation for each."""
    ways = closest_axes(grid.affine[:3, :3])
    plain = np.zeros((3, 3))
    for column, (world, _) in enumerate(ways):
        plain[world, column] = grid.affine[world, column]
    aside_mm = np.abs(grid.affine[:3, :3] - plain) @ (np.array(grid.shape) - 1.0)
    aside_voxels = float(np.linalg.norm(aside_mm)) / min(grid.spacing_mm)
    if aside_voxels > _ALLOWED_VOXELS:
        raise CaseError(
            "grid_not_axis_aligned",
            found=f"voxels that lie aslant in the world, by {aside_voxels:,.3g} voxels over the "
            "volume",
            wanted="axes along those of the world, as OME-Zarr 0.5 has scale and translation alone",
            remedy="Write the label maps as NIfTI (--output-format nifti)",
        )
    return [
        _Axis(
            name,
            _WAYS[world, sign],
            abs(float(grid.affine[world, column])),
            sign * float(grid.affine[world, 3]) + 0.0,  # never -0.0
        )
        for column, (name, (world, sign)) in enumerate(zip("xyz", ways, strict=True))
    ]


def _is_assumed_slice(grid: VoxelGrid) -> bool:
    """Say whether the third axis of a slice is as readers take it who find two axes."""
    return bool((grid.affine[:, 2] == (0, 0, 1, 0)).all() and grid.affine[2, 3] == 0)


def _array(level: npt.NDArray[Any], axes: str) -> Iterator[tuple[str, bytes]]:
    most = _CHUNK if min(level.shape) > 1 and len(axes) == 3 else _CHUNK_OF_SLICE
    chunks = tuple(min(n, most) for n in level.shape)
    dtype = level.dtype.newbyteorder("<")
    starts = [range(0, n, chunk) for n, chunk in zip(level.shape, chunks, strict=True)]
    for place in product(*starts):
        part = level[tuple(slice(a, a + n) for a, n in zip(place, chunks, strict=True))]
        whole = np.zeros(chunks, dtype)
        whole[tuple(map(slice, part.shape))] = part
        let_go(part)
        name = "/".join(str(a // n) for a, n in zip(place, chunks, strict=True))
        yield f"c/{name}", bytes(zstd.compress(whole, _ZSTD_LEVEL))
    yield "zarr.json", json_bytes(_array_metadata(level, chunks, axes))


def _array_metadata(level: npt.NDArray[Any], chunks: tuple[int, ...], axes: str) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(level.shape),
        "data_type": level.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": False}},
        ],
        "attributes": {},
        "dimension_names": list(axes),
    }


def _root(axes: list[_Axis], levels: list[Index3], legend: Legend) -> bytes:
    """Return the metadata of the image. A voxel of a level lies where the one lies that it is."""
    start = [axis.start_mm for axis in axes][::-1]
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": [
                {"type": "scale", "scale": _scale(axes, step)},
                {"type": "translation", "translation": start},
            ],
        }
        for number, step in enumerate(levels)
    ]
    image = {"axes": [a.as_dict() for a in axes[::-1]], "datasets": datasets, "type": "nearest"}
    ome = {"version": "0.5", "multiscales": [image], "image-label": _label(legend)}
    return json_bytes({"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}})


def _scale(axes: list[_Axis], step: Index3) -> list[float]:
    return [axis.step_mm * n for axis, n in zip(axes, step, strict=False)][::-1]


def _label(legend: Legend) -> dict[str, Any]:
    colours = [{"label-value": 0, "rgba": [0, 0, 0, 0]}]
    for number, colour in sorted(legend.colours.items()):
        colours.append({"label-value": number, "rgba": [*colour, 255]})
    names = [{"label-value": one, "name": name} for one, name in sorted(legend.names.items())]
    return {"colors": colours, **({"properties": names} if names else {})}
