import json

import pytest

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle_config import ConfigFile
from unet_pipeline.networks.postprocessing import read_decision, read_painting
from unet_pipeline.tiling.decision import Combined, Cut, Highest, Painted

SIGMOID = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
SOFTMAX = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
ARGMAX = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
HALF = {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}
INVERT = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing"}
SAVE = {"_target_": "SaveImaged", "keys": "$[@image_key]", "output_dir": "@output_dir"}
BRATS = "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, " \
        "torch.where(x[[1]] > 0, 2, 0)))"  # fmt: skip


def decision(*steps, channels=3, **entries):
    post = {"_target_": "Compose", "transforms": list(steps)}
    content = {"postprocessing": post, **entries}
    return read_decision(ConfigFile.parse("bundle", json.dumps(content).encode()), channels)


@pytest.mark.parametrize(
    "steps",
    [[], [SAVE], [SOFTMAX, INVERT, ARGMAX, SAVE], [INVERT, SOFTMAX], [ARGMAX], [SIGMOID, ARGMAX],
     [{**SIGMOID, "_disabled_": True}], [{**SIGMOID, "sigmoid": False}],
     [{**HALF, "threshold": None}]],
)  # fmt: skip
def test_argmax_and_softmax_are_the_highest_score(steps):
    assert decision(*steps) == Highest()


def test_without_postprocessing_it_is_the_highest_score():
    assert read_decision(ConfigFile("bundle", {}), 2) == Highest()


def test_a_sigmoid_before_the_way_back_makes_probabilities_that_are_resampled():
    assert decision(SIGMOID, INVERT, HALF, SAVE) == Combined(Cut(0.5, probabilities=True))
    assert decision(SIGMOID, INVERT) == Combined(Cut(0.5, probabilities=True))


@pytest.mark.parametrize(
    "steps", [[INVERT, SIGMOID, HALF], [SIGMOID, HALF, INVERT], [SIGMOID, HALF], [SIGMOID]]
)
def test_else_raw_scores_are_resampled_and_0_is_the_score_of_one_half(steps):
    assert decision(*steps) == Combined(Cut(0.0))


def test_the_cut_of_raw_scores_is_the_logit_of_the_threshold():
    assert decision(SIGMOID, {**HALF, "threshold": 0.9}).cut.level == pytest.approx(2.1972246)
    assert decision({**HALF, "threshold": 0.9}) == Combined(Cut(0.9))


def test_lists_give_one_value_per_key():
    both = {"_target_": "AsDiscreted", "keys": ["label", "pred"]}
    assert decision({**both, "threshold": [0.1, 3]}) == Combined(Cut(3.0))
    assert decision({**both, "argmax": [False, True]}) == Highest()
    assert decision({**HALF, "threshold": [2.0]}) == Combined(Cut(2.0))


def test_references_are_followed():
    steps = {"_target_": "Compose", "transforms": [{**HALF, "threshold": "@level"}]}
    content = {"postprocessing": "@post", "post": steps, "level": 1.5}
    assert read_decision(ConfigFile("bundle", content), 1) == Combined(Cut(1.5))
    assert decision(postprocessing=[{**HALF, "threshold": "@level"}], level=2) == Combined(Cut(2))


def test_the_painting_of_brats_is_read_and_not_run():
    paint = {"_target_": "Lambdad", "keys": "pred", "func": BRATS}
    found = decision(SIGMOID, INVERT, HALF, paint, SAVE)
    assert found == Painted((1, 2, 4), (1, 0, 2), Cut(0.5, probabilities=True))
    assert decision(SIGMOID, paint, HALF) == Combined(Cut(0.0))  # before it is decided
    assert decision(SIGMOID, HALF, paint, channels=2) == Combined(Cut(0.0))  # no channel 2


@pytest.mark.parametrize(
    "text",
    ["torch.where(x[[0]] > 0, 1, 0)", "lambda x: 0.5", "lambda x: torch.where(x[[0]] > 0, 1, 7)",
     "lambda x: torch.where(x[[0]] > 1, 1, 0)", "lambda x: torch.where(y[[0]] > 0, 1, 0)",
     "lambda x: torch.where(x[[0]] > 0, 1, exit(1))", "lambda x: numpy.where(x[[0]] > 0, 1, 0)",
     "lambda x: torch.where(x[[0]] > 0, 0, 0)", "lambda x:", "lambda x: " + "(" * 900,
     "lambda x: torch.where(x[[0]] > 0, 1, torch.where(x[[0]] > 0, 2, 0))"],
)  # fmt: skip
def test_other_expressions_are_no_painting(text):
    assert not read_painting(f"${text}")


@pytest.mark.parametrize(
    ("steps", "channels", "message"),
    [
        ([SIGMOID], 9, "at most 8"),
        ([SOFTMAX, HALF], 3, "softmax with threshold 0.5 over 3 channels"),
        ([SIGMOID, {**HALF, "threshold": 1}], 1, "between 0 and 1"),
        ([{**HALF, "threshold": "high"}], 1, "the threshold 'high'"),
    ],
)
def test_what_no_label_map_can_be_made_of_is_refused(steps, channels, message):
    with pytest.raises(RequestError, match=message) as caught:
        decision(*steps, channels=channels)
    assert caught.value.code == "decision_unsupported"


def test_of_two_softmax_channels_the_one_above_one_half_is_the_highest():
    assert decision(SOFTMAX, HALF, channels=2) == Highest()
