"""What is wrong with an option is said in one line that names the option, before any work."""

import pytest
from command_line import cli

TRAIN = ("train", "images", "masks", "--output", "out")
DEPTHS = ("depths", "images", "--model", "phantom", "--output", "out")
LAYERS = ("layers", "images", "--model", "phantom", "--output", "out")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ((*TRAIN, "--loss", "foo"), "--loss"),
        ((*TRAIN, "--optimiser", "foo"), "--optimiser"),
        ((*TRAIN, "--roi-size", "16,0,16"), "--roi-size"),
        ((*TRAIN, "--spacing", "0,1,1"), "--spacing"),
        ((*TRAIN, "--spacing", "nan,1,1"), "--spacing"),
        ((*TRAIN, "--learning-rate", "inf"), "--learning-rate"),
        ((*TRAIN, "--validate-every", "0"), "--validate-every"),
        ((*TRAIN, "--loss", "weighted", "--class-weights", "0,1,1"), "--class-weights"),
        (("train", "images", "--output", " "), "--output"),
        (("train", "", "--output", "out"), "--images"),
        ((*DEPTHS, "--cluster", "foo"), "--cluster"),
        ((*DEPTHS, "--affine-tolerance", "0"), "--affine-tolerance"),
        ((*LAYERS, "--memory-gb", "inf"), "--memory-gb"),
        ((*LAYERS, "--view", "foo"), "--view"),
    ],
)
def test_the_option_is_named(arguments, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = cli(*arguments)
    assert ran.returncode == 2
    assert f"[setting_invalid] {option}: found" in ran.stderr
    assert not list(tmp_path.iterdir())
