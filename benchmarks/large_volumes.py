"""What volumes larger than a machine take: memory of each process, and seconds per voxel.

    python -m benchmarks.large_volumes [--sizes 256 512 1024] [--formats nii nii.gz ome.zarr]

Made-up int16 volumes of N x N x N voxels, a network of one layer with windows of 128^3, and a
z-score over the whole volume, on workers of this machine (`segment --workers`). Resident memory is
what the system says of each process, read four times a second; files that are mapped count. Each
line of `--out` is one run; a table of all is printed in Markdown. `--timeline FILE.svg` draws what
the workers of the last one did when.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timeline import CALLS, busy_shares, drawn, read_spans
from unet_pipeline.volume.formats.nifti_header import header_bytes
from unet_pipeline.volume.header import header_of

TICK_SECONDS = 0.25
ROI = 128


def main() -> None:
    """Make each volume, segment it, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--formats", nargs="+", default=["nii"], choices=list(WRITERS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-gb", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, help="where volumes and scratch lie meanwhile")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--timeline", type=Path)
    parser.add_argument("more", nargs="*", help="further words for segment, behind --")
    options = parser.parse_args()
    found = []
    for kind in options.formats:
        for size in options.sizes:
            with tempfile.TemporaryDirectory(dir=options.folder) as name:
                found.append(measure(Path(name), size, kind, options))
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(found[-1]) + "\n")
            print(found[-1], file=sys.stderr)
    print_table(found)


