import io

import numpy as np
from PIL import Image

from unet_pipeline.report.curves import HEIGHT, WIDTH, smoothed, training_curves_png
from unet_pipeline.report.palette import PALETTE

NAMES = {1: "first", 2: "second"}


def pixels(losses, dice, best=None):
    png = training_curves_png(losses, dice, NAMES, best)
    return np.asarray(Image.open(io.BytesIO(png)))


def rows_of(picture, colour, left, right):
    """Return the mean row of the pixels of a colour within some columns, above the legend."""
    found = np.argwhere((picture[: HEIGHT - 44, left:right] == colour).all(axis=-1))
    return found[:, 0].mean()


def test_a_running_mean_by_hand():
    assert smoothed([4, 2, 0, 6], 2) == [4, 3, 1, 3]
    assert smoothed([4, 2], 1) == [4, 2]


def test_loss_falls_and_dice_rises():
    losses = list(np.linspace(2, 1, 100))
    dice = [(50, {1: 0.2, 2: 0.1}), (100, {1: 0.9, 2: None})]
    picture = pixels(losses, dice, best=100)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    blue = PALETTE[6]
    assert rows_of(picture, blue, 60, 160) < rows_of(picture, blue, 300, 430)
    half = WIDTH // 2
    early, late = (half + 60, half + 330), (half + 390, half + 450)
    assert rows_of(picture, PALETTE[0], *late) < rows_of(picture, PALETTE[0], *early)
    assert (picture[: HEIGHT - 44] == PALETTE[1]).all(axis=-1).any()


def test_a_training_that_has_only_begun_can_be_drawn():
    assert pixels([], []).shape == pixels([1.0], [(1, {1: None})]).shape
