"""A network that scores the windows of a tile; loaded once per process.

Windows go through the network in batches of one fixed shape (a short batch is padded with zeros),
because the same window gives scores that differ in the last bits between batch sizes. Within one
batch shape a window's scores depend neither on its place in the batch nor on its neighbours.
They do depend on the number of CPU threads, which is therefore a setting and the same everywhere.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from typing import Literal

import torch

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.inference.importance import Blend, importance_map
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.networks.loading import load_network
from unet_pipeline.networks.mirroring import Mirrored
from unet_pipeline.networks.pruning import Depth, at_depth
from unet_pipeline.networks.registry import final_scores
from unet_pipeline.networks.slices import SliceNetwork
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.tiling.merge import FIXED_POINT, LARGEST_SCORE, Sums
from unet_pipeline.volume.views import Voxels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelSpec:
    """What a worker needs to make its predictor; small, travels with each task.

    Attributes
    ----------
    batch
        Windows per forward pass.
    threads
        CPU threads of one forward pass; None for all cores.
    device
        ``auto`` is CUDA where there is a device, else the CPU.
    depth
        Depth of a nested U-Net that is evaluated; None for its deepest head.
    mirror
        Axes of the model grid that windows are mirrored along, for the mean of their scores.
    """

    bundle: Bundle
    store: Store
    roi_size: Index3
    blend: Blend = "gaussian"
    batch: int = 1
    threads: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    depth: Depth | None = None
    mirror: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two specs need two predictors."""
        digests = (self.bundle.url, self.bundle.weights_digest, self.bundle.config_digest)
        limit = self.bundle.adaptive.limit if self.bundle.adaptive else None
        how = (self.roi_size, self.blend, self.depth, limit, self.mirror)
        return (*digests, *how, self.batch, self.threads, self.device)


class Predictor:
    """A network on a device.

    One call at a time uses the device; others wait, so that a process may read and write other
    cases meanwhile without a second set of scores in device memory.

    Parameters
    ----------
    network
        The network of the bundle, where it is in memory already, as in training; it is used as it
        is, and put into evaluation mode. Default: it is loaded.
    """

    def __init__(self, spec: ModelSpec, network: torch.nn.Module | None = None) -> None:
        torch.set_num_threads(spec.threads or os.cpu_count() or 1)
        self.device = _device(spec.device)
        network = network or load_network(spec.bundle, spec.store)
        network = at_depth(network, spec.depth, spec.bundle.adaptive)
        if spec.bundle.slice_axis is not None:
            network = SliceNetwork(network, spec.bundle.slice_axis)
        mirrored = Mirrored(network, spec.mirror) if spec.mirror else network
        self.network = mirrored.eval().to(self.device)
        self.spec, self.roi_size = spec, spec.roi_size
        self.classes, self.batch = spec.bundle.out_channels, spec.batch
        self.importance = torch.from_numpy(importance_map(spec.roi_size, spec.blend)).to(
            self.device
        )
        self._lock = Lock()

    def score(
        self, values_CXYZ: Voxels, frame: Box, windows: Sequence[Index3]
    ) -> tuple[Sums, dict[str, float]]:
        """Score windows and add them up in fixed point.

        Parameters
        ----------
        values_CXYZ
            What the network sees of the model voxels of ``frame``.
        windows
            First voxel of each window; all lie inside ``frame``.

        Returns
        -------
        sums_CXYZ, seconds
            Sums of weight x score on ``frame``, per class; seconds ``infer`` in all, without
            waiting for other calls, and ``forward`` in the network itself.

        Raises
        ------
        CaseError
            ``scores_not_finite`` if the network gives NaN or numbers out of range.
        """
        with self._lock, torch.inference_mode():
            begin = perf_counter()
            image = torch.from_numpy(values_CXYZ).to(self.device)
            shape = (self.classes, *frame.shape)
            sums = torch.zeros(shape, dtype=torch.int64, device=self.device)
            forward = 0.0
            for group in _groups(windows, self.batch):
                boxes = [Box.at(start, self.roi_size).within(frame) for start in group]
                scores, spent = self._forward(image, boxes)
                forward += spent
                weighted = (scores * self.importance).mul_(FIXED_POINT).round_().to(torch.int64)
                for index, box in enumerate(boxes):
                    sums[(slice(None), *box)] += weighted[index]
            sums_CXYZ = sums.cpu().numpy()
            return sums_CXYZ, {"infer": perf_counter() - begin, "forward": forward}

    def _forward(
        self, image: torch.Tensor, boxes: Sequence[tuple[slice, slice, slice]]
    ) -> tuple[torch.Tensor, float]:
        begin = perf_counter()
        batch = image.new_zeros((self.batch, image.shape[0], *self.roi_size))
        for index, box in enumerate(boxes):
            batch[index] = image[(slice(None), *box)]
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            scores = final_scores(self.network(batch)).float()
        largest = float(scores[: len(boxes)].abs().max())  # also waits for the device
        if not largest < LARGEST_SCORE:
            raise CaseError(
                "scores_not_finite",
                found="scores that are NaN, infinite or out of range",
                wanted="finite scores",
                remedy="Check the image's intensities and the bundle's preprocessing",
            )
        return scores, perf_counter() - begin


_predictors: dict[tuple[object, ...], Predictor] = {}
_loading = Lock()


def predictor_for(spec: ModelSpec) -> Predictor:
    """Return this process's predictor, loaded at the first call; one model is kept at a time."""
    with _loading:
        if spec.key not in _predictors:
            _predictors.clear()
            _predictors[spec.key] = Predictor(spec)
            log.info("loaded %s on %s", spec.bundle.name, _predictors[spec.key].device)
        return _predictors[spec.key]


def _device(wanted: str) -> torch.device:
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise RequestError(
            "cuda_missing",
            found="no CUDA device",
            wanted="one, for --cluster cuda",
            remedy="Use --cluster local, or a machine with an NVIDIA GPU and a CUDA build of torch",
        )
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def _groups(windows: Sequence[Index3], size: int) -> Iterator[Sequence[Index3]]:
    for first in range(0, len(windows), size):
        yield windows[first : first + size]
