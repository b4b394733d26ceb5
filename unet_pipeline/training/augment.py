"""Light augmentation of a batch of crops: small rotations and zooms, intensity changes.

No flips: left and right differ in anatomy, and labels may depend on it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Matrices = NDArray[np.float64]


@dataclass(frozen=True)
class Augmentation:
    """Largest change of each kind; a draw is uniform between none and the largest.

    Attributes
    ----------
    rotation_deg
        Rotation about each axis, in degrees, either way.
    zoom
        Relative change of size, either way.
    scale, shift, noise
        Relative change of the intensities, offset, and standard deviation of Gaussian noise, the
        latter two in units of the normalised intensities.
    """

    rotation_deg: float = 10.0
    zoom: float = 0.1
    scale: float = 0.1
    shift: float = 0.1
    noise: float = 0.1

    def __call__(
        self,
        images_BCXYZ: Tensor,
        labels_BXYZ: Tensor,
        spacing_mm: tuple[float, float, float],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return the batch, each crop changed in its own way; shapes and types stay."""
        matrices = np.stack([self._matrix(rng) for _ in images_BCXYZ])
        images_BCXYZ, labels_BXYZ = moved(images_BCXYZ, labels_BXYZ, matrices, spacing_mm)
        return self._change_intensities(images_BCXYZ, rng), labels_BXYZ

    def _matrix(self, rng: np.random.Generator) -> Matrices:
        radians = np.deg2rad(rng.uniform(-self.rotation_deg, self.rotation_deg, 3))
        matrix = np.eye(3) * (1 + rng.uniform(-self.zoom, self.zoom))
        for axis, angle in enumerate(radians):
            matrix = matrix @ rotation(axis, float(angle))
        return matrix

    def _change_intensities(self, images_BCXYZ: Tensor, rng: np.random.Generator) -> Tensor:
        def per_crop(values: NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(values.reshape(-1, 1, 1, 1, 1)).to(images_BCXYZ)

        count = len(images_BCXYZ)
        scale = per_crop(1 + rng.uniform(-self.scale, self.scale, count))
        shift = per_crop(rng.uniform(-self.shift, self.shift, count))
        sigma = per_crop(rng.uniform(0, self.noise, count))
        white = rng.standard_normal(tuple(images_BCXYZ.shape), dtype=np.float32)
        return images_BCXYZ * scale + shift + sigma * torch.from_numpy(white).to(images_BCXYZ)


def moved(
    images_BCXYZ: Tensor,
    labels_BXYZ: Tensor,
    matrices_B33: Matrices,
    spacing_mm: tuple[float, float, float],
) -> tuple[Tensor, Tensor]:
    """Resample each crop about its middle: images linearly, labels to the nearest voxel.

    Parameters
    ----------
    matrices_B33
        For each crop, where a point of the result (mm from the middle) is read in the crop.
    spacing_mm
        Voxel size; beyond the crop's edge, the voxel at the edge is repeated.
    """
    # ``affine_grid`` counts in half-sizes of the crop and names the axes in reverse.
    half_mm = np.array(labels_BXYZ.shape[1:]) * spacing_mm / 2
    relative = matrices_B33 * half_mm / half_mm[:, None]
    theta = torch.from_numpy(relative[:, ::-1, ::-1].copy()).to(images_BCXYZ)
    shape = list(images_BCXYZ.shape)
    grid = functional.affine_grid(functional.pad(theta, (0, 1)), shape, align_corners=False)
    images = functional.grid_sample(
        images_BCXYZ, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    labels = functional.grid_sample(
        labels_BXYZ[:, None].to(images_BCXYZ.dtype),
        grid,
        mode="nearest",
        padding_mode="border",
        align_corners=False,
    )
    return images, labels[:, 0].to(labels_BXYZ.dtype)


def rotation(axis: int, radians: float) -> Matrices:
    """Return the 3x3 rotation about one axis."""
    one, two = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[one, one] = matrix[two, two] = np.cos(radians)
    matrix[one, two], matrix[two, one] = -np.sin(radians), np.sin(radians)
    return matrix
