"""The parity gate: eager's labels but for near ties, and scores that no place in a batch moves."""

import numpy as np
import torch
from bundles import random_bundle

from unet_pipeline.inference.engines import Problem
from unet_pipeline.inference.engines.eager import EagerEngine
from unet_pipeline.inference.engines.parity import check_parity, compare, refusal, stored_windows
from unet_pipeline.networks.family import network_def
from unet_pipeline.networks.registry import build_network
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.decision import Combined, Cut, Highest, Painted

SHAPE = (1, 16, 16, 16)


def scores_of(*voxels: tuple[float, ...]) -> np.ndarray:
    """One window of a row of voxels, each given as its scores; shape KXYZ."""
    return np.array(voxels, np.float32).T[:, :, None, None]


def engine_of(seed: int = 0, change: float = 0.0, batch: int = 2) -> EagerEngine:
    network = build_network(network_def("unet", 1, 3, (4, 8)), seed=seed).eval()
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += change
    return EagerEngine(Problem(network, (batch, *SHAPE), torch.device("cpu"), threads=1))


def windows(folder) -> torch.Tensor:
    return stored_windows(str(folder), Store(), SHAPE)


def test_only_near_ties_may_differ():
    expected = scores_of((5.0, 1.0), (2.0, 2.0005), (0.0, 4.0))
    found = scores_of((5.0, 1.0), (2.0005, 2.0), (0.0, 4.0))
    agreement = compare(expected, found, Highest())
    assert (agreement.voxels, agreement.differing, agreement.decided) == (3, 1, 0)
    assert agreement.passes
    np.testing.assert_allclose(agreement.largest_margin, 5e-4, rtol=0.01)
    np.testing.assert_allclose(agreement.largest_difference, 5e-4, rtol=0.01)


def test_a_label_that_was_decided_may_not_differ():
    agreement = compare(
        scores_of((5.0, 1.0), (2.0, 2.1)), scores_of((5.0, 1.0), (2.1, 2.0)), Highest()
    )
    assert (agreement.differing, agreement.decided, agreement.passes) == (1, 1, False)


def test_a_tie_of_two_classes_excuses_no_third():
    agreement = compare(scores_of((2.0, 2.0, 0.0)), scores_of((2.0, 2.0, 2.5)), Highest())
    assert (agreement.decided, agreement.largest_margin) == (1, 2.0)


def test_a_near_tie_is_nearer_where_all_scores_are_small():
    expected, found = scores_of((0.01, 0.0), (0.0, 5e-4)), scores_of((0.01, 0.0), (5e-4, 0.0))
    agreement = compare(expected, found, Highest())
    np.testing.assert_allclose(agreement.near_tie, 1e-5, rtol=0.01)
    assert not agreement.passes


def test_regions_are_held_against_their_cut():
    expected, found = scores_of((1.0, 4e-4)), scores_of((1.0, -4e-4))
    assert compare(expected, found, Combined()).passes
    assert not compare(expected, -found, Combined()).passes
    painted = Painted((1, 2), cut=Cut(0.5, probabilities=True))
    assert compare(expected, found, painted).passes
    assert not compare(scores_of((1.0, 0.1)), scores_of((1.0, -0.1)), painted).passes


def test_scores_that_are_no_numbers_do_not_pass():
    expected = scores_of((5.0, 1.0))
    assert not compare(expected, expected * np.float32(np.nan), Highest()).passes


def test_an_engine_with_other_weights_is_refused(tmp_path):
    volume = windows(tmp_path)
    same = check_parity(engine_of(), engine_of(), volume, 2, Highest())
    assert same.passes
    assert same.largest_difference == 0
    off = check_parity(engine_of(), engine_of(change=0.05), volume, 2, Highest())
    assert not off.passes
    assert off.decided > 0
    error = refusal("openvino", off)
    assert error.code == "engine_differs"
    assert f"{off.decided} of {off.voxels} voxels" in error.found


class Neighbourly(EagerEngine):
    """An engine whose scores of a window depend on the first window of its batch."""

    def __call__(self, batch_BCXYZ: torch.Tensor) -> torch.Tensor:
        return super().__call__(batch_BCXYZ) + 1e-7 * batch_BCXYZ[:1].mean()


def test_an_engine_whose_scores_depend_on_neighbours_is_refused(tmp_path):
    random_bundle(tmp_path, features=(4, 8), roi_size=SHAPE[1:])
    exact = engine_of()
    network = build_network(network_def("unet", 1, 3, (4, 8)), seed=0).eval()
    other = Neighbourly(Problem(network, (2, *SHAPE), torch.device("cpu"), threads=1))
    agreement = check_parity(exact, other, windows(tmp_path), 2, Highest())
    assert not agreement.steady
    assert not agreement.passes


def test_the_volume_is_stored_with_the_bundle_and_the_same_everywhere(tmp_path):
    random_bundle(tmp_path, features=(4, 8), roi_size=SHAPE[1:])
    made_up, like_ct, example = windows(tmp_path)
    stored = windows(tmp_path)
    assert torch.equal(stored, torch.stack([made_up, like_ct, example]))
    assert 0.3 < made_up.std() < 2
    assert like_ct.min() == 1
    assert 0.3 < (like_ct == 1).float().mean() < 0.7
    assert torch.equal(windows(tmp_path / "nothing"), torch.stack([made_up, like_ct]))
    from safetensors.torch import load_file

    kept = load_file(tmp_path / "models/example.safetensors")["input"][0]
    corner = tuple(slice(min(a, b)) for a, b in zip(kept.shape, example.shape, strict=True))
    assert torch.equal(example[corner], kept[corner])
