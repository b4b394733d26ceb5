"""Processes that run no network import neither torch nor MONAI, nor Dask without need of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import random_bundle
from cohorts import write_tiny

from unet_pipeline.storage.store import Store

WINDOW = {"features": (4, 8), "roi_size": (16, 16, 16)}
IN_TURN = """
import json, sys
from unet_pipeline.cli import main

for words in json.load(sys.stdin):
    sys.argv = ["unet-pipeline", *words]
    try:
        main()
    except SystemExit as end:
        heavy = sorted({"torch", "monai", "distributed"} & set(sys.modules))
        print("ended:", words[0], end.code, heavy, file=sys.stderr)
"""


@pytest.mark.slow
def test_a_driver_needs_neither_torch_nor_monai(tmp_path):
    """What a bundle says, and that its network fits it, is found out beside the driver."""
    write_tiny(Store(), f"{tmp_path}", 2)
    model, broken = (random_bundle(tmp_path / name, **WINDOW) for name in ("model", "broken"))
    other = random_bundle(tmp_path / "other", features=(4, 12), roi_size=(16, 16, 16))
    weights = "models/model.safetensors"
    Path(broken, weights).write_bytes(Path(other, weights).read_bytes())
    images = f"{tmp_path}/images"
    segment = ["segment", images, "--output", f"{tmp_path}/out", "--workers", "1"]
    commands = [
        ["--help"],
        ["check", images],
        ["plan", images, "--model", model, "--no-measure"],
        [*segment, "--model", broken],
        [*segment, "--model", model, "--engine", "eager"],
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IN_TURN], input=json.dumps(commands), cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ends = [line for line in done.stderr.splitlines() if line.startswith("ended:")]
    assert ends == [
        "ended: --help 0 []",
        "ended: check 0 []",
        "ended: plan 0 []",
        "ended: segment 2 ['distributed']",
        "ended: segment 0 ['distributed']",
    ], done.stderr
    assert "weights_mismatch" in done.stderr
    assert len(list((tmp_path / "out").glob("*_dseg.nii.gz"))) == 2
