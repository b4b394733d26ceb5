"""nnU-Net's ``plans.json`` and ``dataset.json``, translated: network, steps, windows, labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.arguments import MOST_CHANNELS
from unet_pipeline.networks.inferer import LONGEST, MOST_VOXELS
from unet_pipeline.networks.nnunet.architecture import old_plan
from unet_pipeline.tiling.decision import BACKGROUND, Decision, Highest, Painted
from unet_pipeline.volume.nnunet_steps import ANISOTROPIC
from unet_pipeline.volume.nnunet_values import SCHEMES

OVERLAP = 0.5  # nnU-Net's tile_step_size
_AXES_OF_ARRAYS = 2  # axis a of an array of nnU-Net (Z, Y, X) is axis 2 - a of the file
_SPLINES, _LINEAR = "resample_data_or_seg_to_shape", "resample_torch_fornnunet"
_NEVER = "no_resampling_hack"
_OPTIONS: Mapping[str, tuple[Any, ...]] = {  # of these two, and their values that are known
    "order_z": (0,),
    "mode": ("linear",),
    "aniso_axis_mode": ("nearest-exact",),
    "separate_z_anisotropy_threshold": (ANISOTROPIC,),
}
_BY_HALVES = "memefficient_seg_resampling"  # a label is where more than half of it is
_HARMLESS = frozenset({"num_threads", "device", _BY_HALVES})
_REORIENTING = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")
_READERS = ("SimpleITKIO", "NibabelIO", *_REORIENTING)
_DEFAULTS = {"preprocessor_name": "DefaultPreprocessor", "label_manager": "LabelManager"}
_LARGEST_LABEL = 2**16 - 1


@dataclass(frozen=True)
class Plan:
    """One configuration of a model.

    Attributes
    ----------
    url
        Folder of the model, for messages.
    plans, dataset
        Content of the two files.
    configuration
        The configuration's entries, inherited ones included.
    """

    url: str
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    configuration: Mapping[str, Any]

    @property
    def patch(self) -> list[int]:
        """Sizes of a window, as the network sees it: two for a 2-D network."""
        sizes = [int(size) for size in self.configuration["patch_size"]]
        whole = len(sizes) in (2, 3) and all(1 <= size <= LONGEST for size in sizes)
        if not whole or prod(sizes) > MOST_VOXELS:
            wanted = f"two or three sizes from 1 to {LONGEST:,}, at most {MOST_VOXELS:,} voxels"
            raise self.unsupported(f"patch_size {sizes}", wanted)
        return sizes

    @property
    def slice_axis(self) -> int | None:
        """Axis of slices of a 2-D network: the first, after nnU-Net has put them in order."""
        return 0 if len(self.patch) == 2 else None

    @property
    def roi_size(self) -> tuple[int, int, int]:
        """Window in voxels of the model grid."""
        x, y, z = [1, *self.patch][-3:]
        return x, y, z

    @property
    def previous_stage(self) -> str | None:
        """Name of the configuration whose label map this one takes, in a cascade."""
        name = self.configuration.get("previous_stage")
        return str(name) if name else None

    @property
    def label_channels(self) -> tuple[int, ...]:
        """The labels that a cascade's second stage takes as channels, behind those of the image."""
        if self.previous_stage is None:
            return ()
        named = (v for n, v in self.dataset["labels"].items() if n != "ignore")
        found = sorted({label for values in named for label in _values(values)} - {0})
        if not found or len(found) > MOST_CHANNELS or not 0 < found[0] <= found[-1] < 2**16:
            wanted = f"1 to {MOST_CHANNELS:,} labels from 1 to {_LARGEST_LABEL:,}"
            raise self.unsupported(f"{len(found):,} labels of a first stage", wanted)
        return tuple(found)

    @property
    def channel_names(self) -> list[str]:
        """Names of the images' channels."""
        named = self.dataset.get("channel_names") or self.dataset["modality"]
        return [str(named[str(index)]) for index in range(len(named))]

    def network_def(self) -> dict[str, Any]:
        """Return the network as a MONAI component."""
        architecture = self.configuration.get("architecture") or old_plan(self.configuration)
        plan = {k: v for k, v in architecture["arch_kwargs"].items() if k != "deep_supervision"}
        return {
            "_target_": architecture["network_class_name"],
            "spatial_dims": len(self.patch),
            "in_channels": len(self.channel_names) + len(self.label_channels),
            "out_channels": len(self.channel_labels()),
            **plan,
        }

    def decision(self) -> Decision:
        """Return how scores become labels: regions are painted in ``regions_class_order``."""
        if not self._has_regions:
            return Highest()
        values, regions = self.dataset["regions_class_order"], self.channel_labels()
        labels = range(1, _LARGEST_LABEL + 1)
        if len(values) != len(regions) or not all(value in labels for value in map(int, values)):
            wanted = f"a label for each region, {', '.join(regions)}"
            raise self.unsupported(f"regions_class_order {values}", wanted)
        return Painted(tuple(int(value) for value in values))

    def channel_labels(self) -> list[str]:
        """Return the name of each output channel."""
        named = {n: v for n, v in self.dataset["labels"].items() if n != "ignore"}
        if len(named) > MOST_CHANNELS:
            raise self.unsupported(f"{len(named):,} labels", f"at most {MOST_CHANNELS:,}")
        if self._has_regions:
            return [name for name, values in named.items() if set(_values(values)) != {0}]
        ordered = sorted(named.items(), key=lambda item: _values(item[1])[0])
        if [_values(values) for _, values in ordered] != [[i] for i in range(len(ordered))]:
            raise self.unsupported("labels that are not 0, 1, 2, ...", "consecutive labels")
        return [BACKGROUND, *(name for name, _ in ordered[1:])]

    @property
    def _has_regions(self) -> bool:
        labels = self.dataset["labels"].values()
        return any(isinstance(values, list) and len(values) > 1 for values in labels)

    def preprocessing(self) -> tuple[dict[str, Any], ...]:
        """Return nnU-Net's preprocessing: reader, axes, crop, normalisation, spacing."""
        reader = self.plans["image_reader_writer"]
        if reader not in _READERS:
            raise self.unsupported(f"images read by {reader}", f"one of {', '.join(_READERS)}")
        reorient = [{"_target_": "Orientationd", "axcodes": "RAS"}] * (reader in _REORIENTING)
        order = self.plans["transpose_forward"]
        if sorted(order) != [0, 1, 2]:
            raise self.unsupported(f"transpose_forward {order}", "0, 1 and 2 in some order")
        axes = [_AXES_OF_ARRAYS - int(axis) for axis in order]
        return (
            *reorient,
            {"_target_": "nnunetv2.Permute", "source_axes": axes},
            {"_target_": "nnunetv2.CropNonzero"},
            {"_target_": "nnunetv2.Normalise", "schemes": self._schemes()},
            *self._respace(),
        )

    def _schemes(self) -> list[dict[str, Any]]:
        known = self.plans.get("foreground_intensity_properties_per_channel") or self.plans.get(
            "foreground_intensity_properties_by_modality", {}
        )
        names = self.configuration["normalization_schemes"]
        if not set(names) <= set(SCHEMES):
            raise self.unsupported(f"normalisation by {names}", f"{', '.join(SCHEMES)}")
        masked = self.configuration["use_mask_for_norm"]
        return [
            _scheme(name, bool(mask), known.get(str(channel), {}))
            for channel, (name, mask) in enumerate(zip(names, masked, strict=True))
        ]

    def _respace(self) -> list[dict[str, Any]]:
        image = self._resampling("resampling_fn_data", (1, 3))
        labels = self._of_labels()
        scores = self._resampling("resampling_fn_probabilities", (1,))
        if image is None:
            return []  # then scores are on the grid of the image already
        if scores is None:
            raise self.unsupported(f"scores that are not resampled ({_NEVER})", "as images are")
        spacing = [float(mm) for mm in self.configuration["spacing"]]
        if len(spacing) != len(self.patch) or not all(0 < mm < np.inf for mm in spacing):
            raise self.unsupported(f"spacing {spacing}", f"{len(self.patch)} sizes in mm")
        return [
            {
                "_target_": "nnunetv2.Respace",
                "spacing_mm": [None, *spacing][-3:],
                "cubic": image["cubic"],
                "separate": image["separate"],
                "separate_scores": scores["separate"],
                **labels,
            }
        ]

    def _of_labels(self) -> dict[str, Any]:
        """Return how the label map of a first stage is resampled; nothing where there is none."""
        if self.previous_stage is None:
            return {}
        entry = "resampling_fn_seg"
        found = self._resampling(entry, (1,), of_labels=True)
        if found is None:
            raise self.unsupported(f"{entry} {_NEVER}", f"{_SPLINES} or {_LINEAR}")
        ties = self.configuration[entry] == _LINEAR
        return {"separate_labels": found["separate"], "lowest_labels": ties}

    def _resampling(
        self, entry: str, orders: Sequence[int], *, of_labels: bool = False
    ) -> dict[str, Any] | None:
        """Return how images or scores are resampled; None for not at all.

        Parameters
        ----------
        orders
            Orders of splines that have a translation. An option that is left out has the default
            of nnU-Net's function.
        """
        name = self.configuration[entry]
        if name == _NEVER:
            return None
        given = dict(self.configuration.get(f"{entry}_kwargs", {}))
        by_halves = of_labels and given.get(_BY_HALVES)
        if given.pop("is_seg", False) is not of_labels or by_halves:
            raise self.unsupported(f"{entry} with {given}", f"is_seg {of_labels}")
        options = {option: value for option, value in given.items() if option not in _HARMLESS}
        order = options.pop("order", 3) if name == _SPLINES else 1
        separate = options.pop("force_separate_z", False if name == _SPLINES else None)
        known = all(value in _OPTIONS.get(option, ()) for option, value in options.items())
        if name not in (_SPLINES, _LINEAR) or order not in orders or not known:
            raise self.unsupported(f"{entry} {name} with {given}", f"{_SPLINES} or {_LINEAR}")
        if separate not in (None, False, True):
            raise self.unsupported(f"{entry} with force_separate_z {separate!r}", "true or false")
        return {"cubic": order == 3, "separate": separate}

    def unsupported(self, found: str, wanted: str) -> RequestError:
        """Return the error of a plan that has no translation."""
        return unsupported(self.url, found, wanted)


