"""The layers of every network, and how they are wired, found without knowing the network."""

import pytest
import torch
from nnunet_models import RESIDUAL, UNET, write_model
from small_networks import hooks_on, known

from unet_pipeline.config import SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.layer_analysis.catalog import choose_layers, list_layers
from unet_pipeline.layer_analysis.inspected_network import InspectedNetwork
from unet_pipeline.layer_analysis.request import open_inspected
from unet_pipeline.layer_analysis.wiring import direct_links, wired
from unet_pipeline.networks.costs import multiply_adds
from unet_pipeline.networks.family import network_def, unetpp_def
from unet_pipeline.networks.registry import build_network
from unet_pipeline.opening import open_model
from unet_pipeline.storage.store import Store

SIZES = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3}
# name: network_def, window, its encoder, its decoder, its outputs, in order of execution
NETWORKS = {
    "nested": (
        network_def("unetpp", 1, 3, (4, 4, 8)), 16,
        "conv_0_0 conv_1_0 conv_2_0", "upcat_0_1 upcat_1_1 upcat_0_2",
        "final_conv_0_1 final_conv_0_2",
    ),
    "asymmetric": (
        network_def("asymmetric", 1, 3, (8, 8, 16)), 16,
        "encoder.0 encoder.1 encoder.2", "decoder.1 decoder.0", "head",
    ),
    "gated": (
        network_def("unetplus", 1, 3, (4, 4, 8), upsample="linear", attention=True), 16,
        "conv_0_0 conv_1_0 conv_2_0", "upcat_0_1 upcat_1_1 upcat_0_2",
        "final_conv_0_1 final_conv_0_2",
    ),
    "UNet": (
        network_def("unet", 1, 3, (4, 8, 8)), 16,
        "model.0 model.1.submodule.0 model.1.submodule.1.submodule", "model.1.submodule.2",
        "model.2",
    ),
    "BasicUNet": (
        {"_target_": "BasicUNet", "features": (4, 4, 4, 8, 8, 4), **SIZES}, 32,
        "conv_0 down_1 down_2 down_3 down_4", "upcat_4 upcat_3 upcat_2 upcat_1", "final_conv",
    ),
    "SegResNet": (
        {"_target_": "SegResNet", "init_filters": 8, "blocks_down": (1, 1, 1),
         "blocks_up": (1, 1), **SIZES}, 16,
        "convInit down_layers.0 down_layers.1 down_layers.2",
        "up_samples.0 up_layers.0 up_samples.1 up_layers.1", "conv_final",
    ),
    "AttentionUnet": (
        {"_target_": "AttentionUnet", "channels": (4, 8), "strides": (2,), **SIZES}, 16,
        "model.0 model.1.submodule", "model.1.upconv model.1.attention model.1.merge", "model.2",
    ),
    "DynUNet": (
        {"_target_": "DynUNet", "kernel_size": (3, 3, 3), "strides": (1, 2, 2),
         "upsample_kernel_size": (2, 2), "filters": (4, 8, 8), **SIZES}, 16,
        "input_block downsamples.0 bottleneck", "upsamples.0 upsamples.1", "output_block",
    ),
    "SwinUNETR": (
        {"_target_": "SwinUNETR", "feature_size": 12, "depths": (1, 1, 1, 1), **SIZES},
        (64, 32, 32),
        "swinViT.patch_embed swinViT.layers1.0 swinViT.layers2.0 swinViT.layers3.0 "
        "swinViT.layers4.0 encoder1 encoder2 encoder3 encoder4 encoder10",
        "decoder5 decoder4 decoder3 decoder2 decoder1", "out",
    ),
    "VNet": (
        {"_target_": "VNet", **SIZES}, 16,
        "in_tr down_tr32 down_tr64 down_tr128 down_tr256",
        "up_tr256 up_tr128 up_tr64 up_tr32", "out_tr",
    ),
}  # fmt: skip


NNUNETS = {
    "nnU-Net": (
        UNET,
        "encoder.stages.0 encoder.stages.1 encoder.stages.2",
    ),
    "nnU-Net, residual": (
        RESIDUAL,
        "encoder.stem encoder.stages.0 encoder.stages.1 encoder.stages.2",
    ),
}


def inspected_of(made, window) -> InspectedNetwork:
    shape = (window,) * 3 if isinstance(window, int) else window
    return InspectedNetwork(build_network(made, seed=0).eval(), 1, 3, shape)


SLOW = {"SwinUNETR", "VNet"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in NETWORKS]
)
def test_blocks_and_sides(name):
    made, window, encoder, decoder, output = NETWORKS[name]
    inspected = inspected_of(made, window)
    layers = wired(inspected, list_layers(inspected))
    blocks = choose_layers(layers, ())
    for side, wanted in (("encoder", encoder), ("decoder", decoder), ("output", output)):
        assert [b.layer for b in blocks if b.side == side] == wanted.split(), side
    assert all(one.side for one in layers if "." in one.layer and one.layer.startswith("up"))
    assert hooks_on(inspected.network) == 0


