"""How fast this machine is, from a short measurement: a few windows, and one file."""

from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

import numpy as np

from unet_pipeline.choices import EngineWish
from unet_pipeline.inference.doors import choose, predictor_for
from unet_pipeline.model import Model
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume.decoding import read_volume
from unet_pipeline.volume.formats import nifti_file
from unet_pipeline.volume.header import header_of

PASSES = 3  # forward passes that are timed, after one that is not
_PHANTOM = (128, 128, 64)  # voxels, of the file that is written and read back
_SCRATCH = "memory://unet-pipeline-speed/phantom.nii.gz"


@dataclass(frozen=True)
class Speed:
    """How fast this machine is.

    Attributes
    ----------
    seconds_per_window
        In the network.
    seconds_per_first_window
        In that of a first stage, in a cascade.
    decoded_per_second, encoded_per_second
        Bytes of voxels that are read from gzip, and bytes of labels that are compressed.
    device
        ``cpu`` or ``cuda``.
    """

    seconds_per_window: float
    decoded_per_second: float
    encoded_per_second: float
    device: str
    seconds_per_first_window: float = 0.0

    def of_network(self, windows: int, of_first: int = 0) -> float:
        """Return device-seconds of so many windows, some of them of a first stage."""
        later = (windows - of_first) * self.seconds_per_window
        return later + of_first * self.seconds_per_first_window

    def of_codec(self, voxel_bytes: int, label_bytes: int) -> float:
        """Return seconds to decode volumes and to encode their label maps."""
        return voxel_bytes / self.decoded_per_second + label_bytes / self.encoded_per_second


def measure_speed(model: Model, asked: EngineWish = "eager", window: Index3 | None = None) -> Speed:
    """Time the network on windows of noise, and the codec on a phantom, on this machine.

    Parameters
    ----------
    window
        Size of a window where each volume is one. Default: the bundle's.

    Raises
    ------
    RequestError
        As ``choose``, for an engine that was asked for by name.
    """
    first = 0.0
    if model.first_stage is not None:
        first, _ = _per_window(model.first_stage, asked)
    seconds, device = _per_window(model, asked, window)
    return Speed(seconds, *_codec_speed(), device, first)


def _per_window(model: Model, asked: EngineWish, window: Index3 | None = None) -> tuple[float, str]:
    """Return the seconds of a window, and the device."""
    spec = replace(model.spec, roi_size=window or model.spec.roi_size)
    engine = choose(spec, "eager" if model.bundle.whole else asked).engine
    predictor = predictor_for(replace(spec, engine=engine))
    shape = (model.bundle.in_channels, *spec.roi_size)
    noise_CXYZ = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    read_box, batch = Box.at((0, 0, 0), spec.roi_size), [(0, 0, 0)] * spec.batch
    seconds = [
        predictor.score(noise_CXYZ, read_box, batch).stats.seconds["forward"] / spec.batch
        for _ in range(1 + PASSES)
    ]
    return median(seconds[1:]), predictor.device.type


def _codec_speed() -> tuple[float, float]:
    """Return bytes per second that are decoded, and that are encoded."""
    phantom, store = make_phantom(0, _PHANTOM), Store()
    image_XYZ, labels_XYZ = phantom.image_XYZ, phantom.mask_XYZ
    header = header_of(_PHANTOM, phantom.affine, image_XYZ.dtype)
    store.write(_SCRATCH, nifti_file(image_XYZ, header))
    begin = perf_counter()
    read_volume(store, _SCRATCH, role="image0", budget_bytes=2 * header.nbytes)
    decoded = perf_counter()
    nifti_file(labels_XYZ, header)
    encoded = perf_counter()
    store.remove(_SCRATCH)
    return image_XYZ.nbytes / (decoded - begin), labels_XYZ.nbytes / (encoded - decoded)
