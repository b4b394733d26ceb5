"""A scheduler of Dask in a process of its own: ``python -m benchmarks.swarm.scheduler [PROFILE]``.

Prints its address, and ends with its standard input.
"""

import asyncio
import cProfile
import sys

import dask
from distributed import Scheduler


async def _serve() -> None:
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        print(scheduler.address, flush=True)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serve until nobody holds the other end of standard input."""
    dask.config.set({"distributed.scheduler.allowed-failures": 1})
    if len(sys.argv) < 2:
        asyncio.run(_serve())
        return
    profile = cProfile.Profile()
    profile.runcall(asyncio.run, _serve())
    profile.dump_stats(sys.argv[1])


if __name__ == "__main__":
    main()
