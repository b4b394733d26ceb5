"""A run of its own process, for tests of several at once: it begins when it is told to.

python run_beside.py ORDER, a JSON file: {"settings", "die", "elsewhere", "life"}. It says "ready",
waits for a line, and prints a line for each case. ``die`` is the how many-th case, from 1, in whose
middle the process is killed; ``elsewhere`` makes it a process of another machine for all others;
``life`` is that of its sign.
"""

import json
import os
import signal
import sys
from pathlib import Path

from unet_pipeline import pipeline
from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import SegmentSettings
from unet_pipeline.jobs.segment import close_segment, faults_of, open_segment, run_segment
from unet_pipeline.storage import meeting, presence


def dies_at(number: int) -> None:
    """Let the process be killed when it begins the how many-th label map."""
    begun, act = [], pipeline.label_tile

    def killed(*arguments):
        begun.append(arguments)
        if len(begun) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return act(*arguments)

    pipeline.label_tile = killed


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text())
    meeting.LOOK_SECONDS, presence.LIFE_SECONDS = 0.1, order["life"]
    if order["elsewhere"]:
        presence._MACHINE = f"machine of {os.getpid()}"
    if order["die"]:
        dies_at(order["die"])
    run = open_segment(SegmentSettings.model_validate(order["settings"]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    records = faults_of(run)
    for record in run_segment(run, SerialExecutor()):
        records.append(record)
        sys.stdout.write(json.dumps([record.case, record.status, record.code]) + "\n")
        sys.stdout.flush()
    close_segment(run, records, seconds=1.0, workers=1)


if __name__ == "__main__":
    main()