def measure(folder: Path, size: int, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Segment one volume; return seconds and gigabytes."""
    (folder / "images").mkdir()
    WRITERS[kind](folder / f"images/large.{kind}", size)
    write_bundle(folder / "bundle")
    (folder / "tmp").mkdir()
    words = [
        sys.executable, "-m", "unet_pipeline", "segment", str(folder / "images"),
        "--model", str(folder / "bundle"), "--output", str(folder / "out"), "--trust",
        "--cluster", "local", "--workers", str(options.workers), "--threads", "1",
        "--worker-memory-gb", str(options.memory_gb), "--scratch", str(folder / "tmp"),
        "--memory-gb", str(options.memory_gb), "--case-minutes", "600", *options.more,
    ]  # fmt: skip
    begin = time.monotonic()
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            words, stdout=said, stderr=said, env={**os.environ, **recording(folder / "calls")}
        )
    watch = Watch(process.pid)
    watch.start()
    status = process.wait()
    seconds = time.monotonic() - begin
    watch.join()
    (record,) = (folder / "out").glob("*.json") if status == 0 else [None]
    if record is None:
        raise SystemExit((folder / "said").read_text())
    of_case, spans = json.loads(record.read_text()), read_spans(folder / "calls")
    if options.timeline:
        title = f"{size}^3 voxels as {kind}, {options.workers} workers"
        options.timeline.write_text(drawn(spans, title))
    return {
        "size": size, "format": kind, "workers": options.workers, "memory_gb": options.memory_gb,
        "seconds": round(seconds, 1), "ns_per_voxel": round(1e9 * seconds / size**3, 2),
        "driver_gb": round(watch.peaks.pop(process.pid) / 1e9, 2),
        "processes_gb": sorted((round(p / 1e9, 2) for p in watch.peaks.values()), reverse=True),
        "together_gb": round(watch.together / 1e9, 2),
        "busy": [round(share, 2) for share in busy_shares(spans).values()],
        "tiles": of_case.get("tiles"), "stages": of_case.get("seconds"),
    }  # fmt: skip


def recording(calls: Path) -> dict[str, str]:
    """Return what lets the scheduler of a run record its calls."""
    return {
        "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": "benchmarks.timeline",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        CALLS: str(calls),
    }


class Watch(threading.Thread):
    """Watches the resident memory of a process and its descendants until it ends.

    Attributes
    ----------
    peaks
        The most of each process, in bytes.
    together
        The most of all at the same time; what processes share is counted once.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peaks, self.together = pid, dict[int, int](), 0

    def run(self) -> None:
        """Look until the process is gone."""
        looks = 0
        while self.pid in (family := {*descendants(self.pid)}):
            for pid in family:
                self.peaks[pid] = max(self.peaks.get(pid, 0), of_process(pid, "VmRSS", "status"))
            if looks % 4 == 0:
                now = sum(of_process(pid, "Pss", "smaps_rollup") for pid in family)
                self.together = max(self.together, now)
            looks += 1
            time.sleep(TICK_SECONDS)


def descendants(pid: int) -> Iterator[int]:
    """Yield a process, if it is there, and all that it started."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        children = [
            child
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return
    if state != "Z":
        yield pid
        for child in children:
            yield from descendants(int(child))


def of_process(pid: int, name: str, file: str) -> int:
    """Return a number of bytes that the system has of a process; 0 where it has ended."""
    try:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 0


def planes(size: int, depth: int) -> Iterator[np.ndarray[Any, Any]]:
    """Yield a volume in slabs of some slices, shape ZYX: blobs, noise, and a slope along z."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-40, 41, (depth, size, size), np.int16)
    y, x = np.ogrid[:size, :size]
    blobs = (100 * np.sin(x / 19) * np.sin(y / 23)).astype(np.int16)
    for first in range(0, size, depth):
        z = np.arange(first, min(first + depth, size))
        waves = (60 * np.sin(z / 29)).astype(np.int16)[:, None, None]
        yield noise[: len(z)] + blobs + waves


def write_nii(path: Path, size: int) -> None:
    """Write an uncompressed NIfTI file."""
    with path.open("wb") as file:
        file.write(_header(size))
        for slab in planes(size, 32):
            file.write(slab.tobytes())


def write_nii_gz(path: Path, size: int) -> None:
    """Write a NIfTI file, compressed as fast as can be."""
    from isal import igzip

    with igzip.open(path, "wb", compresslevel=0) as file:
        file.write(_header(size))
        for slab in planes(size, 32):
            file.write(slab.tobytes())


def write_ome_zarr(path: Path, size: int) -> None:
    """Write an image of OME-Zarr 0.4 of one level, in chunks of 128^3."""
    import zarr

    chunk = 128
    array = zarr.create_array(
        str(path / "0"), shape=(size,) * 3, chunks=(chunk,) * 3, dtype="i2", zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )  # fmt: skip
    for index, slab in enumerate(planes(size, chunk)):
        array[index * chunk : index * chunk + len(slab)] = slab
    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    level = {"path": "0", "coordinateTransformations": scale}
    image = {"version": "0.4", "axes": axes, "datasets": [level]}
    (path / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
    (path / ".zattrs").write_text(json.dumps({"multiscales": [image]}))


WRITERS = {"nii": write_nii, "nii.gz": write_nii_gz, "ome.zarr": write_ome_zarr}


def _header(size: int) -> bytes:
    shape = (size, size, size)
    return bytes(header_bytes(shape, np.dtype(np.int16), header_of(shape, np.eye(4), np.int16)))


def write_bundle(folder: Path) -> None:
    """Write a bundle of one layer that needs no room of its own: what is brighter than the mean."""
    import torch

    network = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([0.0, 1.0])[:, None, None, None, None]
        network.bias.zero_()
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    torch.jit.save(torch.jit.trace(network, torch.zeros(1, 1, 8, 8, 8)), folder / "models/model.ts")
    image = {"type": "image", "num_channels": 1}
    outputs = {"pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "bright"}}}
    metadata = {"network_data_format": {"inputs": {"image": image}, "outputs": outputs}}
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    steps = [
        {"_target_": kind, "keys": "image"}
        for kind in ("LoadImaged", "EnsureChannelFirstd", "NormalizeIntensityd")
    ]
    inference: Mapping[str, Any] = {
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [ROI] * 3, "overlap": 0.25},
        "postprocessing": {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
    }
    (folder / "configs/inference.json").write_text(json.dumps(inference))


def print_table(found: list[dict[str, Any]]) -> None:
    """Print a row for each run."""
    heads = ("voxels", "format", "s", "ns a voxel", "driver, GB", "workers, GB", "together, GB",
             "tiles", "busy")  # fmt: skip
    print(f"| {' | '.join(heads)} |\n| --- | --- |{' ---: |' * (len(heads) - 2)}")
    for one in found:
        workers = ", ".join(map(str, one["processes_gb"][: one["workers"]]))
        print(
            f"| {one['size']}^3 | {one['format']} | {one['seconds']:.0f} "
            f"| {one['ns_per_voxel']:.0f} | {one['driver_gb']} | {workers} "
            f"| {one['together_gb']} | {one['tiles']} | {', '.join(map(str, one['busy']))} |"
        )


if __name__ == "__main__":
    main()