def unsupported(url: str, found: str, wanted: str) -> RequestError:
    """Return the error of a model whose plan has no translation."""
    return RequestError(
        "plan_unsupported",
        found=found,
        wanted=wanted,
        remedy="Choose another model, or run this one with nnU-Net",
        subject=url,
    )


def read_plan(
    url: str, plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str
) -> Plan:
    """Return a configuration of a model with what it inherits.

    Raises
    ------
    RequestError
        ``plan_unsupported`` for a configuration that is not there.
    """
    plan = Plan(url, plans, dataset, {})
    entries = _inherited(plan, configuration, ())
    for entry, default in _DEFAULTS.items():
        name = entries.get(entry, plans.get(entry, default))
        if name != default:
            raise plan.unsupported(f"{entry} {name}", default)
    return Plan(url, plans, dataset, entries)


def _inherited(plan: Plan, name: str, seen: Sequence[str]) -> dict[str, Any]:
    known = plan.plans["configurations"]
    if name not in known or name in seen:
        raise plan.unsupported(f"no configuration {name!r}", f"one of {', '.join(known)}")
    entries = dict(known[name])
    parent = entries.get("inherits_from")
    return {**_inherited(plan, parent, (*seen, name)), **entries} if parent else entries


def _scheme(name: str, masked: bool, known: Mapping[str, Any]) -> dict[str, Any]:
    scheme: dict[str, Any] = {"name": name, "masked": masked and name == "ZScoreNormalization"}
    if name == "CTNormalization":
        scheme |= {
            "mean": float(known["mean"]),
            "deviation": float(known["std"]),
            "low": float(known["percentile_00_5"]),
            "high": float(known["percentile_99_5"]),
        }
    return scheme


def _values(values: Any) -> list[int]:
    return [int(v) for v in values] if isinstance(values, list) else [int(values)]
