"""A training that goes on from a checkpoint is the training that was left alone, to the bit."""

import io

import pytest
import torch
from fits import SMALL, phantom_sample, recipe, weights_of

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.registry import build_network
from unet_pipeline.storage.store import Store
from unet_pipeline.training.augment import augmentation_named
from unet_pipeline.training.checkpoint import Checkpoints
from unet_pipeline.training.fit import Callbacks, fit

STORE = Store()
SAMPLES = [phantom_sample(0), phantom_sample(1)]
DROPPING = {**SMALL, "dropout": 0.2}  # draws from torch's generator
DICE = {3: 0.1, 6: 0.4, 8: 0.3}


class StoppedError(Exception):
    """Where a process would be killed."""


def checkpoints(folder, **identity):
    return Checkpoints(STORE, str(folder), {"steps": 8, **identity})


def trained(folder=None, stop_after=None, **changes):
    """Train for 8 steps with a checkpoint at every second one, and perhaps stop before the end."""
    network = build_network(DROPPING, seed=0)
    seen = []

    def on_step(done, loss):
        seen.append((done, loss))
        if done == stop_after:
            raise StoppedError

    kept = checkpoints(folder) if folder else None
    callbacks = Callbacks(lambda: {1: DICE[seen[-1][0]]}, kept, on_step)
    plan = recipe(
        steps=8,
        batch=1,
        validate_every=3,
        checkpoint_every=2,
        augmentation=augmentation_named("usual", (0,)),
        **changes,
    )
    history = fit(network, SAMPLES, plan, callbacks)
    return weights_of(network), history, seen


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize(("stop_after", "begins_at"), [(1, 1), (5, 5), (7, 7)])
def test_it_goes_on_as_if_nothing_had_happened(tmp_path, optimiser, stop_after, begins_at):
    weights, history, _ = trained(optimiser=optimiser)
    with pytest.raises(StoppedError):
        trained(tmp_path, stop_after, optimiser=optimiser)
    again, went_on, seen = trained(tmp_path, optimiser=optimiser)
    assert seen[0][0] == begins_at
    assert torch.equal(again, weights)
    assert (went_on.losses, went_on.rates) == (history.losses, history.rates)
    assert went_on.best.step == history.best.step == 6


def test_a_finished_training_takes_no_step(tmp_path):
    weights, _, _ = trained(tmp_path)
    again, history, seen = trained(tmp_path)
    assert seen == []
    assert torch.equal(again, weights)
    assert len(history.losses) == 8


def test_other_settings_do_not_go_on_with_it(tmp_path):
    checkpoints(tmp_path, loss={"name": "focal"}).save({"a": torch.ones(2)})
    assert torch.equal(checkpoints(tmp_path, loss={"name": "focal"}).load()["a"], torch.ones(2))
    with pytest.raises(RequestError) as error:
        Checkpoints(STORE, str(tmp_path), {"steps": 9}).load()
    assert error.value.code == "checkpoint_other"
    assert "loss {'name': 'focal'}, now None; steps 8, now 9" in str(error.value)


def stored(content):
    data = io.BytesIO()
    torch.save(content, data)
    return data.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 cut",
        b"nonsense",
        stored(torch.ones(3)),
        stored({"format": 1, "state": {}}),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, data):
    STORE.write(checkpoints(tmp_path).url, data)
    with pytest.raises(RequestError) as error:
        checkpoints(tmp_path).load()
    assert error.value.code == "checkpoint_invalid"
    checkpoints(tmp_path).remove()  # it is not ours
    assert STORE.read(checkpoints(tmp_path).url) == data


def test_a_checkpoint_can_run_no_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit",))

    content = {"format": 1, "identity": {"steps": 8}, "state": Bomb()}
    torch.save(content, tmp_path / "bomb.pt")
    STORE.write(checkpoints(tmp_path).url, (tmp_path / "bomb.pt").read_bytes())
    with pytest.raises(RequestError) as error:
        checkpoints(tmp_path).load()
    assert error.value.code == "checkpoint_invalid"
