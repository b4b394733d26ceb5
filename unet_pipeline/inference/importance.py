"""How much each voxel of a window counts where windows overlap."""

import numpy as np
import torch
from monai.data.utils import compute_importance_map

from unet_pipeline.inference.spec import Blend
from unet_pipeline.tiling.box import Index3
from unet_pipeline.tiling.merge import Scores

SIGMA = 0.125  # of the window's size
SMALLEST_NNUNET = 2.0**-27  # about the smallest share of its largest weight that float16 can hold


def importance_map(roi_size: Index3, blend: Blend) -> Scores:
    """Return the weight of each voxel of a window, shape XYZ.

    Parameters
    ----------
    blend
        ``constant`` and ``gaussian`` are MONAI's: a Gaussian around the window's centre, at least
        0.001. ``gaussian_nnunet`` is nnU-Net's: around the voxel at half the size, and almost 0
        in the corners.
    """
    if blend == "gaussian_nnunet":
        return _nnunet(roi_size)
    weights = compute_importance_map(
        roi_size, mode=blend, sigma_scale=SIGMA, device="cpu", dtype=torch.float32
    )
    return np.ascontiguousarray(weights.numpy())


def _nnunet(roi_size: Index3) -> Scores:
    x, y, z = (
        np.exp(-0.5 * ((np.arange(size) - size // 2) / (size * SIGMA)) ** 2) for size in roi_size
    )
    weights_XYZ = x[:, None, None] * y[:, None] * z
    return np.asarray(np.maximum(weights_XYZ, SMALLEST_NNUNET), dtype=np.float32)
