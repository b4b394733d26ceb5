"""Parity: whether an engine gives the labels of eager PyTorch, on a stored volume.

Two engines add the same products in another order, so scores differ in their last bits, and labels
where the network is undecided. Nothing else may differ::

    margin    by how much eager decided a voxel otherwise: its highest score minus its score of the
              class that the engine chose; or how far a region's score (or probability) that the
              engine has on the other side of its cut is from that cut, at most
    near tie  a voxel whose margin is below 1e-3, or below 1e-3 of the range of a window's scores
              if that is less than 1

An engine must also give a window the same bits in every place of a batch, whatever its neighbours:
only then do the labels not depend on how a volume was cut into tiles (P3).
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from unet_pipeline.choices import EngineName
from unet_pipeline.errors import RequestError
from unet_pipeline.inference.engine_choice import Agreement
from unet_pipeline.inference.engines.protocol import Engine
from unet_pipeline.networks.bundle_tools import EXAMPLE
from unet_pipeline.networks.weights import parse_weights, read_weights
from unet_pipeline.storage.store import Store, join
from unet_pipeline.tiling.decision import Combined, Decision, Highest, Labels, Painted

NEAR_TIE = 1e-3
_SMOOTH = 8  # voxels between the knots of the volume that is made up

Array = npt.NDArray[np.float32]


def check_parity(
    reference: Engine, engine: Engine, windows_NCXYZ: Tensor, batch: int, decision: Decision
) -> Agreement:
    """Hold an engine against another.

    Parameters
    ----------
    reference
        Eager PyTorch in float32.
    windows_NCXYZ
        What the network sees of a few windows, on the device of both.
    batch
        Windows of a batch.
    """
    number, found = len(windows_NCXYZ), []
    with torch.inference_mode():
        for first in range(number):
            places = [(first + place) % number for place in range(batch)]
            turned = [places[-1], *places[:-1]]
            expected_KXYZ = _scores(reference, windows_NCXYZ[places])[0].copy()
            scores_BKXYZ = _scores(engine, windows_NCXYZ[places]).copy()
            again_BKXYZ = _scores(engine, windows_NCXYZ[turned])
            steady = all(
                np.array_equal(scores_BKXYZ[place - 1], again_BKXYZ[place])
                for place in range(batch)
            )
            found.append(compare(expected_KXYZ, scores_BKXYZ[0], decision, steady=steady))
    return reduce(_both, found)


def compare(
    expected_KXYZ: Array, found_KXYZ: Array, decision: Decision, *, steady: bool = True
) -> Agreement:
    """Compare the scores that two engines give a window, by the labels that they decide."""
    expected, found = (
        [decision.before_resampling(scores_XYZ) for scores_XYZ in scores_KXYZ]
        for scores_KXYZ in (expected_KXYZ, found_KXYZ)
    )
    labels = decision.decide(found, np.int64)
    differs = decision.decide(expected, np.int64) != labels
    margins = _margins(expected, found, labels, decision)[differs]
    near_tie = NEAR_TIE * min(1.0, float(np.ptp(expected_KXYZ)))
    differences = [np.abs(b - a).max() for a, b in zip(expected_KXYZ, found_KXYZ, strict=True)]
    return Agreement(
        voxels=differs.size,
        differing=int(differs.sum()),
        decided=int((margins >= near_tie).sum()),
        largest_margin=float(margins.max(initial=0.0)),
        near_tie=near_tie,
        largest_difference=float(np.max(differences)),
        steady=steady,
    )


def _both(one: Agreement, other: Agreement) -> Agreement:
    return Agreement(
        voxels=one.voxels + other.voxels,
        differing=one.differing + other.differing,
        decided=one.decided + other.decided,
        largest_margin=max(one.largest_margin, other.largest_margin),
        near_tie=min(one.near_tie, other.near_tie),
        largest_difference=float(np.maximum(one.largest_difference, other.largest_difference)),
        steady=one.steady and other.steady,
    )


def refusal(name: EngineName, agreement: Agreement) -> RequestError:
    """Return the error of an engine that does not pass."""
    found = (
        f"{agreement.decided} of {agreement.voxels} voxels with another label than eager PyTorch "
        f"gives, by a margin of up to {agreement.largest_margin:.3g}"
        if agreement.steady
        else "scores that depend on a window's place in its batch"
    )
    return RequestError(
        "engine_differs",
        found=f"{found} (engine {name})",
        wanted=f"the same labels, but for margins below {agreement.near_tie:.1g}",
        remedy="Leave --engine out, or say --engine auto",
    )


def stored_windows(url: str, store: Store, shape_CXYZ: tuple[int, ...]) -> Tensor:
    """Return windows to compare engines on, NCXYZ: made up, and the bundle's example if it has one.

    Those that are made up are smooth, as images are, and the same everywhere: one with mean 0 and
    deviation 1 before its fine noise, and one as of a CT, half of whose voxels are air of value 1
    and the others above it, in which sums grow large. The example is repeated to the size of a
    window.
    """
    made_up = _made_up(shape_CXYZ)
    windows = [made_up, made_up.clamp(min=0) + 1]
    place = join(url, EXAMPLE)
    if store.exists(place):
        example = parse_weights(place, read_weights(place, store))["input"][0].float()
        if example.ndim == len(shape_CXYZ) and example.shape[0] == shape_CXYZ[0]:
            windows.append(_repeated(example, shape_CXYZ))
    return torch.stack(windows)


def _made_up(shape_CXYZ: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    channels, *sizes = shape_CXYZ
    knots = [max(2, n // _SMOOTH) for n in sizes]
    coarse = torch.randn((1, channels, *knots), generator=generator)
    smooth = interpolate(coarse, sizes, mode="trilinear", align_corners=True)[0]
    return smooth + 0.1 * torch.randn(shape_CXYZ, generator=generator)


def _repeated(example_CXYZ: Tensor, shape_CXYZ: tuple[int, ...]) -> Tensor:
    sizes = zip(shape_CXYZ, example_CXYZ.shape, strict=True)
    repeated = example_CXYZ.repeat([-(-wanted // has) for wanted, has in sizes])
    return repeated[tuple(slice(n) for n in shape_CXYZ)]


def _scores(engine: Engine, batch_BCXYZ: Tensor) -> Array:
    """Return scores that are valid until the engine is called again."""
    batch_BCXYZ = batch_BCXYZ.contiguous(memory_format=engine.memory_format)
    scores_BKXYZ: Array = engine(batch_BCXYZ).cpu().numpy()
    return scores_BKXYZ


def _margins(
    expected_KXYZ: Sequence[Array],
    found_KXYZ: Sequence[Array],
    labels_XYZ: Labels,
    decision: Decision,
) -> Array:
    """Return by how much each voxel was decided otherwise, shape XYZ."""
    margins: Array
    if isinstance(decision, Highest):
        margins = reduce(np.maximum, expected_KXYZ).copy()
        for label, scores_XYZ in enumerate(expected_KXYZ):
            margins[labels_XYZ == label] -= scores_XYZ[labels_XYZ == label]
        return margins
    assert isinstance(decision, Painted | Combined)  # noqa: S101  there is no other
    cut = decision.cut
    margins = np.zeros(labels_XYZ.shape, np.float32)
    for expected_XYZ, found_XYZ in zip(expected_KXYZ, found_KXYZ, strict=True):
        flipped_XYZ = cut.passes(expected_XYZ) != cut.passes(found_XYZ)
        margins = np.maximum(margins, np.where(flipped_XYZ, np.abs(expected_XYZ - cut.level), 0))
    return margins
