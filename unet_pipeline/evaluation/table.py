"""The scores of several candidates on the same cases, as one array per metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_pipeline.evaluation.records import METRICS, Comparison, Disagreement, Interval, Metric
from unet_pipeline.evaluation.scores import LabelScore
from unet_pipeline.evaluation.statistics import Bootstrap, holm, wilcoxon_p

Float = NDArray[np.float64]
Scores = Mapping[str, Mapping[int, LabelScore]]  # case -> label -> scores


@dataclass(frozen=True)
class ScoreTable:
    """Scores that can be compared: every candidate has a value wherever any has.

    Attributes
    ----------
    values
        For each metric an array (candidates, cases, labels); NaN where there is nothing to measure.
    """

    candidates: tuple[str, ...]
    cases: tuple[str, ...]
    labels: tuple[int, ...]
    values: Mapping[Metric, Float]

    def per_case(self, metric: Metric) -> Float:
        """Return the mean over labels, (candidates, cases); NaN for a case without any value."""
        values = self.values[metric]
        known = ~np.isnan(values)
        counts = known.sum(axis=2)
        sums = np.where(known, values, 0.0).sum(axis=2)
        means: Float = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
        return means

    def dice_of(self, candidate: str) -> Float:
        """Return the mean Dice of each case, (cases,)."""
        return np.asarray(self.per_case("dice")[self.candidates.index(candidate)])

    def metrics(self, candidate: str, bootstrap: Bootstrap) -> dict[Metric, Interval | None]:
        """Return the mean over labels and cases of each metric."""
        row = self.candidates.index(candidate)
        return {metric: bootstrap.interval(self.per_case(metric)[row]) for metric in METRICS}

    def metrics_per_label(
        self, candidate: str, bootstrap: Bootstrap
    ) -> dict[str, dict[Metric, Interval | None]]:
        """Return the mean over cases of each metric, for each label."""
        row = self.candidates.index(candidate)
        return {
            str(label): {m: bootstrap.interval(self.values[m][row, :, column]) for m in METRICS}
            for column, label in enumerate(self.labels)
        }

    def grouped(self, groups: Mapping[str, Sequence[str]]) -> "ScoreTable":
        """Return a table whose candidates are the means over groups of this table's candidates."""
        rows = [[self.candidates.index(name) for name in names] for names in groups.values()]
        values = {
            metric: np.stack([array[members].mean(axis=0) for members in rows])
            for metric, array in self.values.items()
        }
        return ScoreTable(tuple(groups), self.cases, self.labels, values)

    def compare(self, pairs: Sequence[tuple[str, str]], bootstrap: Bootstrap) -> list[Comparison]:
        """Test pairs of candidates on the mean Dice of each case.

        Raises
        ------
        ValueError
            If no case has a Dice.
        """
        differences = [self.dice_of(one) - self.dice_of(other) for one, other in pairs]
        p_values = [wilcoxon_p(values) for values in differences]
        found = []
        for (one, other), values, p, corrected in zip(
            pairs, differences, p_values, holm(p_values), strict=True
        ):
            difference = bootstrap.interval(values)
            if difference is None:
                raise ValueError("no case has a Dice")
            found.append(Comparison(one, other, difference, p, corrected))
        return found

    def disagreements(self, pairs: Sequence[tuple[str, str]], most: int) -> list[Disagreement]:
        """Return the cases on which each pair differs most, at most ``most`` for each pair."""
        found = []
        for one, other in pairs:
            dice, against = self.dice_of(one), self.dice_of(other)
            gaps = np.nan_to_num(np.abs(dice - against))
            order = np.argsort(-gaps, kind="stable")[:most]
            found += [
                Disagreement(self.cases[i], one, other, float(dice[i]), float(against[i]))
                for i in order
                if gaps[i] > 0
            ]
        return sorted(found, key=lambda one: -abs(one.difference))


def score_table(scores: Mapping[str, Scores], labels: Sequence[int]) -> ScoreTable:
    """Put the scores of candidates together, on the cases that all of them have.

    A label that the mask does not have, and that some candidate finds all the same, counts 0 for
    that one (Dice, IoU, NSD); for the others, which rightly find nothing, it then counts 1. A
    distance counts only where every candidate has one. So means are over the same labels of the
    same cases for every candidate.
    """
    shared = set.intersection(*(set(cases) for cases in scores.values()))
    cases = tuple(sorted(shared))
    values: dict[Metric, Float] = {}
    for metric in METRICS:
        found = np.array(
            [
                [[_value(by_case[case].get(label), metric) for label in labels] for case in cases]
                for by_case in scores.values()
            ],
            dtype=np.float64,
        ).reshape(len(scores), len(cases), len(labels))
        values[metric] = _paired(found, metric)
    return ScoreTable(tuple(scores), cases, tuple(labels), values)


def _value(score: LabelScore | None, metric: Metric) -> float:
    value = None if score is None else getattr(score, metric)
    return float("nan") if value is None else float(value)


def _paired(values: Float, metric: Metric) -> Float:
    missing = np.isnan(values)
    if metric == "hd95_mm":
        return np.where(missing.any(axis=0), np.nan, values)
    return np.where(missing & ~missing.all(axis=0), 1.0, values)
