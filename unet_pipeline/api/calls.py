"""The jobs of the command line as functions.

Settings are those of the command line by the same names, with ``_`` for ``-``: ``memory_gb=4``,
``remedies=("reorient",)``. A wrong one raises ``RequestError``; a case at fault raises nothing and
says why in its record.
"""

from collections.abc import Iterable
from dataclasses import replace
from time import perf_counter
from typing import Any, TypeVar

from torch import nn

from unet_pipeline import console
from unet_pipeline.api.results import Checked, HasCase, Measured, Planned, Segmented
from unet_pipeline.api.settings import settings_of
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import (
    CheckSettings,
    PlanSettings,
    SegmentSettings,
    StatisticsSettings,
    TidySettings,
    TrainSettings,
)
from unet_pipeline.errors import RunStopped
from unet_pipeline.evaluation.groups import groups_of
from unet_pipeline.jobs.check import close_check, open_check, run_check
from unet_pipeline.jobs.plan import CasePlan, close_plan, open_plan, run_plan
from unet_pipeline.jobs.segment import (
    close_models,
    faults_of,
    open_segment,
    run_segment,
    with_engine,
)
from unet_pipeline.jobs.statistics import close_statistics, open_statistics, run_statistics
from unet_pipeline.jobs.tidy import TidySummary, close_tidy, open_tidy, run_tidy
from unet_pipeline.jobs.train import open_train, run_train
from unet_pipeline.networks import loading
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.records import CaseRecord, CheckRecord, RunSummary
from unet_pipeline.run_end import AS_ASKED
from unet_pipeline.runs import Run
from unet_pipeline.storage.store import Store
from unet_pipeline.training.report import TrainReport

Record = TypeVar("Record", bound=HasCase)


def segment(images: str, *, model: str, output: str, **settings: Any) -> Segmented:
    """Segment every volume of a cohort.

    Parameters
    ----------
    images
        A folder or prefix, a glob, a BIDS tree, or a manifest; any URL of fsspec.
    model
        A bundle of MONAI, a trained model of nnU-Net, or the name of a bundle of this package; or a
        file that lists models (docs/several-models.md).
    output
        Prefix that label maps, sidecars and reports are written to.
    **settings
        As the options of ``unet-pipeline segment``. ``cluster`` is ``"serial"`` by default, this
        process; worker processes (``"local"``) import the script that starts them, so it needs
        ``if __name__ == "__main__":``.

    Returns
    -------
    Segmented
        A record for each case; ``result.labels(case)`` reads a label map. What further models
        (``also=``) made is in ``result.also[name]``. Where ``stop_after=`` or ``stop_at_price=``
        ended the run, ``result.summary.left`` cases have none.

    Raises
    ------
    RequestError
        For what is wrong with the request; nothing was written.
    RunStopped
        For a fault of the store or the cluster that concerns all cases. The report is written, and
        the same call goes on.

    Examples
    --------
    >>> import unet_pipeline as up
    >>> result = up.segment("scans/", model="hippocampus", output="labels/")  # doctest: +SKIP
    >>> result.labels("sub-01").labels_XYZ.shape  # doctest: +SKIP
    (35, 51, 35)
    """
    given = {"images": images, "model": model, "output": output, "cluster": "serial"}
    asked = settings_of(SegmentSettings, given | settings)
    with open_executor(asked.cluster.spec(asked.windows.batch)) as executor:
        run = open_segment(asked)
        records, begin, stopped = faults_of(run), perf_counter(), None
        total = len(run.each) * len(run.cases) + len(records)
        with console.case_progress(total, "Segmenting") as progress:
            for record in records:
                console.advance(progress, record)
            try:
                run = with_engine(run, executor)
                for record in run_segment(run, executor):
                    records.append(record)
                    console.advance(progress, record)
            except RunStopped as error:
                stopped = error
        seconds, workers = perf_counter() - begin, executor.workers
        ending = {"seconds": seconds, "workers": workers, "stopped": stopped}
        summaries = close_models(run, records, **ending)
    if stopped is not None and stopped.code not in AS_ASKED:
        raise stopped
    first, *further = (
        _segmented(one, records, summary) for one, summary in zip(run.each, summaries, strict=True)
    )
    return replace(first, also={one.summary.model: one for one in further})


def _segmented(run: Run, records: Iterable[CaseRecord], summary: RunSummary) -> Segmented:
    mine = _by_name(record for record in records if record.model == summary.model)
    groups = groups_of(run.cases)
    return Segmented(mine, summary, run.model.bundle.labels, run.store, groups=groups)


