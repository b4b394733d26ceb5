"""What a window costs in time: candidates take turns, so that a busy machine slows all alike.

The candidates of an evaluation run one after the other, over minutes or hours in which the machine
may have other work; times of those runs cannot be held against each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from statistics import median
from typing import NamedTuple

from unet_pipeline.inference.predictor import Predictor
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.tasks import plan_volume, prepared_of, stage_case
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.volume.views import Voxels, read_with_margin
from unet_pipeline.volume_job import VolumeJob

ROUNDS = 3
CASES = 3  # that windows are taken from
WINDOWS = 4  # of each case, evenly spaced


class Window(NamedTuple):
    """What the network sees of one window."""

    values_CXYZ: Voxels
    read_box: Box
    start: Index3


def milliseconds_per_window(candidates: Sequence[Sequence[VolumeJob]]) -> list[float]:
    """Return the time of a window in the network of each candidate, in ms.

    Parameters
    ----------
    candidates
        Jobs of each candidate, for a few cases.

    Returns
    -------
    list of float
        The median of ``ROUNDS`` rounds over real windows. With batches of several windows, the
        time of a full batch over their number.
    """
    known: dict[tuple[object, ...], list[Window]] = {}
    spent: list[list[float]] = [[] for _ in candidates]
    for _ in range(ROUNDS):
        for times, jobs in zip(spent, candidates, strict=True):
            windows = [(job.spec, window) for job in jobs for window in _windows_of(job, known)]
            forward = sum(_of_one_size(*group) for group in _by_size(windows))
            times.append(1000 * forward / len(windows) / jobs[0].spec.batch)
    return [median(times) for times in spent]


def _by_size(
    windows: Sequence[tuple[ModelSpec, Window]],
) -> Iterator[tuple[ModelSpec, list[Window]]]:
    """Group windows by their size: of most bundles all have one."""
    groups: dict[Index3, tuple[ModelSpec, list[Window]]] = {}
    for spec, window in windows:
        groups.setdefault(spec.roi_size, (spec, []))[1].append(window)
    yield from groups.values()


def _of_one_size(spec: ModelSpec, windows: Sequence[Window]) -> float:
    predictor = Predictor(spec, reuse_bytes=0)
    _forward(predictor, windows[0])  # what is done once only
    return sum(_forward(predictor, window) for window in windows)


def _forward(predictor: Predictor, window: Window) -> float:
    return predictor.score(window.values_CXYZ, window.read_box, [window.start]).stats.seconds[
        "forward"
    ]


def _windows_of(job: VolumeJob, known: dict[tuple[object, ...], list[Window]]) -> list[Window]:
    """Return a few windows of a case; candidates with one preprocessing share what was read."""
    key = (job.case, job.spec.bundle.config_digest, job.spec.roi_size, job.overlap)
    if key not in known:
        known[key] = list(_read_windows(replace(job, mask=None)))
    return known[key]


def _read_windows(job: VolumeJob) -> Iterator[Window]:
    staged = stage_case(job)
    plan = plan_volume(prepared_of(staged), job)
    starts = chain.from_iterable(tile.windows for tile in plan.tiles)
    step = max(1, plan.n_windows // WINDOWS)
    for start in islice(starts, step // 2, step * WINDOWS, step):
        read_box = Box.at(start, job.spec.roi_size)
        yield Window(read_with_margin(staged.volume.model, read_box), read_box, start)
