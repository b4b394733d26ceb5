"""The nested family: MONAI's numbers, the paper's sizes, heads, pruning, training, saving."""

from itertools import product

import pytest
import safetensors.torch
import torch
from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus
from torch import nn

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.asymmetric import AsymmetricUNet
from unet_pipeline.networks.nested import NestedUNet, monai_unetpp
from unet_pipeline.networks.pruning import MeanOfHeads, at_depth, depths_of, prune
from unet_pipeline.networks.registry import build_network

SIX = (8, 8, 16, 32, 64, 8)
FAMILY = {
    "unetpp": ("NestedUNet", {"skips": "dense"}),
    "unetplus": ("NestedUNet", {"skips": "short"}),
    "unete": ("NestedUNet", {"skips": "long"}),
    "half encoder": ("AsymmetricUNet", {"encoder_features": [2, 4, 8, 16], "encoder_convs": 1,
                                         "decoder_features": [4, 8, 16]}),
    "half decoder": ("AsymmetricUNet", {"encoder_features": [4, 8, 16, 32], "decoder_convs": 1,
                                         "decoder_features": [2, 4, 8]}),
}  # fmt: skip
OPTIONS = {
    "plain": {},
    "linear": {"upsample": "linear"},
    "pixelshuffle": {"upsample": "pixelshuffle"},
    "attention": {"attention": True},
    "batch norm": {"norm": "batch", "act": "relu"},
    "anisotropic": {"strides": "flat", "kernel_size": "flat"},
}


def network_def(family: str, dims: int, option: str = "plain", **more) -> dict:
    name, arguments = FAMILY[family]
    options = dict(OPTIONS[option])
    if option == "anisotropic":
        flat = [2] * (dims - 1) + [1]
        options = {"strides": [flat, [2] * dims, [2] * dims], "kernel_size": [3] * (dims - 1) + [1]}
    folder = "nested" if name == "NestedUNet" else "asymmetric"
    made = {
        "_target_": f"unet_pipeline.networks.{folder}.{name}",
        "spatial_dims": dims, "in_channels": 2, "out_channels": 3, **arguments, **options, **more,
    }  # fmt: skip
    if name == "NestedUNet":
        made.setdefault("features", [4, 8, 16, 32])
    return made


def volume(dims: int, size: int = 16, channels: int = 2) -> torch.Tensor:
    return torch.randn(1, channels, *[size] * dims, generator=torch.Generator().manual_seed(0))


