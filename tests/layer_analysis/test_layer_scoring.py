"""Probes and replaced layers on a network of which one knows what each layer holds."""

import math

import pytest
import torch
from small_networks import hooks_on, known, labelled_block
from torch import nn

from unet_pipeline.errors import CaseError
from unet_pipeline.evaluation.layer_records import LayerRecord, SideRecord
from unet_pipeline.layer_analysis.findings import advice, mean_per_label, side_of, with_findings
from unet_pipeline.layer_analysis.inspected_network import InspectedNetwork
from unet_pipeline.layer_analysis.observe import Observer
from unet_pipeline.layer_analysis.scoring import ScoringRequest, channel_groups, score_case
from unet_pipeline.tiling.decision import Highest

LAYERS = ["answer", "down", "noise", "unused", "head"]


@pytest.fixture(scope="module")
def found():
    inspected = known()
    observer = Observer(inspected, LAYERS, (0, 1), 1000, seed=0)
    for seed in range(2):
        observer.add(labelled_block(f"fit-{seed}", seed))
    request = ScoringRequest(
        dict(observer.fitted()), {"encoder": ["answer"], "decoder": ["unused"]}, 2,
        Highest(), (0, 1), "gaussian",
    )  # fmt: skip
    cases = [score_case(inspected, labelled_block(f"score-{s}", s), request) for s in (7, 8, 9)]
    assert hooks_on(inspected.network) == 0
    return cases


def finding(name, cases):
    return with_findings(LayerRecord(name, "Conv3d", True, (1, 8, 8, 8), (1.0,) * 3, 0, 0), cases)


def test_the_network_as_it_is_is_right(found):
    assert mean_per_label(found) == {"1": 1.0}


def test_a_probe_on_a_layer_that_holds_the_answer_is_right(found):
    layer = finding("answer", found)
    assert layer.probe_dice["1"] == pytest.approx(1.0, abs=1e-3)
    assert layer.probe_iou["1"] == pytest.approx(1.0, abs=1e-3)


def test_a_probe_on_half_the_resolution_is_nearly_right(found):
    layer = finding("down", found)
    assert 0.75 < layer.probe_dice["1"] < 1.0
    dice = [case.probes["down"][1] for case in found]
    assert layer.probe_iou["1"] == pytest.approx(sum(d / (2 - d) for d in dice) / 3)


def test_a_probe_on_noise_is_at_chance(found):
    """Noise cannot tell the labels apart, so the frequent one, background, is always said."""
    assert finding("noise", found).probe_dice["1"] < 0.1


@pytest.mark.parametrize("name", ["unused", "noise", "down"])
def test_without_a_layer_that_nothing_uses_exactly_nothing_is_lost(name, found):
    layer = finding(name, found)
    assert layer.lost_cases == (0.0, 0.0, 0.0)
    assert layer.lost == 0.0
    assert all(lost == 0.0 for lost in layer.lost_groups)


def test_without_the_layer_that_everything_rests_on_all_is_lost(found):
    layer = finding("answer", found)
    assert layer.lost == 1.0  # its mean says background everywhere
    assert layer.lost_labels == {"1": 1.0}
    assert layer.lost_groups == (1.0, 0.0)  # the head uses the first channel only


def test_the_sides_lose_what_their_blocks_lose(found):
    encoder, decoder = (side_of(side, [], found) for side in ("encoder", "decoder"))
    assert encoder.lost_cases == (0.5, 0.5, 0.5)  # the mean of its two groups: 1 and 0
    assert decoder.lost == 0.0


def test_scores_that_are_no_numbers_put_the_case_at_fault():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 2, 1)

        def forward(self, x):
            return self.conv(x) * math.nan

    inspected = InspectedNetwork(Broken().eval(), 1, 2, (8, 8, 8))
    request = ScoringRequest({}, {}, 0, Highest(), (0, 1), "constant")
    with pytest.raises(CaseError) as caught:
        score_case(inspected, labelled_block("x"), request)
    assert caught.value.code == "scores_not_finite"
    assert caught.value.subject == "x"


def test_the_mean_is_that_of_all_voxels_of_the_windows():
    inspected, block = known(), labelled_block()
    observer = Observer(inspected, ["answer"], (0, 1), 100, seed=0)
    observer.add(block)
    means = dict(observer.fitted())["answer"].mean_C
    seen = torch.cat([torch.from_numpy(block.values_CXYZ[0][box]).flatten()
                      for box in block.boxes()])  # fmt: skip
    torch.testing.assert_close(means, torch.stack([seen.mean(), -seen.mean()]))


def test_channel_groups_hold_every_channel_once():
    assert channel_groups(5, 2) == [[0, 1, 2], [3, 4]]
    assert channel_groups(2, 4) == [[0], [1]]
    assert channel_groups(8, 1) == channel_groups(8, 0) == []


def side(name, *lost):
    mean = sum(lost) / len(lost) if lost else None
    return SideRecord(name, 3, 100, 1000 if name == "encoder" else 3000, mean, lost)


@pytest.mark.parametrize(
    ("encoder", "decoder", "said"),
    [
        ((0.30, 0.32, 0.31), (0.01, 0.02, 0.01), "leans less on its decoder"),
        ((0.01, 0.02, 0.01), (0.30, 0.32, 0.31), "leans less on its encoder"),
        ((0.30, 0.01, 0.10), (0.01, 0.20, 0.10), "does not favour either side"),
        ((0.30, 0.32), (0.01, 0.02), "no advice"),
        ((0.30,), (0.01,), "1 case."),
        ((), (), "not compared"),
    ],
)
def test_advice_follows_the_evidence(encoder, decoder, said):
    sides = {"encoder": side("encoder", *encoder), "decoder": side("decoder", *decoder)}
    text = advice(sides, [], 4, 0.9)
    assert said in text
    saved = "50% of both sides' parameters and 75% of their multiply-adds"
    assert (saved in text) == ("leans less on its decoder" in text)
    assert text.endswith("train one to know.")


def test_no_advice_without_two_sides():
    alone = {"encoder": side("encoder", 0.1, 0.1, 0.1), "decoder": SideRecord("decoder", 0, 0, 0)}
    assert "no two sides" in advice(alone, [], 4, 0.9)


def test_blocks_without_which_little_is_lost_are_counted_with_what_they_hold():
    def block(part, lost, parameters):
        return LayerRecord("x", "Node", True, (), (), parameters, parameters, part, lost=lost)

    blocks = [block("encoder", 0.0, 30), block("decoder", -0.01, 30), block("decoder", 0.2, 40),
              block("output", 0.0, 99)]  # fmt: skip
    text = advice({"encoder": side("encoder"), "decoder": side("decoder")}, blocks, 0, 0.9)
    assert "any one of 1 encoder and 1 decoder blocks, which hold 60% of the parameters" in text
    assert "Less than" not in advice(
        {"encoder": side("encoder"), "decoder": side("decoder")}, blocks[2:], 0, 0.9
    )


@pytest.mark.parametrize("dice", [None, 0.02])
def test_of_a_network_that_fails_nothing_is_said(dice):
    sides = {"encoder": side("encoder", 0.0, 0.0, 0.0), "decoder": side("decoder", 0.0, 0.0, 0.01)}
    assert advice(sides, [], 4, dice).startswith("The network itself reaches a mean Dice of 0.0")
