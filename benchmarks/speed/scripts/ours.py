"""What a run of ours took, and what its floor is made of."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from isal import igzip

import unet_pipeline
from unet_pipeline.cluster.executor import Executor
from unet_pipeline.inference.loaded import predictor_for
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.jobs.segment import close_segment, run_segment
from unet_pipeline.records import CaseRecord
from unet_pipeline.runs import Run
from unet_pipeline.tiling.compiling import start_compiled

TIMES = 7  # repetitions of what the floor is made of, of which the best counts


def measured(run: Run, executor: Executor) -> dict[str, Any]:
    """Segment the cases of a run, and return what that took and what its floor is."""
    spec = run.model.spec
    executor.result(executor.submit(_load, spec))
    begin = perf_counter()
    records = list(run_segment(run, executor))
    seconds = perf_counter() - begin
    close_segment(run, records, seconds=seconds, workers=executor.workers)
    end = perf_counter()
    _check(records)
    return {
        "work_seconds": end - begin,
        **_said_of(records),
        **_floor(run, records, executor),
        "versions": {"unet_pipeline": unet_pipeline.__version__, "torch": version("torch")},
        "extra_seconds": perf_counter() - end,
    }


def _said_of(records: Sequence[CaseRecord]) -> dict[str, Any]:
    """Return what the sidecars say of a run."""
    label_maps = [_path(record.output) for record in records]
    sidecars = [json.loads(_sidecar(path).read_text()) for path in label_maps]
    return {
        "forward_seconds": sum(record.seconds["forward"] for record in records),
        "windows": sum(sidecar["windows"] - sidecar["windows_reused"] for sidecar in sidecars),
        "windows_planned": sum(sidecar["windows"] for sidecar in sidecars),
        "tiles": sum(sidecar["tiles"] for sidecar in sidecars),
        "stages": _stages(records),
        "label_map": str(label_maps[0]),
    }


def _floor(run: Run, records: Sequence[CaseRecord], executor: Executor) -> dict[str, Any]:
    """Return what the floor is made of."""
    engine, best = executor.result(executor.submit(_best_forward, run.model.spec))
    images = [_path(case.images[0]) for case in run.cases]
    return {
        "engine": engine,
        "best_forward_seconds": best,
        "decode_seconds": sum(map(_decode_seconds, images)),
        "encode_seconds": sum(_encode_seconds(_path(record.output)) for record in records),
    }


def _load(spec: ModelSpec) -> None:
    """Do what a worker does once: import, load the network, start the compiled loops."""
    predictor_for(spec)
    start_compiled()


def _best_forward(spec: ModelSpec) -> tuple[str, float]:
    """Return the engine's name, and the least seconds that it took for a window."""
    predictor = predictor_for(spec)
    engine = predictor.engine
    rng = torch.Generator().manual_seed(0)
    shape = (spec.batch, spec.bundle.in_channels, *spec.roi_size)
    batch = torch.rand(shape, generator=rng).to(predictor.device)
    if len(shape) == 5:
        batch = batch.contiguous(memory_format=engine.memory_format)
    with torch.inference_mode():
        return engine.name, min(_seconds(engine, batch) for _ in range(TIMES)) / spec.batch


def _seconds(engine: Any, batch: torch.Tensor) -> float:
    begin = perf_counter()
    scores = engine(batch)
    float(scores[(0,) * scores.ndim])  # waits for the device
    return perf_counter() - begin


def _decode_seconds(path: Path) -> float:
    data = path.read_bytes()
    return _best(lambda: igzip.decompress(data)) if path.suffix == ".gz" else 0.0


def _encode_seconds(path: Path) -> float:
    plain = igzip.decompress(path.read_bytes())
    return _best(lambda: igzip.compress(plain, 1))


def _best(work: Any) -> float:
    def once() -> float:
        begin = perf_counter()
        work()
        return perf_counter() - begin

    return min(once() for _ in range(3))


def _stages(records: Sequence[CaseRecord]) -> dict[str, float]:
    names = dict.fromkeys(name for record in records for name in record.seconds)
    total = {name: sum(record.seconds.get(name, 0.0) for record in records) for name in names}
    return {name: round(value, 4) for name, value in total.items()}


def _path(url: str | None) -> Path:
    return Path(str(url).removeprefix("file://"))


def _sidecar(label_map: Path) -> Path:
    return label_map.with_name(label_map.name.removesuffix(".nii.gz") + ".json")


def _check(records: Sequence[CaseRecord]) -> None:
    for record in records:
        if record.status != "done":
            raise SystemExit(f"{record.case}: {record.message}")
