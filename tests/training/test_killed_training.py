"""A real process, killed with SIGKILL at some moment, and started again."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from trainings import train

from unet_pipeline.config import TrainSettings
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
STEPS = 24
SETTINGS = {
    "network": "unetplus",
    "features": (4, 8),
    "roi_size": (16, 16, 16),
    "spacing": (4, 4, 4),
    "steps": STEPS,
    "batch": 1,
    "threads": 1,
    "checkpoint_every": 3,
    "augmentation": "usual",
}


def start(folder):
    """Start the command line."""
    options = {**SETTINGS, "validate_every": 10, "output": folder / "killed"}
    words = ["-m", "unet_pipeline", "train", folder / "images", folder / "masks", "--json"]
    for name, value in options.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else value
        words += [f"--{name.replace('_', '-')}", text]
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return json.loads(out)


def steps_seen(folder):
    history = folder / "training/history.json"
    return len(json.loads(history.read_bytes())["losses"]) if history.exists() else 0


def test_killed_and_started_again_it_gives_the_same_weights(tmp_path):
    write_cohort(Store(), str(tmp_path), 4)
    place = {"images": f"{tmp_path}/images", "masks": f"{tmp_path}/masks"}
    settings = {**place, **SETTINGS, "validation": {"every": 10}, "output": f"{tmp_path}/whole"}
    whole = train(TrainSettings.model_validate(settings))

    process = start(tmp_path)
    moment = int(np.random.default_rng().integers(3, STEPS - 6))
    while steps_seen(tmp_path / "killed") < moment:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -9
    assert moment <= steps_seen(tmp_path / "killed") < STEPS
    assert not (tmp_path / "killed/configs").exists()  # no half a bundle

    left = [*tmp_path.glob("unet-pipeline-*")]  # decoded cases
    assert left
    again = finished(start(tmp_path))
    assert not [*tmp_path.glob("unet-pipeline-*")]
    assert again["spread"] == whole.as_dict()["spread"]
    for part in ("models/model.safetensors", "training/curves.png"):
        assert (tmp_path / "killed" / part).read_bytes() == (tmp_path / "whole" / part).read_bytes()
    assert not (tmp_path / "killed/training/checkpoint.pt").exists()
