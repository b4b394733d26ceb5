import json
import warnings

import numpy as np
import pytest

from unet_pipeline.storage.store import Store
from unet_pipeline.training.array_cache import open_array_cache
from unet_pipeline.training.history import History, Validation
from unet_pipeline.training.training_log import TrainingLog

STORE = Store()
NAMES = {0: "background", 1: "kidney"}


def history(steps):
    found = [Validation(step, {1: step / 10}, 0.1) for step in range(2, steps + 1, 2)]
    return History([1 / step for step in range(1, steps + 1)], [0.1] * steps, found, 1.0)


def scalars(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(one.step, pytest.approx(one.value)) for one in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def files(folder):
    return sorted(path.name for path in (folder / "training").iterdir())


def test_tensorboard_sees_each_step_once_though_the_training_was_killed(tmp_path):
    training_log = TrainingLog(STORE, str(tmp_path), NAMES)
    for steps in (0, 2, 4, 6):
        training_log.write(history(steps))
    again = TrainingLog(STORE, str(tmp_path), NAMES)  # goes on from the checkpoint after step 4
    for steps in (4, 6, 8):
        again.write(history(steps))
    seen = scalars(tmp_path / "training")
    assert seen["loss"] == [(step, 1 / step) for step in range(1, 9)]
    assert (
        seen["dice/kidney"]
        == seen["dice/mean"]
        == [
            (2, 0.2),
            (4, 0.4),
            (6, 0.6),
            (8, 0.8),
        ]
    )
    numbers = json.loads((tmp_path / "training/history.json").read_text())
    assert History.of(numbers) == history(8)
    assert (tmp_path / "training/curves.png").read_bytes()[:4] == b"\x89PNG"


def test_a_new_training_removes_what_an_old_one_left(tmp_path):
    old = TrainingLog(STORE, str(tmp_path), NAMES)
    for steps in (0, 2, 8):
        old.write(history(steps))
    STORE.write(f"{tmp_path}/training/notes.txt", b"of somebody")
    new = TrainingLog(STORE, str(tmp_path), NAMES)
    new.write(history(0))
    assert files(tmp_path) == ["notes.txt"]
    new.write(history(2))
    assert "events.out.tfevents.0000000002" in files(tmp_path)
    new.remove()
    assert files(tmp_path) == ["notes.txt"]


def test_what_is_over_the_budget_is_in_files_while_it_is_needed():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 4, 4, 4), dtype=np.float32)
    with open_array_cache(first.nbytes) as cache:
        kept, mapped = cache.keep(first), cache.keep(second)
        assert kept is first
        assert np.array_equal(mapped, second)
        folder = cache.folder
        assert [file.name for file in folder.glob("*.npy")] == ["0.npy"]
    assert not folder.exists()
