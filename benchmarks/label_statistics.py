"""Hold the numbers about labels against SimpleITK's, on real pairs, and surfaces against geometry.

    python -m benchmarks.label_statistics DATA
    python -m benchmarks.label_statistics --ellipsoids

DATA is the folder of real volumes that the tests use. SimpleITK reads the files itself; parts are
of its connected components, percentiles of NumPy. Prints tables in Markdown.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy.special import ellipeinc, ellipkinc
from scipy.stats import special_ortho_group

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from planting import sound_pairs

from unet_pipeline.evaluation.label_statistics import label_statistics
from unet_pipeline.evaluation.surface_area import surface_areas_mm2
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.decoding import read_volume
from unet_pipeline.volume.labels import as_labels, without_steps

SPACINGS_MM = ((1, 1, 1), (0.7, 0.7, 2.5), (0.8, 0.8, 5), (0.5, 2, 2))
HALVES_MM = {"ball": (50, 50, 50), "egg": (50, 30, 12), "plate": (55, 55, 8), "rod": (55, 8, 8)}
TURNS = 6
Numbers = Mapping[str, float | str]


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--ellipsoids", action="store_true")
    options = parser.parse_args()
    if options.ellipsoids:
        print_ellipsoids()
    else:
        print_pairs(options.data)


def print_pairs(data: Path) -> None:
    """Print the largest difference in each column over all labels of all pairs."""
    worst: dict[str, tuple[float, str]] = {}
    labels, sides = Counter[str](), Counter[bool]()
    for name, image, mask in sound_pairs(data):
        for label, ours, theirs in both(image, mask):
            labels[name] += 1
            sides[bool(ours["cut"]) == theirs.pop("cut")] += 1
            for name_of_column, wanted in theirs.items():
                column = name_of_column
                away = abs(float(ours[column]) - wanted)
                unit = 1.0 if column.endswith("_mm") else max(abs(wanted), 1e-12)
                found = (away / unit if away else 0.0, f"{name}, label {label}")
                if column == "surface_mm2":
                    column = f"surface_mm2, {'cubes' if is_cubic(mask) else 'other voxels'}"
                worst[column] = max(worst.get(column, (0.0, "")), found)
    print(f"{len(labels)} pairs, {sum(labels.values())} labels; cut: {dict(sides)}\n")
    print("| column | largest difference | where |\n| --- | ---: | --- |")
    for column, (away, where) in worst.items():
        print(f"| `{column}` | {away:.1e}{' mm' if column.endswith('_mm') else ''} | {where} |")


def is_cubic(mask: Path) -> bool:
    """Say whether the voxels of a file are cubes, but for the rounding of float32."""
    spacing_mm = sitk.ReadImage(str(mask)).GetSpacing()
    return max(spacing_mm) < min(spacing_mm) * (1 + 1e-6)


def both(image: Path, mask: Path) -> Iterator[tuple[int, Numbers, dict[str, float]]]:
    """Yield each label of a pair with our numbers and the others'."""
    views = [read_volume(Store(), str(path), role="x", budget_bytes=10**10).view
             for path in (image, mask)]  # fmt: skip
    header = views[1].header
    step = abs(header.slope) if header.dtype.kind in "iu" else 0.0
    labels_XYZ = as_labels(without_steps(views[1].values(), step))
    numbers = [int(one) for one in np.unique(labels_XYZ) if one > 0]
    ours = label_statistics(labels_XYZ, header.grid, numbers, [views[0]])
    theirs = sitk.Cast(sitk.Round(sitk.ReadImage(str(mask), sitk.sitkFloat64)), sitk.sitkUInt16)
    values = sitk.ReadImage(str(image), sitk.sitkFloat64)
    values.CopyInformation(theirs)
    found = sitk.LabelIntensityStatisticsImageFilter()
    found.Execute(theirs, values)
    for number in numbers:
        yield number, ours[str(number)], _theirs(found, theirs, values, number)


