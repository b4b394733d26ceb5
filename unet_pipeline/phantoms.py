"""Phantoms: small synthetic volumes with masks, the same for the same seed on every machine.

A body with two organs and a spine, in world millimetres (RAS+, origin in the body's middle). No
mirror or rotation maps it onto itself, so a flipped or swapped axis shows::

                 front
              .---------.
            /         2   `        1  large organ, right, above the middle
    right  |   .---.       |  left 2  small organ, left, in front and below the middle
           |  (  1  )      |       o  spine: bright, and not labelled
            `  `---'     /
              `---- o ---'
                 back
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.formats import nifti_file
from unet_pipeline.volume.header import header_of

LABELS = {0: "background", 1: "large organ", 2: "small organ"}
AXES = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1), "S": (2, 1)}
MISALIGNED_MM = (6.0, 0.0, 0.0)

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Phantom:
    """A volume and its mask.

    Attributes
    ----------
    image_XYZ
        int16 intensities.
    mask_XYZ
        uint8, values of ``LABELS``.
    affine
        Voxel index -> world mm (RAS+), shape (4, 4), of the image.
    mask_affine
        The same of the mask; another one if the mask is misaligned on purpose.
    """

    image_XYZ: NDArray[np.int16]
    mask_XYZ: NDArray[np.uint8]
    affine: Float
    mask_affine: Float


@dataclass(frozen=True)
class _Ellipsoid:
    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    intensity: float
    label: int

    def varied(self, rng: np.random.Generator) -> "_Ellipsoid":
        """Return a neighbour: moved by up to 3 mm, each radius changed by up to 15 %."""
        x, y, z = np.array(self.centre_mm) + rng.uniform(-3, 3, 3)
        a, b, c = np.array(self.radii_mm) * rng.uniform(0.85, 1.15, 3)
        intensity = self.intensity * rng.uniform(0.95, 1.05)
        return _Ellipsoid((x, y, z), (a, b, c), intensity, self.label)

    def level(self, world_mm: list[Float]) -> Float:
        """Return 0 in the centre, 1 on the surface, more outside."""
        parts = zip(world_mm, self.centre_mm, self.radii_mm, strict=True)
        return np.asarray(np.sqrt(sum(((w - c) / r) ** 2 for w, c, r in parts)))


_BODY = _Ellipsoid((0, 0, 0), (40, 33, 44), 400, 0)
_ORGANS = (
    _Ellipsoid((16, 2, 10), (17, 20, 15), 560, 1),
    _Ellipsoid((-17, 12, -12), (9, 8, 12), 680, 2),
    _Ellipsoid((-2, -24, 0), (6, 6, 40), 900, 0),
)


def make_phantom(
    seed: int,
    shape: Shape = (64, 56, 48),
    spacing_mm: Spacing = (1.5, 1.5, 2.0),
    axcodes: str = "RAS",
    tilt_deg: float = 0.0,
) -> Phantom:
    """Make a phantom.

    Parameters
    ----------
    seed
        Decides the anatomy, the noise and the slow brightness change across the volume.
    shape
        Voxels along each axis of the file.
    spacing_mm
        Voxel size in mm along each axis of the file.
    axcodes
        World direction that each axis of the file points to, e.g. ``LPS``.
    tilt_deg
        Rotation of the grid about the world's third axis, in degrees; the anatomy stays.
    """
    rng = np.random.default_rng(seed)
    affine = _affine(shape, spacing_mm, axcodes, tilt_deg)
    world_mm = _world_mm(shape, affine)
    body, *organs = (part.varied(rng) for part in (_BODY, *_ORGANS))
    inside = body.level(world_mm) <= 1
    image = np.where(inside, body.intensity, 0.0)
    mask_XYZ = np.zeros(shape, dtype=np.uint8)
    for organ in organs:
        within = (organ.level(world_mm) <= 1) & inside
        image[within] = organ.intensity
        mask_XYZ[within] = organ.label
    slope = rng.uniform(-0.15, 0.15, 3)
    field = 1 + sum(k * w / 45.0 for k, w in zip(slope, world_mm, strict=True))
    image = image * field + rng.normal(0, 45, shape)
    return Phantom(np.round(image).astype(np.int16), mask_XYZ, affine, affine)


_VARIANTS: tuple[tuple[Shape, Spacing, str, float], ...] = (
    ((64, 56, 48), (1.5, 1.5, 2.0), "RAS", 0.0),
    ((64, 56, 48), (1.5, 1.5, 2.0), "LPS", 0.0),
    ((44, 64, 56), (2.2, 1.4, 1.7), "SRA", 0.0),
    ((72, 60, 40), (1.3, 1.4, 2.5), "LAS", 8.0),
)


def phantom_cohort(
    n_cases: int, seed: int = 0, misaligned: bool = False
) -> Iterator[tuple[str, Phantom]]:
    """Yield phantoms of several shapes, spacings and orientations with their case names.

    Parameters
    ----------
    n_cases
        Number of cases.
    seed
        The phantoms' seeds are ``1000 * seed`` and on.
    misaligned
        Whether the last case's mask is moved by ``MISALIGNED_MM``, which the gate must find.
    """
    for index, variant in enumerate(islice(cycle(_VARIANTS), n_cases)):
        phantom = make_phantom(1000 * seed + index, *variant)
        if misaligned and index == n_cases - 1:
            phantom = misalign(phantom)
        yield f"phantom-{index + 1:02d}", phantom


def write_cohort(
    store: Store, prefix: str, n_cases: int, seed: int = 0, misaligned: bool = False
) -> list[str]:
    """Write a cohort's files, ``<prefix>/images/<name>.nii.gz`` and ``<prefix>/masks/...``.

    Returns
    -------
    list of str
        The case names.
    """
    names = []
    for name, phantom in phantom_cohort(n_cases, seed, misaligned):
        image = _encoded(phantom.image_XYZ, phantom.affine)
        store.write(join(prefix, "images", f"{name}.nii.gz"), image)
        mask = _encoded(phantom.mask_XYZ, phantom.mask_affine)
        store.write(join(prefix, "masks", f"{name}.nii.gz"), mask)
        names.append(name)
    return names


def turned_image(number: int, seed: int = 0) -> bytes:
    """Return the image of a cohort's case as a file whose patient lies the wrong way.

    Left is right and head is foot, and the header says nothing of it: no gate can see that.
    """
    *_, (_, phantom) = phantom_cohort(number, seed)
    return _encoded(phantom.image_XYZ[::-1, :, ::-1], phantom.affine)


def misalign(phantom: Phantom, shift_mm: Spacing = MISALIGNED_MM) -> Phantom:
    """Return the phantom with its mask's affine moved by ``shift_mm`` in world space."""
    moved = phantom.mask_affine.copy()
    moved[:3, 3] += shift_mm
    return Phantom(phantom.image_XYZ, phantom.mask_XYZ, phantom.affine, moved)


def _encoded(values_XYZ: NDArray[Any], affine: Float) -> bytes:
    x, y, z = values_XYZ.shape
    return nifti_file(values_XYZ, header_of((x, y, z), affine, values_XYZ.dtype))


def _affine(shape: Shape, spacing_mm: Spacing, axcodes: str, tilt_deg: float) -> Float:
    """Return the affine whose middle voxel lies at the world's origin."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(axcodes):
        world, sign = AXES[letter]
        affine[world, axis] = sign * spacing_mm[axis]
    cos, sin = np.cos(np.deg2rad(tilt_deg)), np.sin(np.deg2rad(tilt_deg))
    affine[:2, :3] = np.array([[cos, -sin], [sin, cos]]) @ affine[:2, :3]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def _world_mm(shape: Shape, affine: Float) -> list[Float]:
    """Return world x, y and z of every voxel, three arrays of ``shape``."""
    index = np.indices(shape, dtype=np.float64)
    return [
        sum((affine[row, axis] * index[axis] for axis in range(3)), start=affine[row, 3])
        for row in range(3)
    ]