@pytest.mark.parametrize("name", NNUNETS)
def test_the_stages_of_an_nnunet_are_blocks(tmp_path, name):
    network, encoder = NNUNETS[name]
    write_model(tmp_path, network=network)
    settings = SegmentSettings(images="-", model=str(tmp_path), output="-")
    inspected = open_inspected(open_model(settings, Store()))
    layers = wired(inspected, list_layers(inspected))
    blocks = choose_layers(layers, ())
    decoder = [f"decoder.{part}.{level}" for level in (0, 1) for part in ("transpconvs", "stages")]
    assert [b.layer for b in blocks if b.side == "encoder"] == encoder.split()
    assert [b.layer for b in blocks if b.side == "decoder"] == decoder
    assert [b.layer for b in blocks if b.side == "output"] == ["decoder.seg_layers.1"]
    feeds = {b.layer: set(b.feeds) for b in blocks}
    assert feeds["decoder.stages.0"] == {"decoder.transpconvs.1"}
    assert "decoder.stages.1" in feeds[encoder.split()[-3]]  # the skip
    everything = multiply_adds(inspected.network, inspected.example())[0]
    assert sum(b.multiply_adds for b in blocks) == everything


@pytest.mark.parametrize("name", ["nested", "BasicUNet", "SegResNet", "DynUNet"])
def test_multiply_adds_and_parameters_add_up(name):
    """Against the count of ``networks``, which knows convolutions only: all that these have."""
    inspected = inspected_of(*NETWORKS[name][:2])
    blocks = [one for one in list_layers(inspected) if one.block]
    whole, _ = multiply_adds(inspected.network, inspected.example())
    assert sum(b.multiply_adds for b in blocks) == whole
    counted = sum(b.parameters for b in blocks)
    total = sum(p.numel() for p in inspected.network.parameters())
    assert total - 100 < counted <= total  # SegResNet and DynUNet have a lone norm or two


def test_a_layer_says_its_shape_and_scale():
    layers = {one.layer: one for one in list_layers(inspected_of(*NETWORKS["nested"][:2]))}
    node = layers["upcat_1_1"]
    assert (node.kind, node.shape, node.scale) == ("Node", (4, 8, 8, 8), (0.5, 0.5, 0.5))
    part = layers["upcat_1_1.convs.conv_0.conv"]
    assert (part.kind, part.block) == ("Conv3d", False)
    names = list(layers)
    assert names.index("upcat_1_1") < names.index("upcat_1_1.convs.conv_0.conv")


def test_nodes_of_a_nested_network_stand_on_their_grid():
    inspected = inspected_of(unetpp_def(1, 3, (4, 4, 4, 4, 4)), 32)
    places = {b.layer: b.place for b in wired(inspected, list_layers(inspected)) if b.block}
    assert places["conv_0_0"] == (0, 0)
    assert places["conv_4_0"] == (4, 4)
    assert places["upcat_0_4"] == (8, 0)
    assert places["upcat_2_1"] == (4, 2)
    assert places["final_conv_0_2"] == (4, -1)


def test_links_are_those_of_dense_skips():
    inspected = inspected_of(network_def("unetpp", 1, 3, (4, 4, 8)), 16)
    names = [one.layer for one in list_layers(inspected) if one.block]
    links = direct_links(inspected, names)
    assert set(links["conv_0_0"]) == {"conv_1_0", "upcat_0_1", "upcat_0_2"}
    assert set(links["conv_1_0"]) == {"conv_2_0", "upcat_0_1", "upcat_1_1"}
    assert set(links["upcat_1_1"]) == {"upcat_0_2"}
    assert links["final_conv_0_2"] == ()


def test_a_layer_that_nothing_uses_has_no_links():
    links = direct_links(known(), ["answer", "unused", "head"])
    assert links == {"answer": ("head",), "unused": (), "head": ()}


def test_layers_are_chosen_by_name_and_pattern():
    layers = list_layers(inspected_of(*NETWORKS["nested"][:2]))
    chosen = choose_layers(layers, ("upcat_0_*", "conv_0_0"))
    assert [one.layer for one in chosen] == ["conv_0_0", "upcat_0_1", "upcat_0_2"]
    parts = choose_layers(layers, ("upcat_0_2.*",))
    assert [one.layer for one in parts] == ["upcat_0_2.upsample", "upcat_0_2.convs"]
    with pytest.raises(RequestError) as caught:
        choose_layers(layers, ("upcat_0_9",))
    assert caught.value.code == "layer_unknown"
    assert "upcat_0_" in caught.value.wanted


def test_a_layer_that_runs_twice_is_left_out():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.again = torch.nn.Conv3d(1, 1, 1)
            self.once = torch.nn.Conv3d(1, 2, 1)

        def forward(self, x):
            return self.once(self.again(self.again(x)))

    assert [
        one.layer for one in list_layers(InspectedNetwork(Twice().eval(), 1, 2, (4, 4, 4)))
    ] == ["once"]
