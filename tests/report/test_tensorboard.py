"""TensorBoard itself reads the event files."""

import warnings

import numpy as np
import pytest

from unet_pipeline.report.tensorboard import Scalars, event_file


@pytest.fixture
def accumulator():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    return EventAccumulator


def test_tensorboard_reads_one_file_after_the_other(tmp_path, accumulator):
    first = [Scalars(step, 1000.0 + step, {"loss": 1 / step}) for step in (1, 2, 3)]
    second = [Scalars(300, 2000.5, {"loss": 0.125, "dice/left ventricle": 0.9})]
    (tmp_path / "events.out.tfevents.0000000003").write_bytes(event_file(first))
    (tmp_path / "events.out.tfevents.0000000300").write_bytes(event_file(second))
    events = accumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "dice/left ventricle"}
    loss = [(one.step, one.value, one.wall_time) for one in events.Scalars("loss")]
    assert loss == [
        (1, 1.0, 1001.0),
        (2, 0.5, 1002.0),
        (3, np.float32(1 / 3), 1003.0),
        (300, 0.125, 2000.5),
    ]
    assert events.Scalars("dice/left ventricle")[0].value == np.float32(0.9)


def test_a_file_without_events_is_one(tmp_path, accumulator):
    (tmp_path / "events.out.tfevents.0").write_bytes(event_file([]))
    assert accumulator(str(tmp_path)).Reload().Tags()["scalars"] == []