def heads(network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    found = network(x)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("upsample", ["deconv", "nontrainable", "pixelshuffle"])
def test_monais_weights_give_monais_numbers(dims, upsample):
    torch.manual_seed(0)
    monai = BasicUNetPlusPlus(dims, 2, 3, SIX, deep_supervision=True, upsample=upsample).eval()
    ours = monai_unetpp(dims, 2, 3, SIX, deep_supervision=True, upsample=upsample).eval()
    ours.load_state_dict(monai.state_dict())
    x = volume(dims, 32)
    with torch.inference_mode():
        for theirs, mine in zip(monai(x), ours(x), strict=True):
            assert torch.equal(theirs, mine)


@pytest.mark.parametrize(("depth", "millions"), [(1, 0.10), (2, 0.51), (3, 2.21), (4, 9.04)])
def test_the_papers_numbers_of_parameters(depth, millions):
    """UNet++ of Zhou et al. 2020, table: L1 to L4 with 32 to 512 channels, 2-D, one class."""
    full = NestedUNet(2, 1, 1, (32, 64, 128, 256, 512), norm=None)
    count = sum(p.numel() for p in prune(full, depth).parameters())
    assert abs(count / 1e6 - millions) <= 0.006


@pytest.mark.parametrize(
    ("dims", "upsample", "family"),
    [*product([2, 3], ["deconv", "linear"], ["unetpp", "unetplus", "unete"])],
)
def test_a_pruned_network_gives_exactly_the_scores_of_that_head(dims, upsample, family):
    full = build_network(network_def(family, dims, upsample=upsample), seed=1).eval()
    x = volume(dims)
    with torch.inference_mode():
        wanted = heads(full, x)
        assert len(wanted) == depths_of(full) == 3
        for depth in (1, 2, 3):
            fast, accurate = prune(full, depth), prune(full, depth, "accurate")
            assert torch.equal(fast(x), wanted[depth - 1])
            for mine, theirs in zip(heads(accurate, x), wanted[:depth], strict=True):
                assert torch.equal(mine, theirs)
            mean = sum(torch.softmax(h, 1) for h in wanted[:depth]) / depth
            assert torch.allclose(MeanOfHeads(accurate)(x), mean, atol=1e-6)
            names = {name.split(".")[0] for name, _ in fast.named_parameters()}
            places = [n.split("_")[-2:] for n in names if not n.startswith("final")]
            assert max(int(i) + int(j) for i, j in places) == depth
            assert len([n for n in names if n.startswith("final")]) == 1


def test_nothing_deeper_is_computed_than_is_asked_for():
    network = build_network(network_def("unetpp", 2), seed=0).eval()
    ran = []
    for name, module in network.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.inference_mode():
        next(network.heads(volume(2)))
    assert ran == ["conv_0_0", "conv_1_0", "upcat_0_1", "final_conv_0_1"]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("family", FAMILY)
def test_every_network_trains_saves_and_loads(family, option, dims):
    made = network_def(family, dims, option)
    network = build_network(made, seed=0)
    x = volume(dims).expand(2, -1, *[-1] * dims)
    sum(h.square().mean() for h in heads(network, x)).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert without == []
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    torch.optim.SGD(network.parameters(), 0.1).step()
    moved = [name for name, p in network.named_parameters() if not torch.equal(p, before[name])]
    assert any("conv" in name for name in moved)

    stored = safetensors.torch.save(network.state_dict())
    again = build_network(made, seed=5).eval()
    again.load_state_dict(safetensors.torch.load(stored))
    with torch.inference_mode():
        for a, b in zip(heads(network.eval(), x), heads(again, x), strict=True):
            assert a.shape == (2, 3, *x.shape[2:])
            assert torch.equal(a, b)


@pytest.mark.parametrize("family", FAMILY)
def test_every_network_exports(family):
    network = build_network(network_def(family, 3), seed=0).eval()
    x = volume(3)
    with torch.inference_mode():
        wanted = heads(network, x)
        exported = torch.export.export(network, (x,)).module()
        for a, b in zip(heads(exported, x), wanted, strict=True):
            assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NestedUNet(3, 1, 2, (8,)), "at least two"),
        (lambda: NestedUNet(3, 1, 2, (8, 16), strides=[2, 2]), "strides must be 1 values"),
        (lambda: NestedUNet(4, 1, 2, (8, 16)), "spatial_dims must be 2 or 3"),
        (lambda: NestedUNet(3, 1, 2, (8, 16), kernel_size=2), "kernel_size must be odd"),
        (lambda: NestedUNet(3, 1, 2, (8, 16), upsample="cubic"), "upsample must be one of"),
        (lambda: NestedUNet(3, 1, 2, (8, 16), skips="none"), "dense, short or long"),
        (lambda: NestedUNet(3, 1, 2, (8, 16), strides=[[2, 2, 1]], upsample="pixelshuffle"),
         "needs one stride for all axes"),
        (lambda: AsymmetricUNet(3, 1, 2, (8, 16), decoder_features=(8, 8)), "decoder_features"),
        (lambda: AsymmetricUNet(3, 1, 2, (8, 16), encoder_convs=0), "at least one"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("depth", [0, 4])
def test_a_depth_that_is_not_there(depth):
    network = build_network(network_def("unetpp", 3), seed=0)
    with pytest.raises(RequestError, match="a depth from 1 to 3") as caught:
        at_depth(network, depth)
    assert caught.value.code == "depth_invalid"


@pytest.mark.parametrize("depth", [1, "mean"])
def test_a_network_without_depths(depth):
    plain = build_network(network_def("half encoder", 3), seed=0)
    assert at_depth(plain, None) is plain
    with pytest.raises(RequestError) as caught:
        at_depth(plain, depth)
    assert caught.value.code == "depth_invalid"
