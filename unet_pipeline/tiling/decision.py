"""How the scores of a network's channels become one label per voxel.

========== ================== ==========================================================
decision   channels           label of a voxel
========== ================== ==========================================================
`Highest`  exclude each other the channel of the highest score
`Painted`  regions            each region's label, painted one over the other
`Combined` regions            the sum of 2**channel over the regions that it lies in
========== ================== ==========================================================

Scores are taken channel by channel, so memory does not grow with the number of channels.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from unet_pipeline.tiling.margins import Leads
from unet_pipeline.tiling.merge import Scores, smallest_label_type

BACKGROUND = "background"
MOST_COMBINED = 8  # regions whose combinations are labels of one byte

Labels = npt.NDArray[np.unsignedinteger[Any]]


class Decision(Protocol):
    """A rule that gives each voxel one label."""

    def label_names(self, channel_names: Sequence[str]) -> dict[int, str]:
        """Return the name of each label that the rule can give, background included."""

    def before_resampling(self, scores_XYZ: Scores) -> Scores:
        """Return what is interpolated from the model grid to the native grid, for one channel."""

    def decide(self, scores_of_channels: Iterable[Scores], label_type: npt.DTypeLike) -> Labels:
        """Return the labels.

        Parameters
        ----------
        scores_of_channels
            What ``before_resampling`` gave, on the native grid; each of shape XYZ.
        label_type
            Type of the result, wide enough for every label.
        """

    def decide_with_lead(
        self, scores_of_channels: Iterable[Scores], label_type: npt.DTypeLike
    ) -> tuple[Labels, Leads]:
        """Return the labels, and by how much each was decided (``margins.py``).

        Parameters
        ----------
        scores_of_channels, label_type
            As of ``decide``.
        """


def described(decision: Decision) -> dict[str, Any]:
    """Return a decision as plain JSON types: what is in the digest of a run's settings."""
    return {"kind": type(decision).__name__.lower(), **asdict(decision)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Highest:
    """Channels exclude each other, the first is background: softmax and argmax."""

    def __str__(self) -> str:
        return "the highest score"

    def label_names(self, channel_names: Sequence[str]) -> dict[int, str]:
        """Return the names of the channels, by their numbers."""
        return dict(enumerate(channel_names))

    def before_resampling(self, scores_XYZ: Scores) -> Scores:
        """Return the scores as they are."""
        return scores_XYZ

    def decide(self, scores_of_channels: Iterable[Scores], label_type: npt.DTypeLike) -> Labels:
        """Return the channel of the highest score; of equal ones the lowest channel."""
        return self.decide_with_lead(scores_of_channels, label_type)[0]

    def decide_with_lead(
        self, scores_of_channels: Iterable[Scores], label_type: npt.DTypeLike
    ) -> tuple[Labels, Leads]:
        """Return the labels, and how far each one's score is above the next class's."""
        iterator = iter(scores_of_channels)
        best_XYZ = next(iterator)
        labels_XYZ: Labels = np.zeros(best_XYZ.shape, dtype=label_type)
        second_XYZ: Scores = np.full(best_XYZ.shape, -np.inf, np.float32)
        for index, scores_XYZ in enumerate(iterator, start=1):
            higher_XYZ = scores_XYZ > best_XYZ
            labels_XYZ[higher_XYZ] = index
            second_XYZ = np.maximum(second_XYZ, np.minimum(best_XYZ, scores_XYZ))
            best_XYZ = np.maximum(best_XYZ, scores_XYZ)
        return labels_XYZ, best_XYZ - second_XYZ


@dataclass(frozen=True)
class Cut:
    """What a voxel must be above to lie in a region.

    Attributes
    ----------
    level
        A score; 0 is the score of probability 0.5. Where ``probabilities``, a probability.
    probabilities
        Whether scores become probabilities (sigmoid) before they are resampled.
    """

    level: float = 0.0
    probabilities: bool = False

    def __str__(self) -> str:
        return f"{'probability' if self.probabilities else 'score'} is above {self.level:g}"

    def before_resampling(self, scores_XYZ: Scores) -> Scores:
        """Return probabilities, each from its own score alone to the bit (P3), or the scores."""
        if not self.probabilities:
            return scores_XYZ
        probabilities_XYZ: Scores = expit(scores_XYZ)
        return probabilities_XYZ

    def passes(self, scores_XYZ: Scores) -> npt.NDArray[np.bool_]:
        """Return which voxels lie in the region."""
        return scores_XYZ > self.level

    def leads(self, scores_XYZ: Scores) -> Leads:
        """Return how far each voxel is from being decided otherwise, as a difference of scores."""
        if not self.probabilities:
            away_XYZ: Leads = np.abs(scores_XYZ - np.float32(self.level))
        else:
            away_XYZ = np.abs(logit(np.clip(scores_XYZ, 0, 1)) - logit(np.float32(self.level)))
        return away_XYZ


def _decided_with_lead(
    decide: Callable[[Iterable[Scores]], Labels],
    cut: Cut,
    scores_of_channels: Iterable[Scores],
    channels: Iterable[int] | None = None,
) -> tuple[Labels, Leads]:
    """Return what ``decide`` says, and the smallest lead over those ``channels``; none for all."""
    counted = None if channels is None else set(channels)
    least_XYZ: Any = np.float32(np.inf)

    def watched() -> Iterator[Scores]:
        nonlocal least_XYZ
        for channel, scores_XYZ in enumerate(scores_of_channels):
            if counted is None or channel in counted:
                least_XYZ = np.minimum(least_XYZ, cut.leads(scores_XYZ))
            yield scores_XYZ

    labels_XYZ = decide(watched())
    return labels_XYZ, np.broadcast_to(least_XYZ, labels_XYZ.shape)


@dataclass(frozen=True)
class Painted:
    """Regions that lie over each other; a voxel shows the last that was painted on it.

    Attributes
    ----------
    values
        Label of each channel.
    order
        Channels in the order of painting; none for that of their numbers. Channels that are left
        out are not painted.
    """

    values: tuple[int, ...]
    order: tuple[int, ...] = ()
    cut: Cut = Cut()

    def __post_init__(self) -> None:
        if not set(self.order) <= set(range(len(self.values))):
            raise ValueError(f"order {self.order} must name channels below {len(self.values)}")
        if min((self.values[channel] for channel in self._sequence), default=0) < 1:
            raise ValueError(f"labels of regions must be 1 or more, got {self.values}")

    def __str__(self) -> str:
        painted = ", ".join(f"{self.values[c]} of channel {c}" for c in self._sequence)
        return f"regions where the {self.cut}, painted one over the other: label {painted}"

    @property
    def _sequence(self) -> tuple[int, ...]:
        return self.order or tuple(range(len(self.values)))

    def label_names(self, channel_names: Sequence[str]) -> dict[int, str]:
        """Return the name of the region of each label; regions of one label share it."""
        names = {0: BACKGROUND}
        for channel in self._sequence:
            value, name = self.values[channel], channel_names[channel]
            names[value] = f"{names[value]} / {name}" if value in names else name
        return dict(sorted(names.items()))

    def before_resampling(self, scores_XYZ: Scores) -> Scores:
        """Return what the cut is held against."""
        return self.cut.before_resampling(scores_XYZ)

    def decide(self, scores_of_channels: Iterable[Scores], label_type: npt.DTypeLike) -> Labels:
        """Return the label of the region that was painted last on each voxel; 0 of none."""
        rank_of = {channel: rank for rank, channel in enumerate(self._sequence, start=1)}
        rank_type = np.dtype(smallest_label_type(len(rank_of) + 1)).type
        last_XYZ: Any = rank_type(0)
        for channel, scores_XYZ in enumerate(scores_of_channels):
            rank = rank_type(rank_of.get(channel, 0))
            last_XYZ = np.maximum(last_XYZ, self.cut.passes(scores_XYZ) * rank)
        shown = [0, *(self.values[channel] for channel in self._sequence)]
        labels_XYZ: Labels = np.array(shown, label_type)[last_XYZ]
        return labels_XYZ

    def decide_with_lead(
        self, scores_of_channels: Iterable[Scores], label_type: npt.DTypeLike
    ) -> tuple[Labels, Leads]:
        """Return the labels, and the smallest lead over the regions that are painted."""
        return _decided_with_lead(
            lambda scores: self.decide(scores, label_type),
            self.cut,
            scores_of_channels,
            self._sequence,
        )


@dataclass(frozen=True)
class Combined:
    """Regions that may overlap, and none of which hides another: every combination has a label.

    Bit c of a label says if the voxel lies in the region of channel c, so nothing is lost.
    """

    cut: Cut = Cut()

    def __str__(self) -> str:
        return f"the sum of 2**channel over the regions where the {self.cut}"

    def label_names(self, channel_names: Sequence[str]) -> dict[int, str]:
        """Return the name of each combination, e.g. ``tumour core + whole tumour``."""
        return {
            label: " + ".join(n for c, n in enumerate(channel_names) if label >> c & 1)
            or BACKGROUND
            for label in range(2 ** len(channel_names))
        }

    def before_resampling(self, scores_XYZ: Scores) -> Scores:
        """Return what the cut is held against."""
        return self.cut.before_resampling(scores_XYZ)

    def decide(self, scores_of_channels: Iterable[Scores], label_type: npt.DTypeLike) -> Labels:
        """Return the sum of 2**channel over the regions that each voxel lies in."""
        labels_XYZ: Any = np.dtype(label_type).type(0)
        for channel, scores_XYZ in enumerate(scores_of_channels):
            labels_XYZ = labels_XYZ | self.cut.passes(scores_XYZ).astype(label_type) << channel
        found_XYZ: Labels = labels_XYZ
        return found_XYZ

    def decide_with_lead(
        self, scores_of_channels: Iterable[Scores], label_type: npt.DTypeLike
    ) -> tuple[Labels, Leads]:
        """Return the labels, and the smallest lead over all regions."""
        return _decided_with_lead(
            lambda scores: self.decide(scores, label_type), self.cut, scores_of_channels
        )
