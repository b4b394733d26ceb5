"""Bundles: a network, its weights and its preprocessing, in MONAI's folder layout.

::

    <bundle>/configs/metadata.json        what the channels mean
    <bundle>/configs/inference.json       network_def, preprocessing, inferer
    <bundle>/models/model.safetensors     weights; or models/model.pt, loaded without running code
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unet_pipeline.errors import RequestError
from unet_pipeline.evaluation.prediction import DiceCalibration
from unet_pipeline.networks.depth import AdaptiveRule
from unet_pipeline.postprocessing import LabelStep
from unet_pipeline.storage.names import Channels
from unet_pipeline.texts import shown
from unet_pipeline.tiling.decision import Decision, Highest
from unet_pipeline.tiling.merge import smallest_label_type
from unet_pipeline.tiling.windows import Placement

PACKAGED = Path(__file__).parent.parent / "bundles"
INFERENCE, METADATA = "configs/inference.json", "configs/metadata.json"
MOST_REFERENCES, MOST_OF_A_REFERENCE = 12, 600
_REFERENCES = ("references", "reference", "citation")  # keys of MONAI's zoo, of nnU-Net, of others
MOST_OF_A_NAME = 100  # characters of the name of a label
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
        Name of each label of the label map, background included.
    weights_digest, config_digest
        ``sha256:<hex>`` of the weights file, and of ``network_def`` with ``preprocessing`` and
        ``code_digest``.
    weights_file
        Path of the weights within the bundle.
    adaptive
        When adaptive depth stops, if the bundle was calibrated for it.
    dice_calibration
        What Dice to expect of how sure the network is, if the bundle was calibrated for it.
    slice_axis
        Axis of the model grid along which a 2-D network takes slices; None for a 3-D network.
    whole
        Whether the whole volume is one window, as large as the network's stride makes it;
        ``roi_size`` is then the smallest.
    decision
        How the scores of the output channels become one label.
    code_digest
        ``sha256:<hex>`` of configs and scripts, if some of their code was run; else None.
    placement
        How windows are placed, as in ``window_starts``.
    further_weights
        Weights of further networks; the scores of all are averaged.
    mirror_axes
        Axes of the model grid that the network was trained to be mirrored along; None if that is
        not known.
    label_steps
        What the bundle does to the labels after they are decided.
    not_done
        What else the bundle would do to the labels then, and is not done here.
    own_network
        Whether the bundle's own code builds the network; ``network_def`` then says what it takes
        and gives.
    references
        What the bundle asks to be cited.
    members
        Bundles whose scores are averaged, in the order in which they are added; empty for a bundle
        that is none but itself.
    channel_names
        What the bundle calls the channels of its images, in order; empty if it does not.
    first_stage
        The model whose label map the network takes behind the image (a cascade of nnU-Net).
    label_channels
        The labels of it that are a channel each, in order.
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
    dice_calibration: DiceCalibration | None = None
    slice_axis: int | None = None
    whole: bool = False
    decision: Decision = field(default_factory=Highest)
    code_digest: str | None = None
    own_network: bool = False
    label_steps: tuple[LabelStep, ...] = ()
    not_done: tuple[str, ...] = ()
    channel_names: tuple[str, ...] = ()
    placement: Placement = "packed"
    further_weights: tuple[str, ...] = ()
    mirror_axes: tuple[int, ...] | None = None
    references: tuple[str, ...] = ()
    members: tuple["Bundle", ...] = ()
    first_stage: "Bundle | None" = None
    label_channels: tuple[int, ...] = ()

    @property
    def each(self) -> tuple["Bundle", ...]:
        """The bundles whose networks are run: the members, or this one."""
        return self.members or (self,)

    @property
    def networks(self) -> int:
        """How many trained networks there are, folds included."""
        return sum(1 + len(one.further_weights) for one in self.each)

    @property
    def image_channels(self) -> int:
        """Channels of the network's input that are images."""
        return self.in_channels - len(self.label_channels)

    @property
    def in_plane_roi(self) -> tuple[int, ...]:
        """The sizes of a window that the network sees: without the axis of slices."""
        return tuple(n for axis, n in enumerate(self.roi_size) if axis != self.slice_axis)

    @property
    def channels(self) -> Channels:
        """What the network takes, for whoever looks for cases by name."""
        return Channels(self.image_channels, self.channel_names)

    @property
    def foreground(self) -> tuple[int, ...]:
        """The labels other than background."""
        return tuple(label for label in self.labels if label)

    @property
    def label_type(self) -> np.dtype[Any]:
        """The smallest unsigned integer type that holds every label."""
        return np.dtype(smallest_label_type(max(self.labels) + 1))


def references_in(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a bundle's metadata ask to be cited: one text, or a list of them."""
    said = next((metadata[key] for key in _REFERENCES if metadata.get(key)), ())
    texts = said if isinstance(said, list) else [said]
    kept = (one.strip() for one in texts if isinstance(one, str))
    return tuple(shown(one, MOST_OF_A_REFERENCE) for one in kept if one)[:MOST_REFERENCES]


def packaged_bundles() -> tuple[str, ...]:
    """Return the names of the bundles that come with the package."""
    return tuple(sorted(path.parent.parent.name for path in PACKAGED.glob(f"*/{INFERENCE}")))


def bundle_url(url_or_name: str) -> str:
    """Return where a bundle lies that is given by its URL or, of ours, by its name."""
    packaged = PACKAGED / url_or_name
    is_name = "/" not in url_or_name and (packaged / INFERENCE).is_file()
    return str(packaged) if is_name else url_or_name


def digest_of(data: bytes) -> str:
    """Return the digest of a file."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def check_unchanged(bundle: Bundle, digest: str) -> None:
    """Check that weights are those that were there when the bundle was read.

    Raises
    ------
    RequestError
        ``weights_changed``.
    """
    if digest != bundle.weights_digest:
        raise RequestError(
            "weights_changed",
            found=f"weights with digest {digest}",
            wanted=f"{bundle.weights_digest}, as at the start of the run",
            remedy="Run again; write a new bundle to a new folder instead of changing one in use",
            subject=f"{bundle.url}/{bundle.weights_file}",
        )
