from itertools import pairwise

import numpy as np
import pytest
import torch
from monai.losses.dice import DiceCELoss

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.registry import build_network, unet_def, unetpp_def
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.training.crops import Sample
from unet_pipeline.training.fit import deep_loss, fit, head_weights, rate_factor

TINY = unetpp_def(1, 3, (4, 4, 8, 8, 8))


def phantom_sample(seed):
    phantom = make_phantom(seed, (32, 28, 24), (3.0, 3.0, 4.0))
    image = phantom.image_XYZ.astype(np.float32)
    return Sample(((image - image.mean()) / image.std())[None], phantom.mask_XYZ)


def run(network, samples, **changes):
    options = {"roi_size": (32, 16, 16), "steps": 20, "batch": 2, "learning_rate": 1e-2, "seed": 0}
    return fit(network, samples, **{**options, **changes})


@pytest.mark.parametrize("network_def", [TINY, unet_def(1, 3, (8, 8, 16))], ids=["unetpp", "unet"])
def test_twenty_steps_lower_the_loss(network_def):
    network = build_network(network_def, seed=0)
    seen = []
    report = run(network, [phantom_sample(0), phantom_sample(1)], on_step=lambda *s: seen.append(s))
    assert np.mean(report.losses[-5:]) < 0.93 * np.mean(report.losses[:5])
    assert seen == list(enumerate(report.losses, start=1))
    assert report.seconds > 0
    assert not network.training


def test_a_seed_repeats_a_fit_and_leaves_the_global_generator_alone():
    samples = [phantom_sample(0)]
    runs = []
    for seed in (5, 5, 6):
        torch.manual_seed(len(runs))
        network = build_network(TINY, seed=0)
        runs.append(run(network, samples, steps=2, batch=1, seed=seed).losses)
        drawn = torch.rand(1)
        torch.manual_seed(len(runs) - 1)
        assert torch.equal(drawn, torch.rand(1))
    assert runs[0] == runs[1] != runs[2]


def test_a_loss_that_is_not_finite_stops_the_training():
    image, labels = phantom_sample(0)
    image[0, 16, 14] = np.nan
    with pytest.raises(RequestError, match=r"nan at step \d+ with learning rate 0\.01") as error:
        run(build_network(TINY, seed=0), [Sample(image, labels)])
    assert error.value.code == "loss_not_finite"


def test_without_samples_there_is_nothing_to_train():
    with pytest.raises(RequestError) as error:
        run(build_network(TINY, seed=0), [])
    assert error.value.code == "no_training_cases"


def test_the_deepest_head_weighs_most():
    assert head_weights(1) == [1.0]
    assert head_weights(4) == [1 / 15, 2 / 15, 4 / 15, 8 / 15]


def test_the_deep_loss_is_the_weighted_mean_of_the_heads():
    criterion = DiceCELoss(to_onehot_y=True, softmax=True)
    generator = torch.Generator().manual_seed(0)
    shallow, deep = torch.randn(2, 1, 3, 4, 4, 4, generator=generator)
    labels = torch.randint(0, 3, (1, 4, 4, 4), generator=generator)
    single = [criterion(head, labels[:, None]) for head in (shallow, deep)]
    torch.testing.assert_close(
        deep_loss([shallow, deep], labels, criterion), (single[0] + 2 * single[1]) / 3
    )
    torch.testing.assert_close(deep_loss(deep, labels, criterion), single[1])


def test_the_learning_rate_warms_up_and_fades_out():
    factors = [rate_factor(step, 100) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5] == 1.0
    assert all(a > b for a, b in pairwise(factors[5:]))
    assert 0 < factors[-1] < 0.001
    assert rate_factor(0, 1) == 1.0
