"""A request to look inside a network, checked before any work."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unet_pipeline.config import Budget, ClusterSettings, LayersSettings, SegmentSettings
from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.evaluation.layer_records import LayerRecord
from unet_pipeline.gate.examine import examine
from unet_pipeline.inference.predictor import Predictor
from unet_pipeline.layer_analysis.catalog import choose_layers, list_layers
from unet_pipeline.layer_analysis.inspected_network import InspectedNetwork
from unet_pipeline.layer_analysis.wiring import wired
from unet_pipeline.model import Model
from unet_pipeline.networks.slices import SliceNetwork
from unet_pipeline.opening import open_model
from unet_pipeline.records import Case
from unet_pipeline.request import job_of, new_run_id, open_store
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume_job import VolumeJob


@dataclass(frozen=True)
class LayersRun:
    """A checked request.

    Attributes
    ----------
    layers, chosen
        All layers of the network, wired; those that are looked into.
    cases, faults
        The cohort without cases that a manifest says are for training, and cases that were at fault
        already when it was listed.
    """

    run_id: str
    settings: LayersSettings
    store: Store
    model: Model
    inspected: InspectedNetwork
    layers: tuple[LayerRecord, ...]
    chosen: tuple[LayerRecord, ...]
    cases: tuple[Case, ...]
    faults: tuple[tuple[str, CaseError], ...]

    @property
    def folder(self) -> str:
        """URL of the folder that everything is written to."""
        return join(self.settings.output, "runs", self.run_id)

    @property
    def blocks(self) -> tuple[LayerRecord, ...]:
        """The blocks of the network, whether they are looked into or not."""
        return tuple(one for one in self.layers if one.block)

    def job(self, case: Case) -> VolumeJob:
        """Return what reads a case, once its headers have passed the gate.

        Raises
        ------
        CaseError
            The first finding that fails.
        """
        examined = examine(self.store, case, self.model.policy)
        examined.sound_header()
        return job_of(_as_segment(self.settings), self.model, case, examined)

    def shuffled(self) -> Iterator[Case]:
        """Yield the cases in an order that depends on the seed and on their names alone."""
        ordered = sorted(self.cases, key=lambda case: case.name)
        for index in np.random.default_rng(self.settings.seed).permutation(len(ordered)):
            yield ordered[index]


def open_layers(settings: LayersSettings) -> LayersRun:
    """Check everything about a request that can be checked before work starts.

    Raises
    ------
    RequestError
        For storage that cannot be reached or written, a bundle or a layer that cannot be looked
        into, or a cohort without a case.
    """
    store = open_store(settings.storage)
    model = open_model(_as_segment(settings), store)
    cohort = discover(
        store,
        settings.images,
        settings.masks,
        mask_pattern=settings.mask_pattern,
        channels=model.bundle.channels,
        labels=model.bundle.labels,
    )
    store.check_writable(settings.output)
    inspected = open_inspected(model)
    layers = wired(inspected, list_layers(inspected))
    chosen = choose_layers(layers, settings.layers)
    return LayersRun(
        run_id=new_run_id(),
        settings=settings,
        store=store,
        model=model,
        inspected=inspected,
        layers=tuple(layers),
        chosen=tuple(chosen),
        cases=tuple(case for case in cohort.cases if not case.is_for_training),
        faults=tuple((case.name, error) for case, error in cohort.faults),
    )


def bundle_layers(settings: LayersSettings) -> list[LayerRecord]:
    """Return the layers of a bundle's network, wired; the cohort is not looked at."""
    model = open_model(_as_segment(settings), open_store(settings.storage))
    inspected = open_inspected(model)
    return wired(inspected, list_layers(inspected))


def open_inspected(model: Model) -> InspectedNetwork:
    """Load a bundle's network as the product runs it, ready to be looked into.

    Raises
    ------
    RequestError
        As ``load_network`` and ``at_depth``; ``layers_hidden`` for a network without parameters
        of its own (a program), and for one that sees more than images.
    """
    if model.first_stage is not None:
        raise RequestError(
            "layers_hidden",
            subject=model.bundle.name,
            found="the second stage of a cascade, which sees labels beside the image",
            wanted="a network that sees images alone",
            remedy="Look into its first stage, or into a model of one stage",
        )
    network, bundle = Predictor(model.spec).network, model.bundle
    if isinstance(network, SliceNetwork):
        network = network.network
    if not any(True for _ in network.parameters()):
        raise RequestError(
            "layers_hidden",
            subject=bundle.name,
            found="a network that is a program (TorchScript, torch.export)",
            wanted="one of modules, whose outputs can be looked at",
            remedy="Take a bundle with weights and a network_def",
        )
    return InspectedNetwork(
        network, bundle.in_channels, bundle.out_channels, bundle.roi_size, bundle.slice_axis
    )


def _as_segment(settings: LayersSettings) -> SegmentSettings:
    """Return the settings with which ``segment`` would read the same cases."""
    return SegmentSettings(
        images=settings.images,
        model=settings.model,
        output=settings.output,
        masks=settings.masks,
        mask_pattern=settings.mask_pattern,
        require_masks=True,
        depth=None if settings.depth is None else str(settings.depth),
        trust=settings.trust,
        ignore_postprocessing=settings.ignore_postprocessing,
        cluster=ClusterSettings(kind="serial", threads=settings.threads),
        storage=settings.storage,
        budget=Budget(**settings.limits.model_dump()),
        gate=settings.gate.model_dump(),
    )
