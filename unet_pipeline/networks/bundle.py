"""Bundles: a network, its weights and its preprocessing, in MONAI's folder layout.

::

    <bundle>/configs/metadata.json        what the channels mean
    <bundle>/configs/inference.json       network_def, preprocessing, inferer
    <bundle>/models/model.safetensors     weights; or models/model.pt, loaded without running code
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_pipeline.networks.adaptive import AdaptiveRule

PACKAGED = Path(__file__).parent.parent / "bundles"
INFERENCE, METADATA = "configs/inference.json", "configs/metadata.json"
WEIGHTS = ("models/model.safetensors", "models/model.pt")  # the first that exists is used


@dataclass(frozen=True)
class Bundle:
    """What a bundle says of itself; small enough to send to every worker.

    Attributes
    ----------
    name, url
        Last part of the URL, and the folder.
    network_def
        MONAI component of the network.
    preprocessing
        MONAI transforms, in order, as plain definitions.
    roi_size
        Window in voxels of the model grid.
    overlap, blend
        Defaults for windows: share of overlap (0 <= overlap < 1), ``gaussian`` or ``constant``.
    labels
        Name of each output channel, background included.
    weights_digest, config_digest
        ``sha256:<hex>`` of the weights file, and of ``network_def`` with ``preprocessing``.
    weights_file
        Path of the weights within the bundle.
    adaptive
        When adaptive depth stops, if the bundle was calibrated for it.
    slice_axis
        Axis of the model grid along which a 2-D network takes slices; None for a 3-D network.
    """

    name: str
    url: str
    network_def: dict[str, Any]
    preprocessing: tuple[dict[str, Any], ...]
    roi_size: tuple[int, int, int]
    overlap: float
    blend: str
    labels: dict[int, str]
    in_channels: int
    out_channels: int
    weights_digest: str
    config_digest: str
    weights_file: str
    adaptive: AdaptiveRule | None = None
    slice_axis: int | None = None

    @property
    def in_plane_roi(self) -> tuple[int, ...]:
        """The sizes of a window that the network sees: without the axis of slices."""
        return tuple(n for axis, n in enumerate(self.roi_size) if axis != self.slice_axis)

    @property
    def foreground(self) -> tuple[int, ...]:
        """The labels other than background."""
        return tuple(range(1, self.out_channels))


def packaged_bundles() -> tuple[str, ...]:
    """Return the names of the bundles that come with the package."""
    return tuple(sorted(path.parent.parent.name for path in PACKAGED.glob(f"*/{INFERENCE}")))


def digest_of(data: bytes) -> str:
    """Return the digest of a file."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
