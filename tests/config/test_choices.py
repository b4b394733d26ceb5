"""Behind every name that a user may choose there is something, and no other has a name."""

from pathlib import Path
from types import ModuleType
from typing import get_args

import numpy as np
import pytest
import torch

from unet_pipeline import choices
from unet_pipeline.cluster import places
from unet_pipeline.config import COMMANDS, Settings
from unet_pipeline.config.options import settings_in
from unet_pipeline.inference import engines
from unet_pipeline.inference.importance import importance_map
from unet_pipeline.networks.family import SUMMARIES, network_def
from unet_pipeline.networks.registry import build_network
from unet_pipeline.storage.formats import LABEL_MAPS
from unet_pipeline.training.augment import augmentation_named
from unet_pipeline.training.losses import Loss
from unet_pipeline.training.recipe import DECAYS, RATES, Recipe, rate_factor
from unet_pipeline.volume.formats import writer_of
from unet_pipeline.volume.header import header_of

LISTS = [one for name, one in vars(choices).items() if name[0].isupper() and name != "Literal"]


def modules_with(name: str, package: ModuleType) -> set[str]:
    """Return the modules of a package that define ``name``."""
    folder = Path(package.__path__[0])
    return {path.stem for path in folder.glob("*.py") if f"\n{name} = " in path.read_text()}


def test_engines():
    there = modules_with("ENGINE", engines)
    assert there == set(get_args(choices.EngineName))
    assert set(get_args(choices.EngineWish)) == there | {"auto"}
    assert all(engines.engine_kind(name).make for name in there)
    assert engines.rivals_on("cpu") == ("openvino",)
    assert engines.rivals_on("cuda") == ("tensorrt", "compiled")


@pytest.mark.parametrize("name", get_args(choices.NetworkName))
def test_networks(name):
    assert SUMMARIES[name]
    build_network(network_def(name, 1, 2, (2, 4), spatial_dims=2), seed=0)


def test_no_network_is_left_out():
    assert SUMMARIES.keys() == set(get_args(choices.NetworkName))


@pytest.mark.parametrize("name", get_args(choices.LossName))
def test_losses(name):
    scores, labels = torch.zeros(1, 2, 4, 4, 4), torch.ones(1, 1, 4, 4, 4)
    assert torch.isfinite(Loss(name).criterion()(scores, labels))


@pytest.mark.parametrize("name", get_args(choices.OptimiserName))
def test_optimisers(name):
    recipe = Recipe((8, 8, 8), 1, optimiser=name)
    made = recipe.make_optimiser([torch.nn.Parameter(torch.zeros(1))])
    assert made.__class__.__name__.lower() == name
    assert {name} <= RATES.keys() & DECAYS.keys()


def test_optimisers_have_rates_and_no_others():
    assert RATES.keys() == DECAYS.keys() == set(get_args(choices.OptimiserName))


def test_schedules_differ():
    factors = {rate_factor(50, 100, name) for name in get_args(choices.Schedule)}
    assert len(factors) == len(get_args(choices.Schedule))


def test_augmentations_differ():
    made = {augmentation_named(name) for name in get_args(choices.AugmentationName)}
    assert len(made) == len(get_args(choices.AugmentationName))


@pytest.mark.parametrize("name", get_args(choices.Blend))
def test_blends(name):
    assert importance_map((4, 4, 4), name).shape == (4, 4, 4)


def test_clusters():
    there = modules_with("PLACE", places)
    assert there | {"serial"} == set(get_args(choices.ClusterName))
    assert all(places.place_of(name).start for name in there)
    assert places.place_of("tcp://here:8786").start is None


@pytest.mark.parametrize("name", get_args(choices.OutputFormat))
def test_formats_of_label_maps(name):
    header = header_of((2, 2, 2), np.eye(4), np.uint8)
    assert list(writer_of(name).encode(np.ones((2, 2, 2), np.uint8), header))


def test_every_format_with_label_maps_can_be_chosen():
    assert LABEL_MAPS.keys() == set(get_args(choices.OutputFormat))


def test_forms_and_command_line_offer_these_lists_and_no_other():
    """A list of names in a form is one of ``choices``, but for one that only one field has."""
    known = {get_args(one) for one in LISTS} | {("validation", "test")}
    offered = {
        get_args(one.kind)
        for model in COMMANDS.values()
        for one in settings_in(model)
        if "|" in one.metavar and get_args(one.kind)
    }
    assert len(offered) > 8
    assert offered <= known
    assert issubclass(COMMANDS["segment"], Settings)
