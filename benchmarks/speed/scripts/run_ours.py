"""Run unet_pipeline as ``unet-pipeline segment`` does, and print what it took as a JSON line.

With ``prepare`` in the job it only chooses its engine, which is kept for the runs that follow.
"""

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

from unet_pipeline.processes import lasting_imports, prepare_process

if TYPE_CHECKING:
    from unet_pipeline.config import SegmentSettings


def main() -> None:
    """Run the job whose JSON is the first argument."""
    prepare_process()  # before NumPy is imported
    from unet_pipeline.cluster.starting import starting

    job = json.loads(sys.argv[1])
    logging.disable(logging.WARNING)
    settings = _settings(job)
    with starting(settings.cluster.spec(settings.windows.batch)) as opened:
        with lasting_imports():  # while the worker starts, as the command line does
            from ours import measured

            from unet_pipeline.jobs.segment import open_segment, with_engine
        run = open_segment(settings)
        executor = opened()
        run = with_engine(run, executor)
        found = {"prepared": True} if "prepare" in job else measured(run, executor)
    sys.stdout.write(json.dumps(found) + "\n")


def _settings(job: dict[str, Any]) -> "SegmentSettings":
    from unet_pipeline.config import SegmentSettings

    cluster = {"kind": job["cluster"], "workers": 1, "threads": job["threads"]}
    return SegmentSettings(
        images=job["images"],
        model=job["model"],
        output=job["output"],
        windows={"engine": job["engine"]},
        cluster=cluster,
        resume=False,
    )


if __name__ == "__main__":
    main()
