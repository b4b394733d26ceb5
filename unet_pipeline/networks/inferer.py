"""A bundle's ``inferer``: how windows lie, read strictly."""

from dataclasses import dataclass
from math import prod
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle_config import ConfigFile, invalid
from unet_pipeline.volume.options import brief

INFERERS = ("SlidingWindowInferer", "SlidingWindowInfererAdapt", "SliceInferer", "SimpleInferer")
SIMPLE = "SimpleInferer"
LONGEST, MOST_VOXELS = 2048, 512**3  # of a window
_MOST_OVERLAP = 0.95
# What changes no label, and what is as we do it at these values; else it is refused by name.
_HARMLESS = frozenset(
    {"_target_", "_desc_", "_disabled_", "_requires_", "sw_batch_size", "sw_device", "device",
     "progress", "cache_roi_weight_map", "cpu_thresh", "buffer_steps", "buffer_dim"}
)  # fmt: skip
_READ = frozenset({"roi_size", "overlap", "mode", "spatial_dim"})
_AS_WE_DO = {
    "sigma_scale": (0.125,),
    "cval": (0, 0.0),
    "with_coord": (False,),
    "padding_mode": ("constant", "replicate"),
}


@dataclass(frozen=True)
class Inferer:
    """Windows of a bundle.

    Attributes
    ----------
    roi_size
        Window in voxels of the model grid; None where the whole volume is one window.
    slice_axis
        Axis that a 2-D network takes slices along; None for a 3-D network.
    overlap, blend
        As in ``Bundle``.
    """

    roi_size: tuple[int, int, int] | None
    slice_axis: int | None
    overlap: float
    blend: str


def read_inferer(config: ConfigFile) -> Inferer:
    """Read ``inferer``.

    Raises
    ------
    RequestError
        ``bundle_invalid`` for a value of another kind or out of its range, and for an option or a
        class that we do not do.
    """
    names = config.names("inferer")
    wanted = [name for name in names if name not in _HARMLESS or name == "_target_"]
    entry = {name: config.value(f"inferer::{name}") for name in wanted}
    name = str(entry.get("_target_", INFERERS[0])).rpartition(".")[2]
    if name not in INFERERS:
        raise invalid(config.url, f"the inferer {name!r}", f"one of {', '.join(INFERERS)}")
    for option, value in entry.items():
        allowed = _AS_WE_DO.get(option, ())
        if option not in _HARMLESS | _READ and value not in allowed:
            raise _wrong(config, option, value, " or ".join(map(str, allowed)) or "none of it")
    if name == SIMPLE:
        return Inferer(None, None, 0.0, "constant")
    axis = _slice_axis(config, entry) if name == "SliceInferer" else None
    sizes, overlap = _roi_size(config, entry, axis), _overlap(config, entry)
    return Inferer(sizes, axis, overlap, _blend(config, entry))


def _slice_axis(config: ConfigFile, entry: dict[str, Any]) -> int:
    axis = entry.get("spatial_dim", 0)
    if isinstance(axis, bool) or axis not in (0, 1, 2):
        raise _wrong(config, "spatial_dim", axis, "0, 1 or 2")
    return int(axis)


def _roi_size(config: ConfigFile, entry: dict[str, Any], axis: int | None) -> tuple[int, int, int]:
    if "roi_size" not in entry:
        raise invalid(config.url, "no entry 'inferer::roi_size'", "the window's sizes in voxels")
    found = entry["roi_size"]
    sizes = found if isinstance(found, list) else [found] * (3 if axis is None else 2)
    if len(sizes) == (3 if axis is None else 2) and all(map(_is_size, sizes)):
        sizes = sizes if axis is None else [*sizes[:axis], 1, *sizes[axis:]]
        if prod(sizes) <= MOST_VOXELS:
            return sizes[0], sizes[1], sizes[2]
    many = "three" if axis is None else "two"
    wanted = f"{many} sizes from 1 to {LONGEST:,} voxels, at most {MOST_VOXELS:,} voxels in all"
    raise _wrong(config, "roi_size", found, wanted)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LONGEST


def _overlap(config: ConfigFile, entry: dict[str, Any]) -> float:
    found = entry.get("overlap", 0.25)
    values = found if isinstance(found, list) and 1 <= len(found) <= 3 else [found]
    for value in values:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= _MOST_OVERLAP or value != values[0]:
            wanted = f"one number from 0 to {_MOST_OVERLAP} for all axes"
            raise _wrong(config, "overlap", found, wanted)
    return float(values[0])


def _blend(config: ConfigFile, entry: dict[str, Any]) -> str:
    found = entry.get("mode", "constant")
    if found not in ("gaussian", "constant"):
        raise _wrong(config, "mode", found, "gaussian or constant")
    return str(found)


def _wrong(config: ConfigFile, option: str, found: Any, wanted: str) -> RequestError:
    return invalid(config.url, f"inferer::{option} {brief(found)}", wanted)
