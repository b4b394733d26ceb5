"""Small samples, recipes and networks, for tests of the training."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unet_pipeline.networks.family import network_def
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.training.crops import Sample
from unet_pipeline.training.recipe import Recipe

SMALL = network_def("unet", 1, 3, (4, 8))


def phantom_sample(seed: int) -> Sample:
    phantom = make_phantom(seed, (32, 28, 24), (3.0, 3.0, 4.0))
    image = phantom.image_XYZ.astype(np.float32)
    return Sample(((image - image.mean()) / image.std())[None], phantom.mask_XYZ)


def recipe(**changes: Any) -> Recipe:
    options = {"roi_size": (32, 16, 16), "steps": 20, "batch": 2, "learning_rate": 1e-2}
    return Recipe(**{**options, **changes})


def weights_of(network: nn.Module) -> Tensor:
    return torch.cat([value.flatten() for value in network.state_dict().values()])
