"""A model, ready to be run: a bundle, and what a request says of how it is to be run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unet_pipeline.config import Limits, RemedySettings
from unet_pipeline.errors import RequestError
from unet_pipeline.gate.examine import Policy
from unet_pipeline.gate.findings import Tolerance
from unet_pipeline.gate.workload import Layout
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.postprocessing import LabelStep
from unet_pipeline.postprocessing.protocol import LabelNumbers
from unet_pipeline.volume.region import Region
from unet_pipeline.volume.steps import Step


@dataclass(frozen=True)
class Model:
    """A bundle, ready to be run with the settings of a request; of a cascade both stages."""

    bundle: Bundle
    steps: tuple[Step, ...]
    spec: ModelSpec
    overlap: float
    policy: Policy
    label_steps: tuple[LabelStep, ...] = ()
    first_stage: "Model | None" = None

    @property
    def networks(self) -> int:
        """How many a worker loads."""
        return 1 if self.first_stage is None else 2

    def keeping(self, networks: int) -> "Model":
        """Return the model for a request of so many networks, which workers are to keep."""
        first = self.first_stage and self.first_stage.keeping(networks)
        return replace(self, spec=replace(self.spec, kept=networks), first_stage=first)


def policy_of(
    settings: RemedySettings,
    limits: Limits,
    bundle: Bundle | None = None,
    layout: Layout | None = None,
    first_layout: Layout | None = None,
) -> Policy:
    """Return what the gate holds the cases of a request against.

    Parameters
    ----------
    layout, first_layout
        How the windows of a bundle will lie, and those of its first stage.
    """
    return Policy(
        Tolerance(affine_voxels=settings.affine_voxels),
        frozenset(settings.remedies),
        None if bundle is None else bundle.image_channels,
        None if bundle is None else frozenset(bundle.labels),
        int(1e9 * limits.max_volume_gb),
        int(1e9 * limits.memory_gb),
        layout,
        volume=settings.volume,
        flat=bundle is not None and bundle.slice_axis is not None,
        level=settings.level,
        first_layout=first_layout,
    )


def names_of(models: Sequence[Model]) -> list[str]:
    """Return the folders of the models of one request below its output; none for an only one.

    Raises
    ------
    RequestError
        ``models_alike`` for two of one name, ``models_differ`` for two that take different images.
    """
    if len(models) == 1:
        return [""]
    bundles = [model.bundle for model in models]
    names, first = [bundle.name for bundle in bundles], bundles[0]
    for index, bundle in enumerate(bundles):
        if bundle.name in names[:index]:
            raise names_clash(bundle.name, bundle.url)
        if _takes(bundle) != _takes(first):
            raise RequestError(
                "models_differ",
                subject=bundle.url,
                found=f"a model of {images_of(bundle)}",
                wanted=f"{images_of(first)}, as {first.name} takes",
                remedy="Run it by itself",
            )
    return names


def names_clash(name: str, subject: str) -> RequestError:
    """Return the error of two models of one request whose results would have one folder."""
    return RequestError(
        "models_alike",
        subject=subject,
        found=f"a second model named {name}",
        wanted="a name for each model: the folder of its results",
        remedy="Copy or link one of them under another name",
    )


def region_of(within: str | None, bundle: Bundle) -> Region | None:
    """Return the region that ``liver:20mm`` names, by the labels of a model.

    Raises
    ------
    RequestError
        ``region_invalid``.
    """
    if within is None:
        return None
    names, _, margin = within.rpartition(":")
    try:
        labels = LabelNumbers(bundle.labels).read(names)
    except ValueError as error:
        raise RequestError(
            "region_invalid", subject="--within", found=str(error), wanted="its labels, and mm",
            remedy="Name labels of the first model, as in --within liver:20",
        ) from error  # fmt: skip
    return Region(labels, float(margin.removesuffix("mm")))


def _takes(bundle: Bundle) -> tuple[object, ...]:
    names = bundle.channel_names if bundle.image_channels > 1 else ()
    return (bundle.image_channels, names, bundle.slice_axis is not None)


def images_of(bundle: Bundle) -> str:
    """Return what images a network takes, in words: how many channels, which, of what."""
    kind = "volumes" if bundle.slice_axis is None else "slices"
    names = ", ".join(bundle.channel_names) if bundle.image_channels > 1 else ""
    return f"{kind} of {bundle.image_channels} channels" + (f" ({names})" if names else "")
