from itertools import pairwise

import pytest
import torch

from unet_pipeline.training.recipe import Recipe, compute_type, rate_factor

PLAN = Recipe(roi_size=(16, 16, 16), steps=100)


def test_the_learning_rate_warms_up_and_fades_out():
    factors = [rate_factor(step, 100) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5] == 1.0
    assert all(a > b for a, b in pairwise(factors[5:]))
    assert 0 < factors[-1] < 0.001
    assert rate_factor(0, 1) == 1.0


def test_the_poly_schedule_is_a_power_of_what_is_left():
    assert rate_factor(5, 105, "poly") == 1.0
    assert rate_factor(55, 105, "poly") == pytest.approx(0.5**0.9)
    assert rate_factor(99, 105, "constant") == 1.0


@pytest.mark.parametrize(("name", "rate", "decay"), [("adamw", 1e-3, 1e-2), ("sgd", 1e-2, 3e-5)])
def test_an_optimiser_has_its_usual_numbers(name, rate, decay):
    plan = Recipe(roi_size=(16, 16, 16), steps=100, optimiser=name)
    (group,) = plan.make_optimiser([torch.nn.Parameter(torch.zeros(1))]).param_groups
    assert (group["lr"], group["weight_decay"]) == (rate, decay)
    assert group.get("nesterov", True)
    assert plan.rate(4) == rate


def test_validations_and_checkpoints_come_in_time_and_at_the_end():
    assert [n for n in range(1, 26) if Recipe((16,) * 3, 25).is_validated_after(n)][-2:] == [24, 25]
    assert [n for n in range(1, 101) if PLAN.is_validated_after(n)] == list(range(10, 101, 10))
    often = Recipe((16,) * 3, 25, checkpoint_every=10)
    assert [n for n in range(1, 26) if often.is_kept_after(n)] == [10, 20, 25]


def test_a_cpu_computes_in_float32_unless_told():
    cpu = torch.device("cpu")
    assert compute_type("auto", cpu) == torch.float32
    assert compute_type("bfloat16", cpu) == torch.bfloat16
