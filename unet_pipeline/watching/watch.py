"""One run, watched: it is told of each record, and shows how far the run is."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from unet_pipeline import stopping
from unet_pipeline.errors import PipelineError
from unet_pipeline.records import CaseRecord, RunSummary
from unet_pipeline.run_end import AS_ASKED
from unet_pipeline.watching.places import Places
from unet_pipeline.watching.progress import How, ModelProgress, Progress

if TYPE_CHECKING:  # runs import torch, which takes seconds, and watching begins before
    from unet_pipeline.runs import Run

NAME = "segment"  # of runs that have no deployment


class Watch:
    """How far a run is; told by the thread that takes its records, asked by any."""

    def __init__(self) -> None:
        self.progress = Progress(time.time())

    def begin(self, run: "Run", workers: int) -> None:
        """Take what a checked request says of the run, as its first case begins."""
        now, limit = time.time(), run.end.seconds
        models = {
            one.model_name: ModelProgress(
                one.model_name or one.model.bundle.name, len(one.cases) + len(one.faults)
            )
            for one in run.each
        }
        self.progress = replace(
            self.progress,
            run_id=run.run_id,
            models=models,
            workers=workers,
            begun=now,
            known=_known(run),
            limit=None if limit is None else now + limit - (time.perf_counter() - run.end.begin),
        )

    def take(self, records: Sequence[CaseRecord]) -> None:
        """Count cases that have ended, but not those that a stop cut short."""
        ended = [one for one in records if one.code != stopping.CODE]
        self.progress = self.progress.after(ended, time.time())

    def end(self, summaries: Sequence[RunSummary]) -> None:
        """Say that the run has ended as its summaries, of each model, say."""
        code = next((one.stop_code for one in summaries if one.stopped), "")
        self._end(_how_by_code(code), code)

    def end_by(self, error: BaseException) -> None:
        """Say that the run was ended by an error, unless it has ended before."""
        if self.progress.ended is None:
            self._end(_how(error), error.code if isinstance(error, PipelineError) else "")

    def _end(self, how: How, code: str) -> None:
        self.progress = replace(self.progress, ended=time.time(), how=how, code=code)


@contextmanager
def watching(places: Places, name: str = NAME) -> Iterator[Watch]:
    """Watch the run of the block, and show its numbers at some places.

    Parameters
    ----------
    name
        What runs of this kind are called on this machine: a label, and the name of the file where
        only its folder is said.
    """
    watch = Watch()
    with ExitStack() as stack:
        if places != Places():
            stack.enter_context(_shown(watch, places, name))
        try:
            yield watch
        except BaseException as error:
            watch.end_by(error)
            raise


@contextmanager
def _shown(watch: Watch, places: Places, name: str) -> Iterator[None]:
    from unet_pipeline.watching.exports import at_port, in_file, own_file, registry_of
    from unet_pipeline.watching.samples import Metrics

    with ExitStack() as stack:
        wanted = places.file_of(name)
        file = None if wanted is None else stack.enter_context(own_file(wanted))
        metrics = Metrics(name if file is None else file.stem, lambda: watch.progress)
        if file is not None:
            stack.enter_context(in_file(file, metrics))
        if places.address is not None:
            stack.enter_context(at_port(places.address, registry_of(metrics)))
        yield


def _known(run: "Run") -> int:
    """Return the number of records that no work is done for."""
    faults = sum(len(one.faults) for one in run.each)
    if any(one.night is None for one in run.each):
        return faults
    known = [one.night.known for one in run.each if one.night is not None]
    done = sum(all(case.name in names for names in known) for case in run.cases)
    return faults + done * len(run.each)


def _how_by_code(code: str) -> How:
    if not code:
        return "completed"
    if code in AS_ASKED:
        return "stopped_as_asked"
    return "stopped_by_signal" if code == stopping.CODE else "stopped_by_fault"


def _how(error: BaseException) -> How:
    from unet_pipeline.storage.outage import is_of_store

    if isinstance(error, PipelineError):
        return _how_by_code(error.code) if is_of_store(error) else "refused"
    is_signal = stopping.received() is not None or not isinstance(error, Exception)
    return "stopped_by_signal" if is_signal else "crashed"
