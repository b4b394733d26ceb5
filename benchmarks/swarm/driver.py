"""The driver of a swarm, a process: ``python -m benchmarks.swarm.driver ADDRESS ...``.

It opens a run as a command would, has it segmented, and prints what it took.
"""

import cProfile
import json
import os
import pickle
import resource
import sys
import threading
from collections import Counter
from pathlib import Path
from time import perf_counter, sleep, time
from typing import Any

from benchmarks.swarm.cohort import TILE


def main() -> None:
    """Run, and print a line of JSON."""
    address, images, output, template, *profile = sys.argv[1:]
    from tests.bundles import random_bundle
    from unet_pipeline.cluster.spec import ClusterSpec
    from unet_pipeline.cluster.starting import open_executor
    from unet_pipeline.jobs.segment import open_segment, run_segment

    moved = counted_traffic()
    model = random_bundle(Path(template).parent / "bundle", roi_size=(64, 64, 64), overlap=0.25)
    begin = perf_counter()
    run = open_segment(settings_of(images, output, model))
    opened = perf_counter() - begin
    keep_template(run, Path(template))
    sys.stdin.readline()  # all workers are there: their number decides how many cases are begun
    with open_executor(ClusterSpec(kind=address)) as executor:
        if profile:
            profiled = cProfile.Profile()
            executor.client.loop.add_callback(profiled.enable)
        imports = peak_megabytes()
        moved.clear()
        cpu, start, began = sum(os.times()[:2]), perf_counter(), time()
        loop = loop_seconds()
        records, times, codes = 0, [], Counter[str]()
        for record in run_segment(run, executor):
            records += 1
            codes[record.code or record.status] += 1
            times.append(time())
        seconds = perf_counter() - start
        told = {
            "records": records, "codes": dict(codes), "began": began, "ended": time(),
            "nearly": times[int(0.9 * len(times))],
            "open_seconds": opened, "seconds": seconds,
            "driver_cpu_seconds": sum(os.times()[:2]) - cpu,
            "driver_loop_cpu_seconds": loop_seconds() - loop,
            "driver_megabytes": peak_megabytes(), "driver_megabytes_before": imports,
            **moved,
        }  # fmt: skip
        if profile:
            executor.client.loop.add_callback(profiled.disable)
            sleep(1)
            profiled.dump_stats(profile[0])
        print(json.dumps(told), flush=True)
        os._exit(0)  # closing with a thousand workers is none of what is measured


def settings_of(images: str, output: str, model: str) -> Any:
    """Return the request."""
    from unet_pipeline.config import SegmentSettings, WindowSettings

    return SegmentSettings(
        images=images, model=model, output=output, windows=WindowSettings(tile=TILE)
    )


def keep_template(run: Any, path: Path) -> None:
    """Segment one tiny volume here, and keep its record: what workers hand back of a case."""
    if path.exists():
        return
    from dataclasses import replace

    import nibabel as nib
    import numpy as np

    from unet_pipeline.case_runs import segment_models
    from unet_pipeline.cluster.executor import SerialExecutor
    from unet_pipeline.jobs.segment import open_segment
    from unet_pipeline.storage.ledger import read_record
    from unet_pipeline.storage.sidecar import read_sidecar

    folder = path.parent / "template"
    (folder / "images").mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 300, (48, 48, 48)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), folder / "images" / "case.nii.gz")
    tiny = open_segment(
        settings_of(str(folder / "images"), str(folder / "out"), run.settings.model)
    )
    (record,) = segment_models(replace(tiny, leases=None), tiny.cases[0], SerialExecutor())
    data = read_record(tiny.store, record.output.replace(".nii.gz", ".json"))
    sidecar = read_sidecar(data)
    assert sidecar is not None
    path.write_bytes(pickle.dumps(sidecar))


def counted_traffic() -> Counter[str]:
    """Count bytes and messages between this process and the scheduler from now on."""
    from distributed import batched
    from distributed.comm import tcp

    moved = Counter[str]()
    write, read, send = tcp.TCP.write, tcp.from_frames, batched.BatchedSend.send

    async def counted_write(self: Any, *words: Any, **named: Any) -> int:
        sent: int = await write(self, *words, **named)
        moved["sent_bytes"] += sent
        moved["sent_writes"] += 1
        return sent

    def counted_read(frames: Any, *words: Any, **named: Any) -> Any:
        found = read(frames, *words, **named)
        moved["received_bytes"] += sum(len(memoryview(frame).cast("B")) for frame in frames)
        moved["received_messages"] += len(found) if isinstance(found, (list, tuple)) else 1
        return found

    def counted_send(self: Any, *messages: Any) -> None:
        moved["sent_messages"] += len(messages)
        for message in messages:
            if message.get("op") == "update-graph":
                moved["submitted"] += len(message["keys"])
        send(self, *messages)

    tcp.TCP.write, tcp.from_frames = counted_write, counted_read
    batched.BatchedSend.send = counted_send
    return moved


def loop_seconds() -> float:
    """Return the processor seconds of the thread that talks to the scheduler."""
    (thread,) = [one for one in threading.enumerate() if one.name.startswith("IO loop")]
    fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rsplit(")", 1)[1]
    return sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")


def peak_megabytes() -> float:
    """Return the most memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
