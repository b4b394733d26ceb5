"""nnU-Net's ``plans.json`` and ``dataset.json``, translated: network, steps, windows, labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.nnunet.architecture import old_plan
from unet_pipeline.tiling.decision import BACKGROUND, Decision, Highest, Painted
from unet_pipeline.volume.nnunet_steps import SCHEMES

OVERLAP = 0.5  # nnU-Net's tile_step_size
_AXES_OF_ARRAYS = 2  # axis a of an array of nnU-Net (Z, Y, X) is axis 2 - a of the file
_SPLINES, _LINEAR = "resample_data_or_seg_to_shape", "resample_torch_fornnunet"
_NEVER = "no_resampling_hack"
_READERS = ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient")


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
        return [int(size) for size in self.configuration["patch_size"]]

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
    def channel_names(self) -> list[str]:
        """Names of the input channels."""
        named = self.dataset.get("channel_names") or self.dataset["modality"]
        return [str(named[str(index)]) for index in range(len(named))]

    def network_def(self) -> dict[str, Any]:
        """Return the network as a MONAI component."""
        architecture = self.configuration.get("architecture") or old_plan(self.configuration)
        plan = {k: v for k, v in architecture["arch_kwargs"].items() if k != "deep_supervision"}
        return {
            "_target_": architecture["network_class_name"],
            "spatial_dims": len(self.patch),
            "in_channels": len(self.channel_names),
            "out_channels": len(self.channel_labels()),
            **plan,
        }

    def decision(self) -> Decision:
        """Return how scores become labels: regions are painted in ``regions_class_order``."""
        if not self._has_regions:
            return Highest()
        return Painted(tuple(int(value) for value in self.dataset["regions_class_order"]))

    def channel_labels(self) -> list[str]:
        """Return the name of each output channel."""
        named = {n: v for n, v in self.dataset["labels"].items() if n != "ignore"}
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
        reader = self.plans.get("image_reader_writer", _READERS[0])
        if reader not in _READERS:
            raise self.unsupported(f"images read by {reader}", f"one of {', '.join(_READERS)}")
        reorient = [{"_target_": "Orientationd", "axcodes": "RAS"}] * (reader == _READERS[-1])
        order = self.plans["transpose_forward"]
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
        image, scores = (
            self._resampling(f"resampling_fn_{kind}") for kind in ("data", "probabilities")
        )
        if image is None or scores is None:
            return []
        spacing = [None, *self.configuration["spacing"]][-3:]
        return [
            {
                "_target_": "nnunetv2.Respace",
                "spacing_mm": spacing,
                "cubic": image["cubic"],
                "separate": image["separate"],
                "separate_scores": scores["separate"],
            }
        ]

    def _resampling(self, entry: str) -> dict[str, Any] | None:
        """Return how images or scores are resampled; None for not at all."""
        name = self.configuration[entry]
        options = self.configuration.get(f"{entry}_kwargs", {})
        wanted = 3 if entry.endswith("data") else 1
        if name == _NEVER:
            return None
        linear = name == _LINEAR and options.get("mode", "linear") == "linear"
        known = name == _SPLINES and options.get("order", wanted) in (1, wanted)
        if not (linear or known) or options.get("order_z", 0) != 0:
            raise self.unsupported(f"{entry} {name} with {options}", f"{_SPLINES} or {_LINEAR}")
        cubic = name == _SPLINES and options.get("order", wanted) == 3
        separate = options.get("force_separate_z", False if name == _SPLINES else None)
        return {"cubic": cubic, "separate": separate}

    def unsupported(self, found: str, wanted: str) -> RequestError:
        """Return the error of a plan that has no translation."""
        return RequestError(
            "plan_unsupported",
            found=found,
            wanted=wanted,
            remedy="Choose another model, or run this one with nnU-Net",
            subject=self.url,
        )


def read_plan(
    url: str, plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str
) -> Plan:
    """Return a configuration of a model with what it inherits.

    Raises
    ------
    RequestError
        ``plan_unsupported`` for a configuration that is not there, or is a cascade's second stage.
    """
    plan = Plan(url, plans, dataset, {})
    entries = _inherited(plan, configuration, ())
    if entries.get("previous_stage"):
        raise plan.unsupported(
            f"the second stage of a cascade ({configuration})", "a model that sees images alone"
        )
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
            "mean": known["mean"],
            "deviation": known["std"],
            "low": known["percentile_00_5"],
            "high": known["percentile_99_5"],
        }
    return scheme


def _values(values: Any) -> list[int]:
    return [int(v) for v in values] if isinstance(values, list) else [int(values)]