def _theirs(found: Any, labels: Any, values: Any, number: int) -> dict[str, float]:
    x, y, z = found.GetCentroid(number)
    start, size = np.reshape(found.GetBoundingBox(number), (2, 3))
    ends = [(first - 0.5, first + count - 0.5) for first, count in zip(start, size, strict=True)]
    corners = [labels.TransformContinuousIndexToPhysicalPoint(one) for one in product(*ends)]
    corners_mm = np.array(corners) * (-1, -1, 1)
    under = sitk.GetArrayViewFromImage(values)[sitk.GetArrayViewFromImage(labels) == number]
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(labels == number, True))
    sizes = np.bincount(sitk.GetArrayViewFromImage(parts).ravel())[1:]
    mm = dict(zip("xyz", zip(corners_mm.min(axis=0), corners_mm.max(axis=0), strict=True),
                  strict=True))  # fmt: skip
    return {
        "voxels": found.GetNumberOfPixels(number),
        "volume_ml": found.GetPhysicalSize(number) / 1000,
        "surface_mm2": found.GetPerimeter(number),
        "parts": len(sizes),
        "largest_part": sizes[0] / sizes.sum(),
        "centroid_x_mm": -x,
        "centroid_y_mm": -y,
        "centroid_z_mm": z,
        **{f"{axis}_{end}_mm": mm[axis][i] for i, end in enumerate(("min", "max")) for axis in mm},
        "mean": found.GetMean(number),
        "sd": found.GetStandardDeviation(number) if len(under) > 1 else 0.0,
        **dict(zip(("p5", "median", "p95"), np.percentile(under, (5, 50, 95)), strict=True)),
        "cut": found.GetNumberOfPixelsOnBorder(number) > 0,
    }


def print_ellipsoids() -> None:
    """Print the largest error of the surface of ellipsoids that are turned in several ways."""
    print("| voxels, mm | shape | here | SimpleITK |\n| --- | --- | ---: | ---: |")
    for spacing_mm, (shape, halves_mm) in product(SPACINGS_MM, HALVES_MM.items()):
        errors = []
        for seed in range(TURNS):
            labels_XYZ = _ellipsoid(spacing_mm, halves_mm, seed)
            image = sitk.GetImageFromArray(np.ascontiguousarray(labels_XYZ.T))
            image.SetSpacing([float(one) for one in spacing_mm])
            found = sitk.LabelShapeStatisticsImageFilter()
            found.Execute(image)
            ours = surface_areas_mm2(labels_XYZ, np.diag(spacing_mm).astype(float))[1]
            errors.append(np.divide((ours, found.GetPerimeter(1)), _area_mm2(halves_mm)) - 1)
        here, other = np.abs(errors).max(axis=0)
        size = " x ".join(map(str, spacing_mm))
        print(f"| {size} | {shape} | {here:.1%} | {other:.1%} |")


def _ellipsoid(spacing_mm: tuple[float, ...], halves_mm: tuple[float, ...], seed: int) -> Any:
    shape = [int(120 / one) + 5 for one in spacing_mm]
    places_mm = (np.moveaxis(np.indices(shape), 0, -1) - np.divide(shape, 2) + 0.37) * spacing_mm
    turn = special_ortho_group.rvs(3, random_state=seed)
    return (((places_mm @ turn / halves_mm) ** 2).sum(-1) < 1).astype(np.uint8)


def _area_mm2(halves_mm: tuple[float, ...]) -> float:
    """Return the surface of an ellipsoid (Legendre)."""
    c, b, a = sorted(halves_mm)
    if a == c:
        return float(4 * np.pi * a * a)
    phi, k2 = np.arccos(c / a), a * a * (b * b - c * c) / (b * b * (a * a - c * c))
    part = ellipeinc(phi, k2) * np.sin(phi) ** 2 + ellipkinc(phi, k2) * np.cos(phi) ** 2
    return float(2 * np.pi * (c * c + a * b / np.sin(phi) * part))


if __name__ == "__main__":
    main()
