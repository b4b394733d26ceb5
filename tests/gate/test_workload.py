"""What the network will be asked for is known from the header, and has a budget everywhere."""

import json
from pathlib import Path
from time import perf_counter

import nibabel as nib
import numpy as np
import pytest
from command_line import cli

from unet_pipeline.config import TrainSettings
from unet_pipeline.gate.workload import Layout, check_workload, workload_of
from unet_pipeline.storage.store import Store
from unet_pipeline.training.array_cache import ArrayCache
from unet_pipeline.training.data import gather
from unet_pipeline.training.training_setup import data_request_of
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.monai_steps import PadDivisible, Spacing

GB64 = 64 * 10**9


def grid_of(shape, spacing_mm) -> VoxelGrid:
    return VoxelGrid.of(shape, np.diag([*spacing_mm, 1.0]))


def layout_of(model_mm, roi=96, overlap=0.5, most=None, *more) -> Layout:
    steps = (Spacing((model_mm,) * 3), *more)
    return Layout(steps, (roi,) * 3, overlap, "packed", 1, most)


SOUND = {
    "whole body CT of 0.5 mm": ((1000, 1000, 3600), (0.5, 0.5, 0.5), 1.5, 96, 0.9),
    "the same at its own spacing": ((1000, 1000, 3600), (0.5, 0.5, 0.5), 0.5, 96, 0.9),
    "CT of 5 mm slices at 0.5 mm": ((512, 512, 200), (0.8, 0.8, 5.0), 0.5, 96, 0.9),
    "PET of 4 mm at 1 mm": ((168, 168, 600), (4.0, 4.0, 4.0), 1.0, 96, 0.9),
    "fMRI of 4 mm at 1 mm": ((64, 64, 40), (4.0, 4.0, 4.0), 1.0, 96, 0.9),
    "dose of 5 mm at 1 mm": ((64, 64, 30), (5.0, 5.0, 5.0), 1.0, 96, 0.9),
    "low-field MR": ((112, 136, 40), (1.6, 1.6, 5.0), 1.0, 64, 0.75),
    "hippocampus": ((35, 51, 35), (1.0, 1.0, 1.0), 1.0, 32, 0.9),
}


@pytest.mark.parametrize("kind", SOUND)
def test_no_sound_volume_is_over_the_default_budget(kind):
    shape, spacing_mm, model_mm, roi, overlap = SOUND[kind]
    assert not check_workload(grid_of(shape, spacing_mm), layout_of(model_mm, roi, overlap), GB64)


@pytest.mark.parametrize("mm", [50.0, 1e4, 1e12, 1e20, 1e35])
def test_spacing_without_measure_is_refused_at_once(mm):
    begin = perf_counter()
    try:
        codes = [
            f.code for f in check_workload(grid_of((60,) * 3, (mm,) * 3), layout_of(1.5), GB64)
        ]
    except Exception as error:
        codes = [error.code]
    assert codes[0] in {"windows_too_many", "volume_too_large"}
    assert perf_counter() - begin < 10  # with the import of MONAI


def test_windows_and_model_voxels_are_held_against_their_budgets_to_the_one():
    grid, layout = grid_of((40, 40, 40), (3.0, 3.0, 3.0)), layout_of(1.5, 32, 0.0)
    workload = workload_of(grid, layout)
    nbytes = 4 * np.prod(workload.model_shape)
    assert (workload.windows, workload.model_shape) == (27, (79, 79, 79))
    for most, most_bytes, code in (
        (27, nbytes, None), (26, nbytes, "windows_too_many"), (27, nbytes - 1, "volume_too_large"),
    ):  # fmt: skip
        found = check_workload(grid, layout_of(1.5, 32, 0.0, most), most_bytes)
        assert [f.code for f in found] == ([code] if code else [])


def test_windows_of_padding_alone_are_no_windows():
    grid = grid_of((40, 40, 40), (1.5, 1.5, 1.5))
    workload = workload_of(grid, layout_of(1.5, 16, 0.0, None, PadDivisible((128,) * 3)))
    assert workload.model_shape == (128,) * 3
    assert workload.windows == 4**3  # along each axis those that begin at 32, 48, 64 and 80


def write(folder: Path, name: str, mm: float, size: int = 24) -> None:
    rng = np.random.default_rng(0)
    for kind, values in (
        ("images", rng.integers(0, 300, (size,) * 3).astype(np.int16)),
        ("masks", (np.indices((size,) * 3).sum(0) < size).astype(np.uint8)),
    ):
        (folder / kind).mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(values, np.diag([mm] * 3 + [1])), folder / kind / name)


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("workload")
    write(folder, "endless.nii.gz", 49.0)
    write(folder, "sound.nii.gz", 2.0)
    return folder


@pytest.mark.parametrize(
    "command",
    ["segment", "plan", "check", "depths", "compare", "layers", "train", "bundle calibrate"],
)
def test_budgets_are_settings_of_every_command(command):
    text = cli(*command.split(), "--help").stdout
    assert all(option in text for option in ("--memory-gb", "--max-volume-gb", "--max-windows"))


def test_training_leaves_windows_without_end_out(scans, tmp_path):
    data = gather(
        Store(),
        data_request_of(
            TrainSettings(
                images=str(scans / "images"), masks=str(scans / "masks"), output=str(tmp_path),
                spacing=(1.5, 1.5, 1.5), holdout=0.0,
            )
        ),
        ArrayCache(10**9, tmp_path),
    )  # fmt: skip
    assert [(name, error.code) for name, error in data.faults] == [("endless", "windows_too_many")]
    assert list(data.cases) == ["sound"]


@pytest.mark.parametrize("command", ["segment", "plan", "check"])
def test_every_command_refuses_windows_without_end_and_says_the_option(scans, tmp_path, command):
    more = {
        "segment": ["--output", tmp_path, "--cluster", "serial"],
        "plan": ["--no-measure"],
        "check": [],
    }[command]
    done = cli(command, scans / "images", "--model", "phantom", *more, "--json")
    assert done.returncode == 1
    assert "windows_too_many" in done.stdout
    assert "--max-windows" in done.stdout
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    (sound,) = [row for row in rows if row.get("case") == "sound"]
    assert sound.get("status", sound.get("verdict", "done")) in {"done", "pass", "warn"}
