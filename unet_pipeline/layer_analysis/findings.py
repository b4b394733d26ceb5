"""From the scores of single cases to what is said of layers and sides."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import sqrt

import numpy as np
from scipy.stats import t as student

from unet_pipeline.evaluation.layer_records import LayerRecord, SideRecord
from unet_pipeline.evaluation.metrics import mean_dice
from unet_pipeline.layer_analysis.scoring import CaseScores, Dice

LITTLE = 0.001  # Dice
FAILED = 0.3  # Dice below which a network's losses say nothing
_CAVEAT = (
    "This says what this trained network uses on these cases, not what a smaller one would reach "
    "once trained: train one to know."
)


def with_findings(layer: LayerRecord, cases: Sequence[CaseScores]) -> LayerRecord:
    """Return a layer with its probe's Dice and IoU, and with what is lost without it."""
    name = layer.layer
    probes = [case.probes[name] for case in cases]
    lost_cases = tuple(_lost(case.whole, case.without[name]) for case in cases)
    groups = range(len(cases[0].without_group[name]))
    return replace(
        layer,
        probe_dice=_mean_per_label(probes),
        probe_iou=_mean_per_label([{k: _iou(v) for k, v in dice.items()} for dice in probes]),
        lost=_mean(lost_cases),
        lost_cases=lost_cases,
        lost_labels=_mean_per_label(
            [_difference(case.whole, case.without[name]) for case in cases]
        ),
        lost_groups=tuple(
            _mean(_lost(case.whole, case.without_group[name][group]) for case in cases)
            for group in groups
        ),
    )


def mean_per_label(cases: Sequence[CaseScores]) -> dict[str, float | None]:
    """Return the mean Dice per label of the network as it is."""
    return _mean_per_label([case.whole for case in cases])


def side_of(side: str, blocks: Sequence[LayerRecord], cases: Sequence[CaseScores]) -> SideRecord:
    """Return what is known of one side."""
    own = [block for block in blocks if block.side == side]
    lost_cases = tuple(
        _mean(_lost(case.whole, share) for share in case.without_share[side])
        for case in cases
        if case.without_share.get(side)
    )
    return SideRecord(
        side=side,
        blocks=len(own),
        parameters=sum(block.parameters for block in own),
        multiply_adds=sum(block.multiply_adds for block in own),
        lost=_mean(lost_cases) if lost_cases else None,
        lost_cases=lost_cases,
    )


def advice(
    sides: Mapping[str, SideRecord],
    blocks: Sequence[LayerRecord],
    groups: int,
    dice: float | None,
) -> str:
    """Say which side could be made smaller, and what speaks for it, with its uncertainty.

    Parameters
    ----------
    blocks
        The blocks that were looked into.
    dice
        Mean Dice of the network as it is.
    """
    if dice is None or dice < FAILED:
        return (
            f"The network itself reaches a mean Dice of {dice or 0.0:.3f} on these cases. What it "
            "does not reach cannot be lost, so nothing is said about its layers."
        )
    encoder, decoder = sides["encoder"], sides["decoder"]
    if not encoder.blocks or not decoder.blocks:
        compared = "This network shows no two sides, so nothing is said about their size."
    elif encoder.lost is None or decoder.lost is None:
        compared = "The sides were not compared: that takes all blocks, and channel groups."
    else:
        compared = _compared(encoder, decoder, groups)
    return " ".join(filter(None, (compared, _spared(blocks), _CAVEAT)))


def _compared(encoder: SideRecord, decoder: SideRecord, groups: int) -> str:
    cases = len(encoder.lost_cases)
    measured = (
        f"With one of {groups} channel groups of every block replaced by its mean, the encoder "
        f"side ({encoder.blocks} blocks) lost {encoder.lost:.3f} Dice and the decoder side "
        f"({decoder.blocks} blocks) {decoder.lost:.3f}, on average over the groups and {cases} "
        f"{'case' if cases == 1 else 'cases'}."
    )
    gaps = np.subtract(encoder.lost_cases, decoder.lost_cases)
    if cases < 3:
        return f"{measured} So few cases give no interval and no advice: score at least three."
    half = float(student.ppf(0.975, cases - 1) * gaps.std(ddof=1) / sqrt(cases))
    gap = float(gaps.mean())
    interval = f"95 % interval of the difference, {gap - half:.3f} to {gap + half:.3f},"
    if abs(gap) <= half:
        return f"{measured} The {interval} holds 0: this does not favour either side."
    smaller = decoder if gap > 0 else encoder
    parameters = smaller.parameters / max(encoder.parameters + decoder.parameters, 1)
    adds = smaller.multiply_adds / max(encoder.multiply_adds + decoder.multiply_adds, 1)
    return (
        f"{measured} The {interval} excludes 0: the network leans less on its {smaller.side}, "
        f"which is the side to try to make smaller first. It has {parameters:.0%} of both sides' "
        f"parameters and {adds:.0%} of their multiply-adds, which is what can be saved there."
    )


def _spared(blocks: Sequence[LayerRecord]) -> str:
    """Say without which blocks, one at a time, hardly anything is lost, and what they hold."""
    inner = [b for b in blocks if b.side in ("encoder", "decoder") and b.lost is not None]
    found = [b for b in inner if (b.lost or 0.0) < LITTLE]
    if not found:
        return ""
    counts = (sum(b.side == side for b in found) for side in ("encoder", "decoder"))
    parameters = sum(b.parameters for b in found) / max(sum(b.parameters for b in inner), 1)
    adds = sum(b.multiply_adds for b in found) / max(sum(b.multiply_adds for b in inner), 1)
    return (
        "Less than {:g} Dice was lost without any one of {} encoder and {} decoder blocks, which "
        "hold {:.0%} of the parameters and {:.0%} of the multiply-adds; without all of them at "
        "once it may be more."
    ).format(LITTLE, *counts, parameters, adds)


def _lost(whole: Dice, without: Dice) -> float:
    before, after = mean_dice(whole.values()), mean_dice(without.values())
    return 0.0 if before is None or after is None else before - after


def _difference(whole: Dice, without: Dice) -> dict[int, float | None]:
    return {
        label: None if value is None or (other := without.get(label)) is None else value - other
        for label, value in whole.items()
    }


def _iou(dice: float | None) -> float | None:
    return None if dice is None else dice / (2 - dice)


def _mean_per_label(scores: Sequence[Dice]) -> dict[str, float | None]:
    labels = sorted({label for one in scores for label in one})
    return {str(label): mean_dice(one.get(label) for one in scores) for label in labels}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