def check(images: str, masks: str | None = None, **settings: Any) -> Checked:
    """Check the geometry of images, and whether masks lie on them.

    Parameters
    ----------
    images, masks
        As for ``segment``.
    **settings
        As the options of ``unet-pipeline check``.

    Returns
    -------
    Checked
        A verdict for each case (pass, warn, fail), with codes and millimetres.

    Raises
    ------
    RequestError
        For what is wrong with the request.
    """
    asked = settings_of(CheckSettings, {"images": images, "masks": masks} | settings)
    begin, run, stopped = perf_counter(), open_check(asked), None
    records: list[CheckRecord] = []
    with (
        open_executor(asked.cluster.spec()) as executor,
        console.case_progress(len(run.cases) + len(run.faults), "Checking") as progress,
    ):
        try:
            for record in run_check(run, executor):
                records.append(record)
                console.advance_check(progress, records, perf_counter() - begin)
        except RunStopped as error:
            stopped = error
    summary = close_check(run, records, seconds=perf_counter() - begin, stopped=stopped)
    if stopped is not None:
        raise stopped
    return Checked(_by_name(records), summary)


def plan(images: str, *, model: str, **settings: Any) -> Planned:
    """Say from headers alone what ``segment`` would take: windows, tiles, bytes and memory.

    Parameters
    ----------
    images, model
        As for ``segment``.
    **settings
        As the options of ``unet-pipeline plan``; nothing is timed.

    Raises
    ------
    RequestError
        For what is wrong with the request.
    """
    asked = settings_of(PlanSettings, {"images": images, "model": model} | settings)
    run = open_plan(asked)
    made = list(run_plan(run))
    plans = [one for one in made if isinstance(one, CasePlan)]
    faults = [one for one in made if isinstance(one, CaseRecord)]
    found = close_plan(run, plans, len(faults), None)
    return Planned(_by_name(plans), tuple(faults), found)


def statistics(labels: str, images: str | None = None, **settings: Any) -> Measured:
    """Measure label maps that exist already, and say which of them want a look.

    Parameters
    ----------
    labels
        Whoever made them: a folder or prefix, a glob, a file, or an output of ``segment``.
    images
        That they lie on; then values under labels are measured, too.
    **settings
        As the options of ``unet-pipeline statistics``.

    Returns
    -------
    Measured
        A record for each label map, with ``statistics``; ``result.to_review()`` names those that
        are unlike the others.

    Raises
    ------
    RequestError
        For what is wrong with the request.
    """
    asked = settings_of(StatisticsSettings, {"labels": labels, "images": images} | settings)
    run, stopped = open_statistics(asked), None
    records: list[CaseRecord] = []
    with (
        open_executor(asked.cluster.spec()) as executor,
        console.case_progress(run.total, "Measuring") as progress,
    ):
        try:
            for record in run_statistics(run, executor):
                records.append(record)
                console.advance(progress, record)
        except RunStopped as error:
            stopped = error
    summary = close_statistics(run, records, stopped=stopped)
    if stopped is not None:
        raise stopped
    return Measured(_by_name(records), summary)


def train(images: str, masks: str | None = None, *, output: str, **settings: Any) -> TrainReport:
    """Train a network, score it on cases kept aside, and write it as a bundle.

    Parameters
    ----------
    images, masks
        As for ``segment``; a manifest may name masks, ``split`` and ``fold``.
    output
        Folder of the bundle; a training that was stopped goes on from what lies there.
    **settings
        As the options of ``unet-pipeline train``.
    """
    given = {"images": images, "masks": masks, "output": output}
    asked = settings_of(TrainSettings, given | settings)
    with console.step_progress(asked.steps) as (on_step, on_history):
        return run_train(open_train(asked), on_step, on_history)


def tidy(output: str, **settings: Any) -> TidySummary:
    """Name old folders of runs and scratch of killed ones; with ``yes=True``, remove them.

    Parameters
    ----------
    output
        Output of ``segment``, ``check`` or ``statistics``.
    **settings
        As the options of ``unet-pipeline tidy``.

    Raises
    ------
    RequestError
        For what is wrong with the request.
    """
    run = open_tidy(settings_of(TidySettings, {"output": output} | settings))
    return close_tidy(run, run_tidy(run))


def load_bundle(model: str, *, trust: bool = False) -> Bundle:
    """Read the configuration of a bundle and the digest of its weights.

    Parameters
    ----------
    model
        As for ``segment``.
    trust
        Whether code of the bundle may be run.
    """
    return loading.load_bundle(model, Store(), trust=trust)


def load_network(bundle: Bundle) -> nn.Module:
    """Build the network of a bundle with its weights, in evaluation mode, on the CPU."""
    return loading.load_network(bundle, Store())


def _by_name(records: Iterable[Record]) -> tuple[Record, ...]:
    return tuple(sorted(records, key=lambda record: record.case))
