import pytest
import torch

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.family import network_def, unetpp_def
from unet_pipeline.networks.registry import (
    build_network,
    final_scores,
    network_contract,
)

TINY_UNETPP = unetpp_def(1, 3, (4, 4, 4, 4, 4))
TINY_UNET = network_def("unet", 2, 4, (4, 8, 8))


@pytest.mark.parametrize("network_def", [TINY_UNETPP, TINY_UNET], ids=["unetpp", "unet"])
def test_the_contract_says_what_the_network_takes_and_gives(network_def):
    contract = network_contract(network_def)
    network = build_network(network_def).eval()
    window = [2 * size for size in contract.stride]
    with torch.inference_mode():
        scores = final_scores(network(torch.zeros(1, contract.in_channels, *window)))
    assert scores.shape == (1, contract.out_channels, *window)


@pytest.mark.parametrize(
    ("network_def", "stride"),
    [
        (TINY_UNETPP, (16, 16, 16)),
        (TINY_UNET, (4, 4, 4)),
        ({**TINY_UNET, "strides": [2, [2, 2, 1]]}, (4, 4, 2)),
        ({"_target_": "BasicUNet", "spatial_dims": 2}, (16, 16)),
    ],
)
def test_the_stride_is_the_product_of_the_halvings(network_def, stride):
    assert network_contract(network_def).stride == stride


def test_channels_that_are_not_given_are_those_of_monai():
    contract = network_contract({"_target_": "BasicUNetPlusPlus"})
    assert (contract.in_channels, contract.out_channels, contract.spatial_dims) == (1, 2, 3)


@pytest.mark.parametrize("prefix", ["", "monai.networks.nets.", "monai.networks.nets.unet."])
def test_a_network_is_known_by_its_short_and_its_full_name(prefix):
    assert network_contract({**TINY_UNET, "_target_": f"{prefix}UNet"}).out_channels == 4


@pytest.mark.parametrize(
    "target", ["UNETR", "os.system", "evil.UNet", "monai.networks.netsx.UNet", "", None]
)
def test_another_target_is_refused_with_the_names_that_are_known(target):
    with pytest.raises(RequestError, match="UNet, BasicUNet, BasicUNetPlusPlus") as error:
        build_network({"_target_": target})
    assert error.value.code == "network_unknown"


@pytest.mark.parametrize(
    "wrong",
    [{"depth": 9}, {"norm": "no such norm"}, {"channels": [4]}, {"spatial_dims": "three"}],
)
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(RequestError) as error:
        build_network({**TINY_UNET, **wrong})
    assert error.value.code == "network_invalid"


def test_a_missing_argument_is_refused_before_anything_is_built():
    with pytest.raises(RequestError, match="out_channels") as error:
        network_contract({"_target_": "UNet", "spatial_dims": 3, "in_channels": 1})
    assert error.value.code == "network_invalid"


def test_a_seed_decides_the_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    first = build_network(TINY_UNET, seed=1).state_dict()
    after = torch.rand(1)
    second = build_network(TINY_UNET, seed=1).state_dict()
    other = build_network(TINY_UNET, seed=2).state_dict()
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_of_several_heads_the_last_counts():
    shallow, deep = torch.zeros(1), torch.ones(1)
    assert final_scores([shallow, deep]) is deep
    assert final_scores((shallow, deep)) is deep
    assert final_scores(deep) is deep


def test_building_prints_nothing(capsys):
    build_network(TINY_UNETPP)
    build_network({"_target_": "BasicUNet", "features": [4] * 6})
    assert capsys.readouterr() == ("", "")
