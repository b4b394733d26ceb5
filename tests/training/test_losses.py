import numpy as np
import pytest
import torch
from monai.losses.dice import DiceCELoss, DiceFocalLoss
from monai.losses.tversky import TverskyLoss

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.family import network_def, unetpp_def
from unet_pipeline.networks.registry import build_network
from unet_pipeline.training.losses import (
    Loss,
    balancing_weights,
    check_loss,
    check_network,
    classes_of,
    deep_loss,
    doubling_weights,
    with_class_weights,
)

GENERATOR = torch.Generator().manual_seed(0)
SHALLOW, DEEP = torch.randn(2, 1, 3, 4, 4, 4, generator=GENERATOR)
LABELS = torch.randint(0, 3, (1, 4, 4, 4), generator=GENERATOR)
WEIGHTS = (0.5, 1.0, 3.0)


def refused(code, call, *arguments):
    with pytest.raises(RequestError) as error:
        call(*arguments)
    assert error.value.code == code
    return str(error.value)


@pytest.mark.parametrize(
    ("loss", "monai"),
    [
        (
            Loss(),
            DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True),
        ),
        (
            Loss("weighted", WEIGHTS),
            DiceCELoss(
                include_background=False,
                to_onehot_y=True,
                softmax=True,
                batch=True,
                weight=torch.tensor(WEIGHTS),
            ),
        ),
        (
            Loss("focal", WEIGHTS),
            DiceFocalLoss(to_onehot_y=True, softmax=True, batch=True, weight=torch.tensor(WEIGHTS)),
        ),
        (
            Loss("tversky", tversky=(0.2, 0.8)),
            TverskyLoss(False, True, softmax=True, batch=True, alpha=0.2, beta=0.8),
        ),
    ],
    ids=["dice_ce", "weighted", "focal", "tversky"],
)
def test_a_loss_is_monais(loss, monai):
    found = loss.criterion()(DEEP, LABELS[:, None])
    torch.testing.assert_close(found, monai(DEEP, LABELS[:, None]))
    perfect = 20.0 * (2 * torch.nn.functional.one_hot(LABELS).movedim(-1, 1) - 1)
    assert loss.criterion()(perfect, LABELS[:, None]) < 0.05 < found


def test_false_negatives_weigh_more_in_tversky_if_they_shall():
    # Label 1 on half of its voxels and nowhere else: no false positives, only false negatives.
    labels = torch.tensor([0, 0, 1, 1]).reshape(1, 1, 1, 1, 4)
    half = 20.0 * torch.tensor([[1, 1, 1, 0], [0, 0, 0, 1.0]]).reshape(1, 2, 1, 1, 4)
    for beta in (0.2, 0.8):
        loss = Loss("tversky", tversky=(1 - beta, beta)).criterion()(half, labels)
        assert loss.item() == pytest.approx(1 - 1 / (1 + beta), abs=1e-4)


def test_the_deep_loss_is_the_weighted_mean_of_the_heads():
    criterion = Loss().criterion()
    single = [criterion(head, LABELS[:, None]) for head in (SHALLOW, DEEP)]
    both = [SHALLOW, DEEP]
    torch.testing.assert_close(
        deep_loss(both, LABELS, criterion, Loss().weights_of(2)), (single[0] + 2 * single[1]) / 3
    )
    given = Loss(head_weights=(3, 1)).weights_of(2)
    torch.testing.assert_close(
        deep_loss(both, LABELS, criterion, given), (3 * single[0] + single[1]) / 4
    )
    torch.testing.assert_close(deep_loss(both, LABELS, criterion, (0, 1)), single[1])


def test_the_deepest_head_weighs_most():
    assert doubling_weights(1) == (1.0,)
    assert doubling_weights(4) == (1 / 15, 2 / 15, 4 / 15, 8 / 15)


def test_rare_classes_weigh_more():
    # 90 voxels of background, 9 of label 1, 1 of label 2; label 3 is nowhere. The median is 9.
    masks = [np.repeat([0, 1, 2], [45, 9, 0]), np.repeat([0, 1, 2], [45, 0, 1])]
    assert balancing_weights(masks, 4) == (0.1, 1.0, 9.0, 1.0)
    assert with_class_weights(Loss("weighted"), masks, 3).class_weights == (0.1, 1.0, 9.0)
    assert with_class_weights(Loss("weighted", WEIGHTS), masks, 3).class_weights == WEIGHTS
    assert with_class_weights(Loss(), masks, 3).class_weights is None


def test_a_channel_for_each_label_and_one_for_the_background():
    masks = {"a": frozenset({0, 1}), "b": frozenset({0, 2})}
    assert classes_of(masks, None) == 3
    assert classes_of(masks, 5) == 5


@pytest.mark.parametrize(
    ("labels", "wanted", "code", "said"),
    [
        ({0, 1, 4}, 3, "labels_without_channel", "labels up to 4 in a;"),
        ({0, 1, 4}, None, "labels_with_gaps", "--classes 5"),
        ({0}, None, "labels_missing", "2 masks without any label"),
    ],
)
def test_labels_that_fit_no_channel_are_refused(labels, wanted, code, said):
    masks = {"a": frozenset(labels), "b": frozenset({0})}
    assert said in refused(code, classes_of, masks, wanted)


def test_class_weights_must_fit_the_loss_and_the_channels():
    check_loss(Loss("weighted", WEIGHTS), 3)
    check_loss(Loss(), 3)
    assert "wanted 4, one" in refused(
        "class_weights_mismatch", check_loss, Loss("focal", WEIGHTS), 4
    )
    refused("class_weights_unused", check_loss, Loss("tversky", WEIGHTS), 3)


def test_heads_must_fit_the_loss_and_the_classes():
    network = build_network(unetpp_def(1, 3, (4, 4, 4, 4, 4)), seed=0)
    size = (32, 32, 32)
    check_network(network, Loss(), 3, 1, size)
    check_network(network, Loss(head_weights=(1, 1, 1, 1)), 3, 1, size)
    said = refused(
        "head_weights_mismatch", check_network, network, Loss(head_weights=(1, 2)), 3, 1, size
    )
    assert "wanted 4" in said
    single = build_network(network_def("unet", 1, 2, (4, 4)), seed=0)
    assert "(1, 3, 32" in refused("channels_mismatch", check_network, single, Loss(), 3, 1, size)
