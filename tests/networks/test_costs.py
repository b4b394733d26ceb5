import pytest
import torch
from torch import nn

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.costs import cost_rows, costs, multiply_adds
from unet_pipeline.networks.family import SUMMARIES, network_def
from unet_pipeline.networks.registry import build_network, check_window


def test_multiply_adds_that_a_reader_can_check():
    conv = nn.Conv2d(3, 5, 3, padding=1)
    # 8 x 8 voxels, 5 results each of 3 x 3 x 3 products
    assert multiply_adds(conv, torch.zeros(1, 3, 8, 8)) == (64 * 5 * 27, 4 * 64 * 5)
    up = nn.ConvTranspose2d(4, 2, 2, stride=2)
    # each of 16 values of 4 channels goes to 2 x 2 voxels of 2 channels
    assert multiply_adds(up, torch.zeros(1, 4, 4, 4)) == (16 * 4 * 4 * 2, 4 * 64 * 2)


@pytest.mark.parametrize("name", SUMMARIES)
@pytest.mark.parametrize("dims", [2, 3])
def test_every_network_of_the_family_has_its_costs(name, dims):
    made = network_def(name, 1, 2, (4, 8, 16), spatial_dims=dims)
    found = costs(build_network(made, seed=0), (16,) * dims, 1, repeats=1)
    nested = name in {"unetpp", "unetplus", "unete"}
    assert [cost.depth for cost in found] == ([1, 2] if nested else [None])
    parameters = [cost.parameters for cost in found]
    adds = [cost.multiply_adds for cost in found]
    assert parameters == sorted(parameters)
    assert adds == sorted(adds)
    assert all(row["windows_per_second"] > 0 for row in cost_rows(name, found, (16,) * dims))


def test_a_window_that_cannot_work_names_the_nearest_that_do():
    made = network_def("unetpp", 1, 2, (4, 8, 16, 32, 64))
    check_window(made, (32, 48, 64))
    with pytest.raises(RequestError) as caught:
        check_window(made, (32, 50, 7))
    assert caught.value.code == "roi_size_invalid"
    assert "Take 32 x 48 or 64 x 16" in str(caught.value)
