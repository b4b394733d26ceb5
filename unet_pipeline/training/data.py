"""A cohort, ready to be trained on: found, gated, read, split, its labels counted."""

import logging
from collections.abc import Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.gate.examine import Policy
from unet_pipeline.gate.workload import Layout
from unet_pipeline.networks.bundle_writer import standard_preprocessing
from unet_pipeline.storage.cases import Cohort
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.ledger import digest_json
from unet_pipeline.storage.outage import stop_for, under_way
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Index3
from unet_pipeline.training.array_cache import ArrayCache
from unet_pipeline.training.cases import (
    LoadedCase,
    SoundCase,
    Spacing,
    load_case,
    median_spacing_mm,
    pass_gate,
)
from unet_pipeline.training.crops import Sample
from unet_pipeline.training.losses import classes_of
from unet_pipeline.training.split import Split, is_used, split_of
from unet_pipeline.volume.preprocessing import parse_preprocessing

log = logging.getLogger(__name__)
Faults = tuple[tuple[str, CaseError], ...]


@dataclass(frozen=True)
class DataRequest:
    """What is asked of a cohort.

    Attributes
    ----------
    roi_size, overlap, most_windows
        Windows that cases are validated by, and how many one may have; None for the default.
    spacing_mm
        Model spacing; None for the median of the cohort.
    classes
        Output channels of the network, background included; None for as many as the labels need.
    holdout, seed, fold
        As of ``split_of``.
    label_names
        Names of the labels 1, 2 and so on, as far as they are known.
    """

    images: str
    masks: str | None
    mask_pattern: str | None
    policy: Policy
    roi_size: Index3
    overlap: float
    most_windows: int | None
    spacing_mm: Spacing | None
    classes: int | None
    holdout: float
    seed: int
    fold: str | None
    label_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingData:
    """The sound cases, each decoded once.

    Attributes
    ----------
    classes
        Output channels that the network needs, background included.
    digest
        Of the names of the cases and of the content of their files.
    faults
        Cases left out, each with its error.
    """

    cases: Mapping[str, LoadedCase]
    split: Split
    spacing_mm: Spacing
    preprocessing: Sequence[dict[str, Any]]
    classes: int
    digest: str
    faults: Faults

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return len(next(iter(self.cases.values())).sample.image_CXYZ)

    @property
    def training(self) -> list[Sample]:
        """The cases to train on, in the model space."""
        return [self.cases[name].sample for name in self.split.training]

    @property
    def held_out(self) -> list[LoadedCase]:
        """The cases kept aside."""
        return [self.cases[name] for name in self.split.held_out]

    @property
    def warnings(self) -> dict[str, tuple[str, ...]]:
        """For each case that the gate warns about, the codes."""
        return {name: case.warnings for name, case in self.cases.items() if case.warnings}


def gather(store: Store, request: DataRequest, cache: ArrayCache) -> TrainingData:
    """Find, gate, read and split the cases; one bad case is left out and never stops the others.

    Raises
    ------
    RequestError
        What ``discover``, ``split_of`` and ``classes_of`` raise; ``no_training_cases``.
    RunStopped
        For a fault of the store once the cohort is listed.
    """
    cohort = discover(
        store,
        request.images,
        request.masks,
        mask_pattern=request.mask_pattern,
        labels=dict(enumerate(request.label_names, start=1)),
    )
    with under_way():
        return _gather(store, request, cache, cohort)


def _gather(store: Store, request: DataRequest, cache: ArrayCache, cohort: Cohort) -> TrainingData:
    cases = [case for case in cohort.cases if is_used(case)]
    policy = replace(request.policy, file_channels=cohort.channels)
    sound, at_fault = pass_gate(store, cases, policy, (request.images, request.masks))
    faults = [*((case.name, error) for case, error in cohort.faults), *at_fault]
    _require(sound, faults)
    spacing_mm = request.spacing_mm or median_spacing_mm(item.grid for item in sound)
    preprocessing = standard_preprocessing(spacing_mm)
    policy = replace(policy, layout=_layout(request, preprocessing, sound[0].channels))
    loaded, unreadable = _load(store, sound, preprocessing, policy, cache, request)
    faults += unreadable
    _require(loaded, faults)
    split = split_of(
        [item.case for item in sound if item.case.name in loaded],
        holdout=request.holdout,
        seed=request.seed,
        fold=request.fold,
    )
    labels_of = {name: _labels(case) for name, case in loaded.items()}
    return TrainingData(
        loaded,
        split,
        spacing_mm,
        preprocessing,
        classes_of(labels_of, request.classes),
        digest_of(loaded),
        tuple(faults),
    )


def digest_of(cases: Mapping[str, LoadedCase]) -> str:
    """Return the digest of the names of cases and of the content of their files."""
    return digest_json(
        {
            name: [(one["role"], one["sha256"]) for one in map(asdict, case.inputs)]
            for name, case in cases.items()
        }
    )


def _layout(
    request: DataRequest, preprocessing: Sequence[Mapping[str, Any]], channels: int
) -> Layout:
    return Layout(
        steps=tuple(parse_preprocessing(preprocessing)),
        roi_size=request.roi_size,
        overlap=request.overlap,
        placement="packed",
        channels=channels,
        most_windows=request.most_windows,
    )


def _load(
    store: Store,
    sound: Sequence[SoundCase],
    preprocessing: Sequence[Any],
    policy: Policy,
    cache: ArrayCache,
    request: DataRequest,
) -> tuple[dict[str, LoadedCase], list[tuple[str, CaseError]]]:
    loaded, faults = {}, []
    for item in sorted(sound, key=lambda one: one.case.name):
        name = item.case.name
        try:
            loaded[name] = _cached(load_case(store, item, preprocessing, policy), cache)
        except CaseError as error:
            stop_for(store, error, (request.images, request.masks))
            faults.append((name, error))
            log.warning("%s is left out of training (%s)", name, error.code)
    return loaded, faults


def _cached(case: LoadedCase, cache: ArrayCache) -> LoadedCase:
    sample = Sample(*map(cache.keep, case.sample))
    return replace(case, sample=sample, mask_XYZ=cache.keep(case.mask_XYZ))


def _labels(case: LoadedCase) -> frozenset[int]:
    return frozenset(np.unique(case.mask_XYZ).tolist())


def _require(cases: Sized, faults: Sequence[tuple[str, CaseError]]) -> None:
    if not cases:
        codes = ", ".join(sorted({error.code for _, error in faults})) or "none found"
        raise RequestError(
            "no_training_cases",
            found=f"no sound case; {len(faults)} at fault ({codes})",
            wanted="at least one image with a mask on its grid",
            remedy="Run unet-pipeline check on the images and masks",
        )
