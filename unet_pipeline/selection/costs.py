"""What candidates cost: parameters, multiply-adds, time."""

import logging
from collections.abc import Sequence
from statistics import fmean, median

import torch

from unet_pipeline.cluster.executor import Executor
from unet_pipeline.errors import CaseError
from unet_pipeline.evaluation.records import ModelCost
from unet_pipeline.gate.examine import examine
from unet_pipeline.jobs.segment import with_engine
from unet_pipeline.model import Model
from unet_pipeline.networks.bundle_tools import parameters_of
from unet_pipeline.networks.costs import multiply_adds
from unet_pipeline.networks.loading import load_network
from unet_pipeline.networks.pruning import at_depth
from unet_pipeline.records import Case, CaseRecord
from unet_pipeline.request import job_of
from unet_pipeline.runs import Run
from unet_pipeline.selection.candidates import Candidate
from unet_pipeline.selection.timing import CASES, milliseconds_per_window
from unet_pipeline.volume_job import VolumeJob

log = logging.getLogger(__name__)


def time_windows(
    candidates: Sequence[Candidate], names: Sequence[str], executor: Executor
) -> dict[str, float]:
    """Return the time of a window in the network of each candidate, in ms, as a worker has it.

    Nothing is returned if that fails: an evaluation is not lost for want of it. Nor is it where a
    candidate is a cascade, whose stages have windows of their own.

    Parameters
    ----------
    names
        Cases that every candidate was scored on; a few of them are used.
    """
    if any(candidate.run.model.first_stage is not None for candidate in candidates):
        return {}
    step = max(1, len(names) // CASES)
    cases = [c for c in candidates[0].cases if c.name in set(names[::step][:CASES])]
    try:
        runs = [with_engine(candidate.run, executor) for candidate in candidates]
        jobs = [[_volume_job(run, case) for case in cases] for run in runs]
        found = executor.result(executor.submit(milliseconds_per_window, jobs))
    except CaseError as error:
        log.warning("windows are not timed in turns: %s", error)
        return {}
    return dict(zip((candidate.name for candidate in candidates), found, strict=True))


def model_cost(
    model: Model, ms_per_window: float | None, records: Sequence[CaseRecord]
) -> ModelCost:
    """Return what a candidate costs: of its network, and as measured on the cases.

    Parameters
    ----------
    ms_per_window
        Of ``time_windows``, or None to take the median over the cases.
    """
    parameters, adds = network_cost(model)
    windows = fmean(record.windows for record in records)
    if ms_per_window is None:
        ms_per_window = median(
            1000 * record.seconds.get("forward", 0.0) / max(record.windows, 1) for record in records
        )
    return ModelCost(
        parameters=parameters,
        multiply_adds=adds,
        windows=windows,
        ms_per_window=ms_per_window,
        forward_seconds=windows * ms_per_window / 1000,
        seconds=median(record.seconds.get("total", 0.0) for record in records),
    )


def network_cost(model: Model) -> tuple[int, int | None]:
    """Return the parameters of a model at its depth, and the multiply-adds of a window.

    Those of adaptive depth are the mean over the windows that its rule was calibrated on. Where a
    volume is one window, each has another number: None. So it is of a cascade, whose parameters are
    those of both stages.
    """
    bundle, spec = model.bundle, model.spec
    adaptive = spec.depth == "adaptive"
    whole = load_network(bundle, spec.store)
    network = at_depth(whole, "mean" if adaptive else spec.depth)
    x = torch.zeros(1, bundle.in_channels, *bundle.in_plane_roi)
    adds, _ = multiply_adds(network.eval(), x)
    if bundle.slice_axis is not None:
        adds *= bundle.roi_size[bundle.slice_axis]
    if adaptive and bundle.adaptive is not None:
        adds = round(adds * bundle.adaptive.multiply_adds_share)
    known = 0 if bundle.whole else adds * 2 ** len(spec.mirror)
    if model.first_stage is None:
        return parameters_of(network), known or None
    return parameters_of(network) + network_cost(model.first_stage)[0], None


def _volume_job(run: Run, case: Case) -> VolumeJob:
    examined = examine(run.store, case, run.model.policy)
    return job_of(run.settings, run.model, case, examined)
