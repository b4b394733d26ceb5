"""What a worker keeps in its host's scratch, read by workers of other hosts.

Scratch need not be a folder that all hosts see: a worker that finds an array nowhere on its own
host asks the worker that wrote it, over the connections that Dask has anyway, and with their TLS.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from distributed import Worker
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.protocol.serialize import to_serialize
from distributed.utils import sync

from unet_pipeline.elsewhere import Range, set_reach
from unet_pipeline.volume.kept import is_kept, read_here, remove_here

READ = "unet_pipeline_read_kept"  # names of the requests among those of Dask
REMOVE = "unet_pipeline_remove_kept"


class Keeper(WorkerPlugin):
    """Lets a worker answer for what it keeps, and ask others for what they keep."""

    name = "unet-pipeline-keeper"

    def setup(self, worker: Worker) -> None:
        """Take requests from now on."""
        worker.handlers[READ] = _read_kept
        worker.handlers[REMOVE] = _remove_kept
        set_reach(DaskReach(worker))


@dataclass(frozen=True)
class DaskReach:
    """The way of a worker to the others of its cluster."""

    worker: Worker

    @property
    def address(self) -> str:
        """Under which the others reach this worker."""
        return str(self.worker.address)

    def read(
        self, keeper: str, scratch: str, name: str, ranges: Sequence[Range]
    ) -> npt.NDArray[Any] | None:
        """Read a part of an array that lies with ``keeper``; None where it lies there no more."""
        asked = {"scratch": scratch, "name": name, "ranges": [list(one) for one in ranges]}
        answer = sync(self.worker.loop, self._ask, keeper, READ, asked)
        found: npt.NDArray[Any] | None = answer["values"]
        return found

    def remove(self, keeper: str, scratch: str, name: str) -> None:
        """Remove an array that lies with ``keeper``."""
        sync(self.worker.loop, self._ask, keeper, REMOVE, {"scratch": scratch, "name": name})

    async def _ask(self, keeper: str, request: str, asked: dict[str, Any]) -> Any:
        return await getattr(self.worker.rpc(keeper), request)(**asked)


async def _read_kept(scratch: str, name: str, ranges: list[list[int]]) -> dict[str, Any]:
    """Answer a request; reading is done beside the worker's own loop."""
    if not is_kept(scratch, name):
        return {"status": "OK", "values": None}
    found = await asyncio.to_thread(read_here, scratch, name, [(a, b, c) for a, b, c in ranges])
    return {"status": "OK", "values": None if found is None else to_serialize(found)}


async def _remove_kept(scratch: str, name: str) -> dict[str, Any]:
    """Answer a request."""
    if is_kept(scratch, name) and name.endswith(".npy"):
        await asyncio.to_thread(remove_here, scratch, name)
    return {"status": "OK"}
