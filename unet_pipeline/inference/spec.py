"""Which network is run on windows, and how: plain values, and what they took."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from unet_pipeline.choices import EngineName
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.networks.depth import Depth
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Index3

Blend = Literal["gaussian", "constant", "gaussian_nnunet"]


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
    engine
        What executes the network.
    kept
        Networks that a process keeps: as many as the request runs on each case.
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
    engine: EngineName = "eager"
    kept: int = 1

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two specs need two predictors."""
        digests = (self.bundle.url, self.bundle.weights_digest, self.bundle.config_digest)
        limit = self.bundle.adaptive.limit if self.bundle.adaptive else None
        how = (self.roi_size, self.blend, self.depth, limit, self.mirror)
        return (*digests, *how, self.batch, self.threads, self.device, self.engine)

    @property
    def made_from(self) -> dict[str, Any]:
        """What decides the network that is run and the shape of its batches, in plain types."""
        bundle = self.bundle
        return {
            "weights": bundle.weights_digest,
            "config": bundle.config_digest,
            "shape": [self.batch, bundle.in_channels, *self.roi_size],
            "slice_axis": bundle.slice_axis,
            "depth": self.depth,
            "adaptive_limit": bundle.adaptive.limit if bundle.adaptive else None,
            "mirror": list(self.mirror),
        }


@dataclass(frozen=True)
class WindowStats:
    """What the windows of one call took.

    Attributes
    ----------
    seconds
        ``infer``, in which the device was held, without waiting for other calls, and of them
        ``forward`` in the network itself. Windows that share a batch share its time, so the
        seconds of all calls add up to those of the device.
    windows, reused
        Windows that were scored, and those of them whose scores were known, from another window of
        the same constant value.
    memory_steps
        What was done with less memory than asked (``Arrangement``).
    """

    seconds: Mapping[str, float]
    windows: int = 0
    reused: int = 0
    memory_steps: tuple[str, ...] = ()
