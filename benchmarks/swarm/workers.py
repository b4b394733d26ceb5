"""Workers that wait where others compute: ``python -m benchmarks.swarm.workers ADDRESS ...``.

They are real workers of Dask, several hundred in a process, and take the package's own calls. What
such a call does is exchanged here, in this process: a network waits on the worker's only device for
as long as it is said to take, reading and writing wait beside it, and results are small objects
that say how large the real ones would be. So the scheduler sees calls, sizes, times and states as
it would, and nothing is computed.
"""

import asyncio
import json
import pickle
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from time import time
from typing import Any

import dask
from distributed import Worker, get_worker

from benchmarks.swarm.sham import Sham
from unet_pipeline import finishing, pipeline, request, stopping, tasks, tiles
from unet_pipeline.cluster import calls, dask_executor
from unet_pipeline.request import _prepared

QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "60 s",
    "distributed.admin.tick.interval": "30 s",
    "distributed.worker.memory.terminate": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.monitor-interval": "60 s",
}


@dataclass(frozen=True)
class Times:
    """Seconds of a case of one tile and of a tile on the device, and of reading and of writing."""

    case: float
    tile: float
    read: float
    write: float


class Device:
    """The device of a worker: one call at a time; the seconds of each second in which it was held.

    Attributes
    ----------
    busy
        Of all devices of this process, by the whole second of the clock.
    """

    def __init__(self, busy: Counter[int]) -> None:
        self._lock, self._busy = asyncio.Lock(), busy

    async def held(self, seconds: float) -> None:
        """Hold it for so long."""
        async with self._lock:
            begin = time()
            await asyncio.sleep(seconds)
        end = begin + seconds  # a process that is late to wake is none of the device's work
        for second in range(int(begin), int(end) + 1):
            self._busy[second] += max(min(end, second + 1) - max(begin, second), 0.0)


class Swarm:
    """What the calls of the package do on workers that wait."""

    def __init__(self, times: Times, template: Any) -> None:
        self.times, self.template = times, template
        self.devices: dict[str, Device] = {}
        self.busy: Counter[int] = Counter()
        self.plans: dict[Any, Any] = {}
        self.calls: dict[Callable[..., Any], Callable[..., Any]] = {
            pipeline.segment_once: self._segment_once,
            request.is_one_tile: self._is_one_tile,
            tasks.read_case: self._read_case,
            tasks.outline_of: self._outline_of,
            tasks.stage_volume: self._stage_volume,
            tasks.look_at_case: self._look_at_case,
            tasks.prepared_of: self._prepared_of,
            tasks.plan_volume: self._plan_volume,
            tiles.score_tile: self._score_tile,
            tiles.merge_tile: self._merge_tile,
            tiles.let_go_of: self._let_go_of,
            finishing.finish_case: self._finish_case,
            tasks.remove_scratch: self._remove_scratch,
        }

    async def run_packed(self, data: bytes, *results: Any) -> Any:
        """Unpack a call of the package, and do what stands for it."""
        _under, arguments = calls.unpacked(data, results)
        return await self.under(*arguments)

    async def under(self, _name: str, under: Any, _about: Any, *call: Any) -> Any:
        """Take a call out of all that is around it, and do what stands for it."""
        function, *arguments = call
        if function not in self.calls:  # under the clock of its case
            function, *arguments = arguments[1:]
        return await self.calls[function](*arguments)

    async def _device(self, seconds: float) -> None:
        worker = get_worker().address
        if worker not in self.devices:
            self.devices[worker] = Device(self.busy)
        await self.devices[worker].held(seconds)

    async def _segment_once(self, jobs: Any) -> Any:
        await asyncio.sleep(self.times.read)
        await self._device(self.times.case)
        await asyncio.sleep(self.times.write)
        return [self._sidecar(job) for job in jobs]

    def _sidecar(self, job: Any) -> Any:
        return replace(self.template, case=job.case, run=job.facts)

    async def _is_one_tile(self, job: Any, header: Any) -> bool:
        return request.is_one_tile(job, header)

    async def _read_case(self, job: Any) -> Sham:
        await asyncio.sleep(self.times.read)
        header = job.examined.header
        return Sham(2 * prod(header.grid.shape), job, header)

    async def _outline_of(self, _read: Sham) -> None:
        return None  # each case is prepared by one worker

    async def _stage_volume(self, read: Sham, _steps: Any, _memory: int) -> Sham:
        return replace(read, nbytes=1000)

    async def _look_at_case(self, read: Sham, _volume: Sham, job: Any) -> Sham:
        return replace(read, job=job)

    async def _prepared_of(self, staged: Sham) -> Any:
        return _prepared(staged.job, staged.header).geometry

    async def _plan_volume(self, prepared: Any, job: Any) -> Any:
        shape = prepared.native.shape
        if shape not in self.plans:
            self.plans[shape] = tasks.plan_volume(prepared, job)
        return self.plans[shape]

    async def _score_tile(self, _staged: Sham, tile: Any, *_more: Any) -> Sham:
        await self._device(self.times.tile)
        return Sham(300 * len(tile.sources))  # what is kept lies in scratch

    async def _merge_tile(self, _prepared: Any, tile: Any, *_more: Any) -> Sham:
        return Sham(300 * (1 + len(tile.seams)))

    async def _let_go_of(self, *_call: Any) -> None:
        return None

    async def _finish_case(self, staged: Sham, *_more: Any) -> Any:
        await asyncio.sleep(self.times.write)
        return staged.job.claim, self._sidecar(staged.job)

    async def _remove_scratch(self, _job: Any) -> None:
        return None


async def _nothing(*_call: Any) -> None:
    """Remove no scratch, for there is none."""


async def _work(address: str, count: int, swarm: Swarm) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(0, count, 50):
            some = [
                Worker(
                    address, nthreads=2, memory_limit=0, dashboard=False, host="127.0.0.1",
                    heartbeat_interval="10 s", local_directory=sys.argv[4],
                )
                for _ in range(min(50, count))
            ]  # fmt: skip
            await asyncio.gather(*map(stack.enter_async_context, some))
            count -= len(some)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        told = {"used": len(swarm.devices), "busy": dict(swarm.busy)}
        print(json.dumps(told), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Exchange the calls, and work until nobody holds the other end of standard input."""
    address, count, template, _folder, *seconds = sys.argv[1:]
    swarm = Swarm(Times(*map(float, seconds)), pickle.loads(Path(template).read_bytes()))
    stopping.under = swarm.under
    calls.run_packed = swarm.run_packed
    dask_executor._beside = _nothing
    with dask.config.set(QUIET):
        asyncio.run(_work(address, int(count), swarm))


if __name__ == "__main__":
    main()
