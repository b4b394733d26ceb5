"""The path of one case: read, plan, infer, merge, write.

``segment_volumes`` knows neither Prefect nor Dask: it is given an executor. The serial executor and
the Dask executor give byte-identical label maps.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import perf_counter

from unet_pipeline.cascade import first_labels, first_stage_of, shape_of, with_first_labels
from unet_pipeline.cluster.executor import Executor, Handle, SerialExecutor
from unet_pipeline.errors import PipelineError, RunStopped
from unet_pipeline.finishing import finish_case
from unet_pipeline.inference.memory import memory_named
from unet_pipeline.shared_volume import SharedVolume
from unet_pipeline.storage.claims import written_since
from unet_pipeline.storage.faults import of_case
from unet_pipeline.storage.label_maps import endings_of
from unet_pipeline.storage.outage import with_retries
from unet_pipeline.storage.sidecar import Sidecar, write_sidecar
from unet_pipeline.tasks import (
    combine_labels,
    hold_scratch,
    plan_volume,
    prepared_of,
    remove_scratch,
)
from unet_pipeline.tiles import (
    label_tile,
    let_go_of,
    merge_tile,
    score_tile,
    stats_of,
)
from unet_pipeline.tiling.plan import Tile, TilePlan
from unet_pipeline.volume.steps import Prepared
from unet_pipeline.volume_job import VolumeJob

CLEANING_SECONDS = 10.0

Outcome = Sidecar | PipelineError  # of a job: its record, or why there is none


def segment_volumes(jobs: Sequence[VolumeJob], executor: Executor) -> list[Outcome]:
    """Segment one case by each of several models; write label map, picture and sidecar of each.

    The files are read once, and what the models' preprocessing begins with is done once.

    Returns
    -------
    list of Sidecar or PipelineError
        For each job; with an error no sidecar says that it is done.
    """
    volume = SharedVolume(jobs, executor)
    try:
        outcomes: list[Outcome] = []
        for job in volume.jobs:
            outcomes.append(
                _fault_of_needed(job, volume, outcomes) or _outcome(job, volume, executor)
            )
        return outcomes
    finally:  # patients' voxels stay nowhere, whatever happened
        name = volume.jobs[0].scratch
        remove_scratch(name)
        with suppress(PipelineError, RunStopped):  # no worker is left that could
            executor.everywhere(CLEANING_SECONDS, remove_scratch, name)


def segment_once(jobs: Sequence[VolumeJob]) -> list[Outcome]:
    """Segment a case in one call, unless it is the repetition of one that has done so.

    Dask begins a call again whose worker died. That may be in the moment in which the case was
    finished, and before anybody was told.
    """
    known = [_done_before(job) for job in jobs]
    left = [job for job, one in zip(jobs, known, strict=True) if one is None]
    fresh = iter(segment_volumes(left, SerialExecutor()) if left else ())
    return [next(fresh) if one is None else one for one in known]


def _done_before(job: VolumeJob) -> Sidecar | None:
    """Return the record of a case that this very call has finished; None for any other."""
    if job.claim is None:
        return None
    with suppress(PipelineError):  # of a store that fails: then it is segmented
        return written_since(job.store, job.claim, endings_of(job.output_format)[0])
    return None


def _fault_of_needed(
    job: VolumeJob, volume: SharedVolume, outcomes: Sequence[Outcome]
) -> PipelineError | None:
    """Return why a model has no label map, where a job is made with it."""
    for other, outcome in zip(volume.jobs, outcomes, strict=False):
        if other.claim is None or not isinstance(outcome, PipelineError):
            continue
        if any(needed.startswith(other.claim.output) for needed in job.needs):
            return outcome
    return None


def _outcome(job: VolumeJob, volume: SharedVolume, executor: Executor) -> Outcome:
    try:
        with of_case(job.case), memory_named():
            return _segment(job, volume, executor)
    except RunStopped:
        raise
    except PipelineError as error:
        return error


def _segment(job: VolumeJob, volume: SharedVolume, executor: Executor) -> Sidecar:
    begin = perf_counter()
    labels, before = _first_stage(job, volume, executor)
    staged = volume.staged(job)
    if labels is not None:
        staged = executor.submit(with_first_labels, staged, labels, job)
    if job.combined:
        tiles = [executor.submit(combine_labels, job)]
    else:
        tiles = _scored(staged, job, executor)
    claim, sidecar = executor.result(executor.submit(finish_case, staged, tiles, before, job))
    finished: Sidecar = sidecar.within(sum(job.seconds.values()) + perf_counter() - begin)
    with_retries(lambda: claim.write_record(job.store, write_sidecar(finished, job.said)))
    return finished


def _first_stage(
    job: VolumeJob, volume: SharedVolume, executor: Executor
) -> tuple[Handle | None, Handle]:
    """Have the first stage of a cascade run; return handles of its labels and of what it took.

    They are waited for: a worker holds a case as one stage sees it, and not as both do.
    """
    first = first_stage_of(job)
    if first is None:
        return None, ()
    staged = volume.staged(first)
    tiles = _scored(staged, first, executor)
    labels = executor.submit(first_labels, staged, tiles, first)
    executor.result(executor.submit(shape_of, labels))
    return labels, executor.submit(stats_of, tiles)


def _scored(staged: Handle, job: VolumeJob, executor: Executor) -> list[Handle]:
    """Plan a volume, and have its tiles scored; return a handle of each ``LabelledTile``."""
    prepared: Prepared = executor.result(executor.submit(prepared_of, staged))
    hold_scratch(job)
    plan: TilePlan = executor.result(executor.submit(plan_volume, prepared, job))
    if any(tile.order is None for tile in plan.tiles):
        return _map_seams(staged, prepared, plan, job, executor)
    return [_label(staged, tile, prepared, plan, job, executor) for tile in plan.tiles]


def _map_seams(
    staged: Handle, prepared: Prepared, plan: TilePlan, job: VolumeJob, executor: Executor
) -> list[Handle]:
    """Score all tiles, and merge the seams between them.

    Tiles start in raster order, and not more than the workers can hold are under way. A tile is
    merged as soon as every tile that reaches into it has started, and partials are removed as
    soon as the last tile that needs them is merged.
    """
    scores: dict[int, Handle] = {}
    merged: dict[int, Handle] = {}
    running: list[Handle] = []
    removing: list[Handle] = []
    for step in plan.schedule():
        tile = step.tile
        if tile.windows:
            running = executor.wait_for_room(running, 2 * executor.workers + 1)
            scores[tile.index] = _score(staged, tile, prepared, plan, job, executor)
            running.append(scores[tile.index])
        for target in step.merged:
            merged[target.index] = _merge(target, scores, prepared, plan, job, executor)
        for index in step.freed:
            if index in scores:
                targets = [merged[target] for target in plan.targets(plan.tiles[index])]
                removing.append(executor.submit(let_go_of, scores.pop(index), targets))
        removing = executor.wait_for_room(removing, len(plan.tiles) + 1)  # forgets what is done
    return [merged[tile.index] for tile in plan.tiles]


def _label(
    staged: Handle,
    tile: Tile,
    prepared: Prepared,
    plan: TilePlan,
    job: VolumeJob,
    executor: Executor,
) -> Handle:
    read_box = plan.cover_box(tile)
    return executor.submit(
        label_tile, staged, read_box, tile, prepared, job.spec, job.margins, job.room
    )


def _score(
    staged: Handle,
    tile: Tile,
    prepared: Prepared,
    plan: TilePlan,
    job: VolumeJob,
    executor: Executor,
) -> Handle:
    boxes = (plan.cover_box(tile), plan.seams_for(tile))
    how = (prepared, job.spec, job.margins, job.scratch)
    return executor.submit(score_tile, staged, tile, *boxes, *how)


def _merge(
    tile: Tile,
    scores: Mapping[int, Handle],
    prepared: Prepared,
    plan: TilePlan,
    job: VolumeJob,
    executor: Executor,
) -> Handle:
    windows = [plan.tiles[index].windows for index in tile.sources]
    sources = [scores[index] for index in tile.sources]
    how = (job.spec, job.margins, job.scratch)
    return executor.submit(
        merge_tile, prepared, tile, windows, sources, scores.get(tile.index), *how
    )
