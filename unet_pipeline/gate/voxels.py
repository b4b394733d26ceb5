"""What the voxels of a mask say: labels, the field of view, and whether it lies on the body."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from unet_pipeline.gate.findings import Finding
from unet_pipeline.volume.counts import counts_per_slice, label_counts
from unet_pipeline.volume.disk_arrays import each_slab, let_go
from unet_pipeline.volume.grid import AXIS_LETTERS
from unet_pipeline.volume.labels import NEAR_WHOLE, as_labels

Array = npt.NDArray[Any]

_LARGEST_LABEL = 2**31 - 1
FAR_MM = 20.0  # from the body
WHOLE_FACE = 0.9  # share of a face that no structure fills, but an inverted mask does
CUT_SHARE = 0.5  # of a structure's largest cross-section, on a face
_NAMED = 8  # labels that a sentence names
_DIRECTIONS = {
    "L": "left", "R": "right", "P": "posterior", "A": "anterior", "I": "inferior", "S": "superior",
}  # fmt: skip
_BODY_VOXELS = 500_000
_SPECK_SHARE = 0.005  # of the largest part; less is noise in air
_AIR_PERCENTILE, _TOP_PERCENTILE = 1.0, 99.0
_OVER_AIR = 0.1  # of the range from air to the brightest tissue
_CLEAR_BODY = (0.01, 0.95)  # share of the volume


def check_mask_voxels(
    mask_XYZ: Array,
    declared: Collection[int] | None,
    spacing_mm: Sequence[float],
    *,
    axcodes: Sequence[str] = ("R", "A", "S"),
) -> list[Finding]:
    """Check the values of a mask, and where it meets the border of the volume.

    Codes that fail: ``mask_not_integer``, ``labels_undeclared``. That warns: ``mask_empty``.
    ``mask_at_border`` warns of a foreground that fills a whole face, and is a remark where the
    field of view cuts a structure.

    Parameters
    ----------
    declared
        Labels that the mask may hold; None for any.
    spacing_mm
        Distance of voxels along each axis.
    axcodes
        World direction that each axis points to.
    """
    odd = _not_whole(mask_XYZ)
    if odd:
        return [
            Finding(
                "mask_not_integer",
                "fail",
                f"{odd:,} mask voxels whose value is not a whole number",
                "label numbers",
                "Resample the mask with nearest neighbour, or threshold it",
                "mask",
            )
        ]
    mask_XYZ = as_labels(mask_XYZ)
    counts = label_counts(mask_XYZ)
    unknown = {} if declared is None else {k: n for k, n in counts.items() if k not in declared}
    if unknown or min(counts) < 0:
        return [_undeclared(unknown or {k: n for k, n in counts.items() if k < 0}, declared)]
    if set(counts) == {0}:
        return [
            Finding(
                "mask_empty",
                "warn",
                "a mask without any label",
                "a labelled structure",
                "Look if there is nothing to label, or the mask was never drawn",
                "mask",
            )
        ]
    return list(_at_border(mask_XYZ, spacing_mm, axcodes))


def check_body(image_XYZ: Array, mask_XYZ: Array, spacing_mm: Sequence[float]) -> list[Finding]:
    """Check that no part of a mask lies wholly far outside the body; ``label_outside_body`` warns.

    The body is what is brighter than air by a tenth of the range between air (the 1st percentile)
    and the brightest tissue (the 99th), so that dim tissue belongs to it. Where this is nearly
    all of the volume or nearly nothing there is no opinion. Parts of it under half a percent of
    the largest are noise.

    Parameters
    ----------
    image_XYZ, mask_XYZ
        Values as stored and labels, of one shape.
    spacing_mm
        Distance of voxels along each axis.
    """
    steps = _steps(image_XYZ.shape, spacing_mm)
    thin = image_XYZ[tuple(slice(None, None, step) for step in steps)]
    air, top = np.percentile(thin, (_AIR_PERCENTILE, _TOP_PERCENTILE))
    body = thin > air + _OVER_AIR * (top - air)
    low, high = _CLEAR_BODY
    if not top > air or not low < body.mean() < high:
        return []
    body = _without_specks(body)
    parts, count = ndimage.label(_thinned_mask(mask_XYZ, steps, body.shape), np.ones((3, 3, 3)))
    if len(np.unique(parts[body & (parts > 0)])) == count:  # every part lies on the body
        return []
    sampling = [step * s for step, s in zip(steps, spacing_mm, strict=True)]
    distance_mm = ndimage.distance_transform_edt(~body, sampling=sampling)
    nearest = ndimage.minimum(distance_mm, parts, range(1, count + 1))
    far = [mm for mm in np.atleast_1d(nearest) if mm > FAR_MM]
    if not far:
        return []
    return [
        Finding(
            "label_outside_body",
            "warn",
            f"{len(far)} of {count} parts of the mask up to {max(far):.0f} mm outside the body",
            f"labels on the body or within {FAR_MM:g} mm of it",
            "Look at the mask: it may hold stray voxels, or belong to another image",
            "mask",
            float(max(far)),
            FAR_MM,
        )
    ]


def _not_whole(mask_XYZ: Array) -> int:
    if mask_XYZ.dtype.kind in "iu":
        return 0
    parts = each_slab(mask_XYZ, places=[slice(z, z + 1) for z in range(mask_XYZ.shape[2])])
    return sum(int(np.count_nonzero(~_is_label(mask_XYZ[..., part]))) for part in parts)


def _is_label(values: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(values - np.rint(values)) <= NEAR_WHOLE
    return np.asarray(near & (np.abs(values) <= _LARGEST_LABEL))


def _undeclared(unknown: dict[int, int], declared: Collection[int] | None) -> Finding:
    named = ", ".join(map(str, sorted(unknown)[:_NAMED])) + (
        ", ..." if len(unknown) > _NAMED else ""
    )
    wanted = "labels of 0 or more" if declared is None else f"labels {_span(declared)}"
    return Finding(
        "labels_undeclared",
        "fail",
        f"{sum(unknown.values()):,} mask voxels with the labels {named}",
        f"{wanted}, as the network gives" if declared is not None else wanted,
        "Renumber the labels of the mask, or choose the network they belong to",
        "mask",
    )


def _span(labels: Collection[int]) -> str:
    low, high = min(labels), max(labels)
    return f"{low} to {high}" if len(labels) > 1 else str(low)


def _at_border(
    mask_XYZ: Array, spacing_mm: Sequence[float], axcodes: Sequence[str]
) -> Iterator[Finding]:
    whole, cut = [], []
    for axis, areas in enumerate(counts_per_slice(mask_XYZ)):
        size = len(areas)
        if size < 2:
            continue
        others = tuple(a for a in range(3) if a != axis)
        for index in (0, size - 1):
            side = _side(axcodes[axis], index > 0)
            if areas[index] >= WHOLE_FACE * mask_XYZ.size / size:
                whole.append(side)
            elif areas[index] >= CUT_SHARE * areas.max():
                mm2 = areas[index] * math.prod(spacing_mm[a] for a in others)
                cut.append(f"{side} ({mm2:,.0f} mm\N{SUPERSCRIPT TWO})")
    if whole:
        yield Finding(
            "mask_at_border",
            "warn",
            f"a mask that fills faces of the volume: {', '.join(whole)}",
            "background around the structure",
            "Look if the mask is inverted, or padding was labelled",
            "mask",
        )
    elif cut:
        yield Finding(
            "mask_at_border",
            "pass",
            f"a structure that the field of view cuts: {', '.join(cut)}",
            "the whole structure",
            "Nothing to do; volumes of the structure are too small",
            "mask",
        )


def _side(axcode: str, end: bool) -> str:
    """Return the anatomical name of a face: of an axis that points to ``axcode``, start or end."""
    pair = next(pair for pair in AXIS_LETTERS if axcode in pair)
    letter = axcode if end else pair.replace(axcode, "")
    return _DIRECTIONS[letter]


def _steps(shape: tuple[int, ...], spacing_mm: Sequence[float]) -> list[int]:
    """Return how many voxels to take for one along each axis: blocks as near to cubes as can be.

    So slices that are far apart stay, and no block is longer than it must be.
    """
    steps = [1] * len(shape)
    while math.prod(math.ceil(n / step) for n, step in zip(shape, steps, strict=True)) > (
        _BODY_VOXELS
    ):
        divisible = [axis for axis, n in enumerate(shape) if steps[axis] < n]
        steps[min(divisible, key=lambda axis: steps[axis] * spacing_mm[axis])] += 1
    return steps


def _without_specks(body: Array) -> Array:
    parts, count = ndimage.label(body)
    voxels = np.bincount(parts.ravel(), minlength=count + 1)
    voxels[0] = 0
    kept: Array = (voxels >= _SPECK_SHARE * voxels.max())[parts] & body
    return kept


def _thinned_mask(mask_XYZ: Array, steps: Sequence[int], shape: tuple[int, ...]) -> Array:
    """Return where any voxel of a block of ``steps`` voxels has a label."""
    x, y, depth = steps
    if (x, y, depth) == (1, 1, 1):
        return np.asarray(mask_XYZ != 0)
    result = np.zeros(shape, bool)
    for z in range(shape[2]):
        block = mask_XYZ[:, :, z * depth : (z + 1) * depth]
        slab = (block != 0).any(axis=2)
        let_go(block)
        pad = [(0, shape[0] * x - slab.shape[0]), (0, shape[1] * y - slab.shape[1])]
        blocks = np.pad(slab, pad).reshape(shape[0], x, shape[1], y)
        result[:, :, z] = blocks.any(axis=(1, 3))
    return result
