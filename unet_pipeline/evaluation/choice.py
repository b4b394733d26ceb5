"""Choose a depth: the cheapest whose loss of Dice is small, surely enough; and how stable that is.

Pruning on one validation set can mislead (Zhou et al. 2020, section V): another set of cases of the
same kind may want another depth. So the choice is repeated on resampled cohorts, and the share of
them that leads to each depth is part of the answer.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.evaluation.records import DepthChoice, Remark
from unet_pipeline.evaluation.statistics import Bootstrap

Float = NDArray[np.float64]

COHORTS = 500  # resampled cohorts that the choice is repeated on
STABLE = 0.8  # share of them that must lead to the same choice
FEW_CASES = 20
_ROUNDING = 1e-9  # of sums: a loss of exactly the tolerance is within it


def choose_depth(dice_CD: Float, *, tolerance: float, bootstrap: Bootstrap) -> DepthChoice:
    """Choose the shallowest depth whose loss against the best depth is within the tolerance.

    The loss is that of mean Dice; its one-sided upper bound, by a paired bootstrap over cases, is
    held against the tolerance. The best depth is always within it.

    Parameters
    ----------
    dice_CD
        Mean Dice of each case (rows) at each depth (columns, shallow to deep), no NaN.
    tolerance
        Dice that may be lost.
    """
    depth, best, bounds = _choose(dice_CD, tolerance, bootstrap)
    again = _choices_on_resampled_cohorts(dice_CD, tolerance, bootstrap)
    shares = np.bincount(again, minlength=dice_CD.shape[1]) / len(again)
    return DepthChoice(
        depth=depth + 1,
        best=best + 1,
        tolerance=tolerance,
        confidence=bootstrap.confidence,
        loss_bounds=tuple(float(bound) for bound in bounds),
        shares=tuple(float(share) for share in shares),
    )


def remarks_on(choice: DepthChoice, cases: int) -> list[Remark]:
    """Return what speaks against relying on a choice."""
    found = []
    if choice.share < STABLE:
        others = ", ".join(
            f"L{depth} in {share:.0%}"
            for depth, share in enumerate(choice.shares, start=1)
            if share > 0 and depth != choice.depth
        )
        text = (
            f"The choice is not stable: L{choice.depth} is chosen on {choice.share:.0%} of "
            f"resampled cohorts, {others}. Validate on more cases, or take the deepest of these."
        )
        found.append(Remark("choice_unstable", text))
    if cases < FEW_CASES:
        text = f"There are only {cases} cases; {FEW_CASES} or more make a choice that can be used."
        found.append(Remark("few_cases", text))
    return found


def _choose(dice_CD: Float, tolerance: float, bootstrap: Bootstrap) -> tuple[int, int, Float]:
    """Return the depth chosen and the best one, from 0, and the bounds of all losses."""
    best = int(np.argmax(dice_CD.mean(axis=0)))
    bounds = bootstrap.upper_bound(dice_CD[:, [best]] - dice_CD)
    return int(np.argmax(bounds <= tolerance + _ROUNDING)), best, bounds


def _choices_on_resampled_cohorts(
    dice_CD: Float, tolerance: float, bootstrap: Bootstrap
) -> list[int]:
    cases = len(dice_CD)
    drawn = np.random.default_rng([bootstrap.seed, 1]).integers(cases, size=(COHORTS, cases))
    inner = replace(bootstrap, resamples=min(bootstrap.resamples, 1000))
    return [_choose(dice_CD[rows], tolerance, inner)[0] for rows in drawn]
