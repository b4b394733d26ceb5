"""What a run will cost, before it runs: plans from headers, seconds from a speed.

No voxel of the cohort is read: headers say how many windows and bytes there are.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

from unet_pipeline import stopping
from unet_pipeline.cascade import first_stage_of
from unet_pipeline.case_runs import quarantined
from unet_pipeline.config import SegmentSettings
from unet_pipeline.config.model_sets import with_models
from unet_pipeline.errors import PipelineError, RequestError
from unet_pipeline.gate.examine import Policy, examine
from unet_pipeline.gate.workload import steps_by_header
from unet_pipeline.model import Model
from unet_pipeline.opened import open_to_plan
from unet_pipeline.records import Case, CaseRecord, Rate
from unet_pipeline.request import cohort_of, job_of, open_store, plan_from_header, rate_of
from unet_pipeline.speed import Speed
from unet_pipeline.storage.cases import Cohort
from unet_pipeline.storage.faults import of_case
from unet_pipeline.storage.names import without_ending
from unet_pipeline.storage.outage import stop_for
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Index3
from unet_pipeline.tiling.plan import TilePlan
from unet_pipeline.volume.formats import objects_by_role, writer_of
from unet_pipeline.volume.header import Header
from unet_pipeline.volume_job import VolumeJob

HEADERS_AT_ONCE = 32  # requests under way


@dataclass(frozen=True)
class CasePlan:
    """What one case asks of a run, as its header tells.

    Attributes
    ----------
    bytes_read, voxel_bytes
        Bytes of its images as they are stored, and of their voxels as decoded.
    label_bytes
        Bytes of its label map before compression.
    at_most
        Whether the bundle crops to what the voxels show: then this is of the whole volume.
    window
        Voxels of a window along each axis.
    first_windows
        Windows of the first stage of a cascade; they are among ``windows``.
    handed_bytes
        Sums that its tiles hand each other, which workers may have to send (``TilePlan``).
    """

    case: str
    windows: int
    tiles: int
    peak_bytes: int
    bytes_read: int
    voxel_bytes: int
    label_bytes: int
    at_most: bool = False
    window: Index3 = (1, 1, 1)
    first_windows: int = 0
    handed_bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Estimate:
    """What a run will cost, about.

    Attributes
    ----------
    faults
        Cases that the gate refuses by their headers; they are not among ``cases``.
    peak_bytes, most_windows
        Of the largest case.
    device_seconds, codec_seconds
        In the network, and to decode and encode; None if nothing was measured.
    wall_seconds
        Of ``workers`` that share both evenly.
    price, price_per_case
        Of the workers' time; None without a rate or a measurement.
    files
        What the files were taken for, as ``Accounting`` has it; None for a single image.
    """

    cases: int
    faults: int
    windows: int
    most_windows: int
    tiles: int
    peak_bytes: int
    bytes_read: int
    voxel_bytes: int
    label_bytes: int
    at_most: bool
    workers: int
    first_windows: int = 0
    handed_bytes: int = 0
    speed: Speed | None = None
    device_seconds: float | None = None
    codec_seconds: float | None = None
    wall_seconds: float | None = None
    rate: Rate | None = None
    price: float | None = None
    price_per_case: float | None = None
    files: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class PlanRun:
    """A checked request for a plan."""

    settings: SegmentSettings
    store: Store
    model: Model
    cohort: Cohort


def estimate(
    plans: Sequence[CasePlan],
    *,
    faults: int = 0,
    workers: int = 1,
    speed: Speed | None = None,
    rate: Rate | None = None,
) -> Estimate:
    """Add up the plans of a cohort, and reckon what they take at that speed and rate."""
    windows = sum(plan.windows for plan in plans)
    voxels, labels = (sum(p.voxel_bytes for p in plans), sum(p.label_bytes for p in plans))
    sums = Estimate(
        cases=len(plans),
        faults=faults,
        windows=windows,
        most_windows=max((plan.windows for plan in plans), default=0),
        tiles=sum(plan.tiles for plan in plans),
        peak_bytes=max((plan.peak_bytes for plan in plans), default=0),
        bytes_read=sum(plan.bytes_read for plan in plans),
        voxel_bytes=voxels,
        label_bytes=labels,
        at_most=any(plan.at_most for plan in plans),
        workers=workers,
        first_windows=sum(plan.first_windows for plan in plans),
        handed_bytes=sum(plan.handed_bytes for plan in plans),
        rate=rate,
    )
    if speed is None:
        return sums
    network = speed.of_network(windows, sums.first_windows)
    codec = speed.of_codec(voxels, labels)
    price = None if rate is None else rate.hourly * (network + codec) / 3600
    return replace(
        sums,
        speed=speed,
        device_seconds=network,
        codec_seconds=codec,
        wall_seconds=(network + codec) / workers,
        price=price,
        price_per_case=price / len(plans) if price is not None and plans else None,
    )


def close_plan(
    run: PlanRun, plans: Sequence[CasePlan], faults: int, speed: Speed | None
) -> Estimate:
    """Return the estimate of a request, for its number of workers and at its rate."""
    settings = run.settings
    workers, rate = settings.cluster.workers or 1, rate_of(settings.cost)
    found = estimate(plans, faults=faults, workers=workers, speed=speed, rate=rate)
    accounting = run.cohort.accounting
    return replace(found, files=accounting.as_dict() if accounting.images else None)


def largest_window(plans: Sequence[CasePlan]) -> Index3:
    """Return the largest window of some cases: only where each volume is one do they differ."""
    return max((plan.window for plan in plans), key=prod)


def is_one_image(settings: SegmentSettings) -> bool:
    """Say whether a request names a single volume, rather than a cohort."""
    if without_ending(settings.images) is None:
        return False
    return not open_store(settings.storage).is_pattern(settings.images)


def open_plan(settings: SegmentSettings) -> PlanRun:
    """List a cohort and open its bundle; nothing is written.

    Raises
    ------
    RequestError
        As ``open_segment``.
    """
    store = open_store(settings.storage)
    settings = with_models(settings, store)
    if settings.also:
        raise RequestError(
            "setting_invalid", subject="--also", found=f"{1 + len(settings.also)} models",
            wanted="one: what each takes is planned by itself",
            remedy="Plan each model alone; a run of all reads the volumes once",
        )  # fmt: skip
    model = open_to_plan(settings, store)
    cohort = cohort_of(settings, store, model.bundle)
    return PlanRun(settings, store, model, cohort.part(settings.part))


def run_plan(run: PlanRun) -> Iterator[CasePlan | CaseRecord]:
    """Plan all cases from their headers, many at once; a case at fault becomes a record.

    Raises
    ------
    RunStopped
        For a fault of the store that concerns all cases.
    """
    for case, error in run.cohort.faults:
        yield quarantined(case, error)
    with stopping.pool(HEADERS_AT_ONCE) as pool:
        futures = [pool.submit(_plan_or_fault, run, case) for case in run.cohort.cases]
        for future in as_completed(futures):
            yield future.result()


def plan_one(settings: SegmentSettings) -> tuple[PlanRun, CasePlan, TilePlan]:
    """Plan the image ``settings.images``, one channel, from its header alone.

    Raises
    ------
    CaseError
        If it cannot be read, or the gate refuses it.
    """
    store = open_store(settings.storage)
    model = open_to_plan(settings, store)
    case = Case(settings.images, (settings.images,))
    run = PlanRun(settings, store, model, Cohort((case,), ()))
    plan, tiles = _plan(run, case, replace(model.policy, channels=None))
    return run, plan, tiles


def _plan_or_fault(run: PlanRun, case: Case) -> CasePlan | CaseRecord:
    try:
        with of_case(case.name):
            return _plan(run, case, run.model.policy)[0]
    except PipelineError as error:
        stop_for(run.store, error, (run.settings.images, run.settings.masks))
        return quarantined(case, error)


def _plan(run: PlanRun, case: Case, policy: Policy) -> tuple[CasePlan, TilePlan]:
    store, model = run.store, run.model
    examined = examine(store, case, policy)
    header = examined.sound_header()
    writer_of(run.settings.output_format).check(header)
    case = replace(case, mask=None, parts=()) if examined.mask_fault else case
    job = job_of(run.settings, model, case, examined)
    tiles = plan_from_header(job, header)
    at_most = tiles is None
    tiles = tiles or _without_crops(job, header)
    first_job = first_stage_of(job)
    first = None if first_job is None else _without_crops(first_job, header)
    first_windows = 0 if first is None else first.n_windows
    stages = [one for one in (tiles, first) if one is not None]
    plan = CasePlan(
        case=case.name,
        windows=tiles.n_windows + first_windows,
        tiles=tiles.n_tiles,
        peak_bytes=max(one.peak_bytes for one in stages),
        bytes_read=sum(
            store.fingerprint(url).size
            for url in objects_by_role(store, case, policy.level).values()
        ),
        voxel_bytes=header.stored_bytes * len(case.images),
        label_bytes=tiles.native_bytes,
        at_most=at_most,
        window=tiles.roi_size,
        first_windows=first_windows,
        handed_bytes=sum(one.handed_bytes for one in stages),
    )
    return plan, tiles


def _without_crops(job: VolumeJob, header: Header) -> TilePlan:
    """Return the plan of the whole volume, for a bundle that will run on a part of it."""
    steps = steps_by_header(job.steps)
    plan = plan_from_header(replace(job, steps=steps), header)
    assert plan is not None  # noqa: S101  no step is left that needs voxels
    return plan
