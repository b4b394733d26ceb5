import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unet_pipeline.tiling.decision import Combined, Cut, Highest, Painted, described

NAMES = ["tumour core", "whole tumour", "enhancing tumour"]
scores = arrays(np.float32, (5, 3, 2, 2), elements=st.sampled_from([-2.0, -0.5, 0.0, 0.5, 2.0]))


def decided(decision, per_channel, label_type=np.uint8):
    """Decide voxels that lie in a row; one list of scores per channel."""
    rows = (np.array(row, np.float32)[:, None, None] for row in per_channel)
    labels = decision.decide(rows, label_type)
    assert labels.dtype == label_type
    return labels[:, 0, 0].tolist()


def test_the_highest_score_wins_and_of_equal_ones_the_lowest_channel():
    assert decided(Highest(), [[3, 1, 2], [1, 3, 2], [2, 2, 2]]) == [0, 1, 0]


def test_the_last_region_that_was_painted_shows():
    whole, core, enhancing = [1, 1, -1, 1], [-1, 1, -1, 1], [-1, -1, -1, 1]
    assert decided(Painted((1, 2, 3)), [whole, core, enhancing]) == [1, 2, 0, 3]


def test_regions_can_be_painted_in_another_order_than_that_of_the_channels():
    core, whole, enhancing = [1, -1, 1], [1, 1, 1], [-1, -1, 1]
    brats = Painted((1, 2, 4), order=(1, 0, 2))
    assert decided(brats, [core, whole, enhancing]) == [1, 2, 4]
    assert decided(Painted((1, 2, 4)), [core, whole, enhancing]) == [2, 2, 4]


def test_a_channel_outside_the_order_is_not_painted():
    assert decided(Painted((0, 7), order=(1,)), [[1, 1], [1, -1]]) == [7, 0]


def test_each_combination_of_regions_has_its_own_label():
    core, whole, enhancing = [1, -1, 1, -1], [1, 1, 1, -1], [-1, -1, 1, -1]
    assert decided(Combined(), [core, whole, enhancing]) == [0b011, 0b010, 0b111, 0]


def test_a_score_must_be_above_the_cut():
    assert decided(Combined(), [[-0.1, 0.0, 0.1]]) == [0, 0, 1]
    assert decided(Combined(Cut(2.5)), [[2.4, 2.5, 2.6]]) == [0, 0, 1]


def test_probabilities_are_made_before_resampling_only_where_the_cut_is_one():
    values = np.array([[[-100, 0, 100]]], np.float32)
    assert Cut(0.5, probabilities=True).before_resampling(values).tolist() == [[[0, 0.5, 1]]]
    for decision in (Highest(), Combined(), Painted((1,))):
        assert decision.before_resampling(values) is values


def test_labels_wider_than_a_byte_keep_their_value():
    assert decided(Painted((1, 300)), [[1, 1], [-1, 1]], np.uint16) == [1, 300]


def test_labels_have_the_names_of_what_they_show():
    assert Highest().label_names(["background", "spleen"]) == {0: "background", 1: "spleen"}
    assert Painted((1, 2, 4)).label_names(NAMES) == {
        0: "background", 1: "tumour core", 2: "whole tumour", 4: "enhancing tumour"
    }  # fmt: skip
    assert Painted((1, 1)).label_names(["left", "right"]) == {0: "background", 1: "left / right"}
    combined = Combined().label_names(NAMES)
    assert list(combined) == list(range(8))
    assert combined[0] == "background"
    assert combined[0b011] == "tumour core + whole tumour"
    assert combined[0b100] == "enhancing tumour"


@pytest.mark.parametrize(
    ("values", "order", "message"),
    [((0, 1), (), "1 or more"), ((1, 2), (2,), "channels below 2"), ((1, -2), (1,), "1 or more")],
)
def test_a_painting_that_cannot_be_is_refused(values, order, message):
    with pytest.raises(ValueError, match=message):
        Painted(values, order)


def test_the_digest_of_a_run_tells_decisions_apart():
    ways = [Highest(), Combined(), Combined(Cut(0.5, True)), Painted((1,)), Painted((1,), (0,))]
    texts = {str(described(way)) for way in ways}
    assert len(texts) == len(ways)
    assert described(Combined()) == {
        "kind": "combined", "cut": {"level": 0.0, "probabilities": False}
    }  # fmt: skip


@given(scores)
def test_highest_is_argmax(values):
    assert (Highest().decide(iter(values), np.uint8) == values.argmax(axis=0)).all()


@given(scores)
def test_every_bit_of_a_combination_is_its_channel(values):
    labels = Combined().decide(iter(values), np.uint8)
    for channel, scores_XYZ in enumerate(values):
        assert ((labels >> channel & 1).astype(bool) == (scores_XYZ > 0)).all()


@given(scores, st.permutations(range(5)), st.integers(1, 5))
def test_painting_is_overwriting_in_the_order(values, order, painted):
    channels = tuple(order[:painted])
    wanted = np.zeros(values.shape[1:], np.uint8)
    for channel in channels:
        wanted[values[channel] > 0] = 10 + channel
    found = Painted((10, 11, 12, 13, 14), channels).decide(iter(values), np.uint8)
    assert (found == wanted).all()


@given(arrays(np.float32, 67, elements=st.floats(-30, 30, width=32)), st.integers(0, 66))
def test_a_probability_does_not_depend_on_what_lies_beside_it(values, first):
    """To the bit: else tiles could show in the labels (P3)."""
    cut = Cut(0.5, probabilities=True)
    whole = cut.before_resampling(values[:, None, None])
    part = cut.before_resampling(values[first:, None, None].copy())
    assert part.tobytes() == whole[first:].tobytes()
