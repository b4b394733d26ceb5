import numpy as np
import pytest
import torch
from fits import SMALL, phantom_sample, recipe, weights_of
from torch import nn

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.family import network_def, unetpp_def
from unet_pipeline.networks.registry import build_network
from unet_pipeline.training.augment import augmentation_named
from unet_pipeline.training.crops import CropSource, Sample
from unet_pipeline.training.fit import Callbacks, Trainer, fit
from unet_pipeline.training.losses import Loss

TINY = unetpp_def(1, 3, (4, 4, 8, 8, 8))


def small_network():
    return build_network(SMALL, seed=0)


def fit_one(callbacks=None, network=None, **changes):
    """Fit the small network to one phantom, a crop a step."""
    plan = recipe(**{"batch": 1, **changes})
    return fit(network or small_network(), [phantom_sample(0)], plan, callbacks or Callbacks())


def fit_with_dice(*dice, patience):
    """Fit with a validation after each step, which finds these values."""
    values = iter(dice)
    callbacks = Callbacks(lambda: {1: next(values)})
    return fit_one(callbacks, steps=8, validate_every=1, patience=patience)


@pytest.mark.parametrize(
    "network_def", [TINY, network_def("unet", 1, 3, (8, 8, 16))], ids=["unetpp", "unet"]
)
def test_twenty_steps_lower_the_loss(network_def):
    network = build_network(network_def, seed=0)
    seen = []
    callbacks = Callbacks(on_step=lambda *step: seen.append(step))
    history = fit(network, [phantom_sample(0), phantom_sample(1)], recipe(), callbacks)
    assert np.mean(history.losses[-5:]) < 0.93 * np.mean(history.losses[:5])
    assert seen == list(enumerate(history.losses, start=1))
    assert history.seconds > 0
    assert not network.training


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": Loss("weighted", class_weights=(0.1, 1.0, 2.0))},
        {"loss": Loss("focal")},
        {"loss": Loss("tversky")},
        {"optimiser": "sgd", "schedule": "poly"},
        {"precision": "bfloat16"},
        {"precision": "float16"},
        {"augmentation": augmentation_named("usual", (0,))},
    ],
    ids=["weighted", "focal", "tversky", "sgd", "bfloat16", "float16", "usual augmentation"],
)
def test_every_way_to_train_lowers_the_loss(changes):
    network = small_network()
    history = fit_one(network=network, steps=15, **changes)
    assert np.mean(history.losses[-4:]) < np.mean(history.losses[:4])
    assert all(value.dtype == torch.float32 for value in network.state_dict().values())


def test_a_seed_repeats_a_fit_and_leaves_the_global_generator_alone():
    runs = []
    for seed in (5, 5, 6):
        torch.manual_seed(len(runs))
        runs.append(fit_one(steps=2, seed=seed).losses)
        drawn = torch.rand(1)
        torch.manual_seed(len(runs) - 1)
        assert torch.equal(drawn, torch.rand(1))
    assert runs[0] == runs[1] != runs[2]


def test_a_step_is_one_of_adamw_with_clipped_gradients():
    """The same step, written out with PyTorch alone."""
    plan = recipe(augmentation=augmentation_named("none"), batch=1, learning_rate=0.1)
    sources = [CropSource(phantom_sample(0))]
    network, twin = small_network(), small_network()
    trainer, other = Trainer(network, plan), Trainer(twin, plan)
    trainer.step(sources)

    images, labels = other._batch(sources)
    loss = plan.loss.criterion()(twin.train()(images), labels[:, None])
    optimiser = torch.optim.AdamW(twin.parameters(), lr=0.1 * 1.0, weight_decay=0.01)
    loss.backward()
    nn.utils.clip_grad_norm_(twin.parameters(), 12.0)
    optimiser.step()
    assert plan.rate(0) == 0.1
    torch.testing.assert_close(weights_of(network), weights_of(twin))
    assert not torch.equal(weights_of(network), weights_of(small_network()))


def test_the_weights_of_the_best_validation_are_kept():
    network = small_network()
    dice = iter([0.2, 0.7, 0.7, 0.1])
    seen = []

    def validate():
        seen.append(weights_of(network).clone())
        return {1: next(dice), 2: None}

    history = fit_one(Callbacks(validate), network, steps=8, validate_every=2)
    assert [one.step for one in history.validations] == [2, 4, 6, 8]
    assert history.best.step == 6  # of equal ones the last
    assert torch.equal(weights_of(network), seen[2])


def test_training_stops_when_patience_runs_out():
    history = fit_with_dice(0.5, 0.4, 0.4, 0.9, patience=2)
    assert len(history.losses) == 3
    assert history.best.step == 1


def test_an_equal_dice_is_not_better_but_was_trained_longer():
    history = fit_with_dice(0.5, 0.5, 0.5, 0.9, patience=2)
    assert len(history.losses) == 3
    assert history.best.step == 3


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_weights_that_the_last_step_made_useless_are_refused(optimiser):
    """The only loss is that of the weights before the step, so it is finite."""
    changes = {"learning_rate": 1e30, "optimiser": optimiser, "schedule": "constant"}
    losses = []
    callbacks = Callbacks(on_step=lambda _, loss: losses.append(loss))
    with pytest.raises(RequestError, match="NaN or infinite at step 1 with") as error:
        fit_one(callbacks, steps=1, **changes)
    assert error.value.code == "loss_not_finite"
    assert np.isfinite(losses).all()


def test_a_loss_that_is_not_finite_stops_the_training():
    image, labels = phantom_sample(0)
    image[0, 16, 14] = np.nan
    with pytest.raises(RequestError, match=r"nan at step \d+ with learning rate 0\.01") as error:
        fit(small_network(), [Sample(image, labels)], recipe())
    assert error.value.code == "loss_not_finite"


def test_without_samples_there_is_nothing_to_train():
    with pytest.raises(RequestError) as error:
        fit(small_network(), [], recipe())
    assert error.value.code == "no_training_cases"
