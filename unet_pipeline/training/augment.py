"""Augmentation of a batch of crops: rotation, zoom, flips, and what scanners do to intensities.

The set is that of nnU-Net (Isensee et al. 2021, supplement 4). No axis is flipped unless it is
named: left and right differ in anatomy, and labels may depend on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from monai.networks.layers.convutils import gaussian_1d
from monai.networks.layers.simplelayers import separable_filtering
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from unet_pipeline.choices import AugmentationName

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
        Relative change of the intensities (contrast), offset (brightness), and standard deviation
        of Gaussian noise, the latter two in units of the normalised intensities.
    gamma
        Of the exponent, which is between 1 / (1 + gamma) and 1 + gamma; mean and deviation stay.
    blur
        Standard deviation of a Gaussian blur, in voxels.
    coarse
        How much coarser the voxels are that the crop is sampled to and back; 1 is half as many.
    share
        Share of the crops that gamma, blur and coarse voxels each change.
    flips
        Axes of the model grid (0, 1, 2) that half of the crops each are flipped along.
    """

    rotation_deg: float = 10.0
    zoom: float = 0.1
    scale: float = 0.1
    shift: float = 0.1
    noise: float = 0.1
    gamma: float = 0.0
    blur: float = 0.0
    coarse: float = 0.0
    share: float = 0.25
    flips: tuple[int, ...] = ()

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
        images_BCXYZ = torch.stack([self._degraded(crop, rng) for crop in images_BCXYZ])
        return self._change_intensities(images_BCXYZ, rng), labels_BXYZ

    def _matrix(self, rng: np.random.Generator) -> Matrices:
        radians = np.deg2rad(rng.uniform(-self.rotation_deg, self.rotation_deg, 3))
        matrix = np.eye(3) * (1 + rng.uniform(-self.zoom, self.zoom))
        for axis, angle in enumerate(radians):
            matrix = matrix @ rotation(axis, float(angle))
        for axis in self.flips:
            matrix[axis] *= rng.choice((-1, 1))
        return matrix

    def _degraded(self, image_CXYZ: Tensor, rng: np.random.Generator) -> Tensor:
        chosen = rng.random(3) < self.share
        exponent, sigma, coarser = rng.uniform(0, (self.gamma, self.blur, self.coarse))
        if chosen[0] and exponent:
            image_CXYZ = with_gamma(image_CXYZ, (1 + exponent) ** rng.choice((-1, 1)))
        if chosen[1] and sigma:
            image_CXYZ = separable_filtering(image_CXYZ[None], [gaussian_1d(sigma)] * 3)[0]
        if chosen[2] and coarser:
            image_CXYZ = with_coarse_voxels(image_CXYZ, 1 + coarser)
        return image_CXYZ

    def _change_intensities(self, images_BCXYZ: Tensor, rng: np.random.Generator) -> Tensor:
        def per_crop(values: NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(values.reshape(-1, 1, 1, 1, 1)).to(images_BCXYZ)

        count = len(images_BCXYZ)
        scale = per_crop(1 + rng.uniform(-self.scale, self.scale, count))
        shift = per_crop(rng.uniform(-self.shift, self.shift, count))
        sigma = per_crop(rng.uniform(0, self.noise, count))
        white = rng.standard_normal(tuple(images_BCXYZ.shape), dtype=np.float32)
        return images_BCXYZ * scale + shift + sigma * torch.from_numpy(white).to(images_BCXYZ)


_NAMED: Mapping[AugmentationName, Augmentation] = {
    "none": Augmentation(0, 0, 0, 0, 0),
    "light": Augmentation(),
    "usual": Augmentation(15, 0.2, 0.2, 0.1, 0.1, gamma=0.5, blur=1.0, coarse=1.0),
}


def augmentation_named(name: AugmentationName, flips: tuple[int, ...] = ()) -> Augmentation:
    """Return an augmentation by name, with the axes that may be flipped."""
    return replace(_NAMED[name], flips=flips)


def with_gamma(image_CXYZ: Tensor, exponent: float) -> Tensor:
    """Raise each channel, from 0 to 1, to a power; its mean and deviation stay."""
    axes = (1, 2, 3)
    low, high = (f(image_CXYZ, axes, keepdim=True) for f in (torch.amin, torch.amax))
    unit = (image_CXYZ - low) / (high - low).clamp_min(1e-7)
    raised = unit**exponent
    mean, deviation = (f(image_CXYZ, axes, keepdim=True) for f in (torch.mean, torch.std))
    raised = (raised - raised.mean(axes, keepdim=True)) / raised.std(axes, keepdim=True).clamp_min(
        1e-7
    )
    return raised * deviation + mean


def with_coarse_voxels(image_CXYZ: Tensor, factor: float) -> Tensor:
    """Sample a crop to voxels ``factor`` times as large, the nearest ones, and linearly back."""
    shape = image_CXYZ.shape[1:]
    few = [max(1, round(size / factor)) for size in shape]
    coarse = functional.interpolate(image_CXYZ[None], size=few, mode="nearest-exact")
    fine = functional.interpolate(coarse, size=list(shape), mode="trilinear", align_corners=False)
    return fine[0]


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
