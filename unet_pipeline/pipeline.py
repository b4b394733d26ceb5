"""The straight line of one case: read, plan, infer, merge, write.

``segment_volume`` knows neither Prefect nor Dask: it is given an executor. The serial executor and
the Dask executor give byte-identical label maps.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from unet_pipeline.cluster.executor import Executor, Handle
from unet_pipeline.cost import added, with_wait
from unet_pipeline.errors import PipelineError, RunStopped
from unet_pipeline.gate.examine import Examined
from unet_pipeline.inference.predictor import Spent
from unet_pipeline.records import CheckRecord, MaskFault, json_bytes
from unet_pipeline.storage.outage import patiently
from unet_pipeline.storage.sidecar import DONE, FORMAT, MADE_BY
from unet_pipeline.tasks import (
    VolumeJob,
    Written,
    finish_case,
    hold_scratch,
    plan_volume,
    prepared_of,
    read_tile,
    remove_scratch,
    stage_case,
)
from unet_pipeline.tiles import (
    label_tile,
    labels_of,
    merge_tile,
    score_tile,
    spent_of,
    take_partial,
)
from unet_pipeline.tiling.plan import Tile, TilePlan
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.steps import Prepared

CLEANING_SECONDS = 10.0


@dataclass(frozen=True)
class VolumeResult:
    """What became of one case; its sidecar, without what is the same for the whole run.

    Attributes
    ----------
    gate
        What the gate saw of headers and voxels; it may warn.
    mask_fault
        Why there is no Dice, though there is a mask.
    windows_reused
        Windows whose scores were known, because each channel is one value.
    seconds, bytes_read, bytes_written
        As in ``CaseRecord``.
    """

    windows: int
    windows_reused: int
    tiles: int
    dice: Mapping[str, float | None] | None
    mask_fault: MaskFault | None
    gate: CheckRecord
    seconds: Mapping[str, float]
    bytes_read: int
    bytes_written: int


def segment_volume(job: VolumeJob, executor: Executor) -> VolumeResult:
    """Segment one case, and write its label map, picture and sidecar.

    Raises
    ------
    CaseError
        If the case cannot be segmented. Then no sidecar says that it is done.
    """
    try:
        return _segment(job, executor)
    finally:  # patients' voxels stay nowhere, whatever happened
        remove_scratch(job)
        last = executor.with_time_limit(CLEANING_SECONDS)
        with suppress(PipelineError, RunStopped):  # no worker is left that could
            last.result(last.submit(remove_scratch, job))


def _segment(job: VolumeJob, executor: Executor) -> VolumeResult:
    begin = perf_counter()
    staged = executor.submit(stage_case, job)
    prepared: Prepared = executor.result(executor.submit(prepared_of, staged))
    hold_scratch(job)
    plan: TilePlan = executor.result(executor.submit(plan_volume, prepared, job))
    tiles, took = _map_tiles(staged, prepared, plan, job, executor)
    written: Written = executor.result(executor.submit(finish_case, staged, tiles, job))
    spent: list[Spent] = [executor.result(handle) for handle in took]
    none = {"infer": 0.0, "forward": 0.0}
    stages = added([job.spent, none, written.seconds, *(tile.seconds for tile in spent)])
    total = sum(job.spent.values()) + perf_counter() - begin
    result = VolumeResult(
        windows=plan.n_windows,
        windows_reused=sum(tile.reused for tile in spent),
        tiles=plan.n_tiles,
        dice=written.dice,
        mask_fault=mask_fault_of(written.examined),
        gate=written.examined.record(),
        seconds=with_wait(stages, total),
        bytes_read=job.examined.bytes_read + sum(one.size for one in written.inputs),
        bytes_written=written.all_bytes,
    )
    record = json_bytes(_sidecar(job, prepared, result, written))
    patiently(lambda: written.claim.write_record(job.store, record))
    return result


def _map_tiles(
    staged: Handle, prepared: Prepared, plan: TilePlan, job: VolumeJob, executor: Executor
) -> tuple[list[Handle], list[Handle]]:
    """Score and merge all tiles; return handles of their labels and of what they took."""
    if any(tile.course is None for tile in plan.tiles):
        return _map_partials(staged, prepared, plan, job, executor)
    done = [_label(staged, tile, prepared, plan, job, executor) for tile in plan.tiles]
    return [executor.submit(labels_of, tile) for tile in done], [
        executor.submit(spent_of, tile) for tile in done
    ]


def _map_partials(
    staged: Handle, prepared: Prepared, plan: TilePlan, job: VolumeJob, executor: Executor
) -> tuple[list[Handle], list[Handle]]:
    """Do so for tiles that hand each other partials.

    Tiles start in raster order, and not more than the workers can hold are under way. A tile is
    merged as soon as every tile that reaches into it has started, and scores are let go of as
    soon as the last tile that needs them is being merged.
    """
    scores: dict[int, Handle] = {}
    labels: list[Handle] = []
    spent: list[Handle] = []
    running: list[Handle] = []
    for turn in plan.turns():
        tile = turn.tile
        if tile.windows:
            running = executor.wait_for_room(running, 2 * executor.workers + 1)
            scores[tile.index] = _score(staged, tile, plan, job, executor)
            running.append(scores[tile.index])
            spent.append(executor.submit(spent_of, scores[tile.index]))
        labels += [_merge(target, scores, prepared, plan, job, executor) for target in turn.merged]
        for index in turn.freed:
            scores.pop(index, None)
    return labels, spent


def _label(
    staged: Handle,
    tile: Tile,
    prepared: Prepared,
    plan: TilePlan,
    job: VolumeJob,
    executor: Executor,
) -> Handle:
    frame = plan.cover_box(tile)
    values = executor.submit(read_tile, staged, frame)
    return executor.submit(label_tile, values, frame, tile, prepared, job.spec)


def _score(
    staged: Handle, tile: Tile, plan: TilePlan, job: VolumeJob, executor: Executor
) -> Handle:
    frame = plan.cover_box(tile)
    targets = {index: plan.tiles[index].score_box for index in plan.targets(tile)}
    values = executor.submit(read_tile, staged, frame)
    return executor.submit(score_tile, values, frame, tile.windows, targets, job.spec)


def _merge(
    tile: Tile,
    scores: Mapping[int, Handle],
    prepared: Prepared,
    plan: TilePlan,
    job: VolumeJob,
    executor: Executor,
) -> Handle:
    partials = [executor.submit(take_partial, scores[index], tile.index) for index in tile.sources]
    windows = [plan.tiles[index].windows for index in tile.sources]
    return executor.submit(merge_tile, prepared, tile, windows, partials, job.spec)


def _sidecar(
    job: VolumeJob, prepared: Prepared, result: VolumeResult, written: Written
) -> dict[str, Any]:
    return {
        "made_by": MADE_BY,
        "format": FORMAT,
        "state": DONE,
        "written": written.files,
        **job.record,
        "case": job.case,
        "inputs": [asdict(digest) for digest in written.inputs],
        "output": asdict(written.output),
        "geometry": {"native": _grid(prepared.native), "model": _grid(prepared.model)},
        "gate": _gate(result.gate),
        "windows": result.windows,
        "windows_reused": result.windows_reused,
        "tiles": result.tiles,
        "dice": result.dice,
        "mask_fault": None if result.mask_fault is None else asdict(result.mask_fault),
        "seconds": {stage: round(value, 4) for stage, value in result.seconds.items()},
        "bytes": {"read": result.bytes_read, "written": result.bytes_written},
    }


def mask_fault_of(examined: Examined) -> MaskFault | None:
    """Return in words why a case went on without its mask; None if it did not."""
    finding = examined.mask_fault
    if finding is None:
        return None
    return MaskFault(finding.code, str(finding.as_error(examined.case)))


def _gate(record: CheckRecord) -> dict[str, Any]:
    """Return what the sidecar says of the gate; whoever reads it later need not ask again."""
    return {
        "verdict": record.verdict,
        "codes": record.codes,
        "residual_mm": record.residual_mm,
        "message": record.message,
        "fixed": record.fixed,
    }


def _grid(grid: VoxelGrid) -> dict[str, Any]:
    return {
        "shape": grid.shape,
        "spacing_mm": [round(v, 6) for v in grid.spacing_mm],
        "axcodes": grid.axcodes,
        "affine": grid.rows,
    }
