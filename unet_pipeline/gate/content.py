"""Whether a mask that lies on the right grid lies on the right anatomy, as far as voxels can tell.

The pair as it is competes with the same mask flipped, transposed and shifted. Two statistics say
how well a mask agrees with its image, and both are asked:

- *edges*: the mean rank of the image's gradient on the mask's boundary;
- *information*: the mean pointwise mutual information of label and intensity (mutual information
  as a measure of alignment: Wells et al. 1996, Maes et al. 1997).

Each is compared place by place: the differences between an alternative and the pair as it is are
averaged in blocks of ``BLOCK`` voxels, and the blocks' mean over its standard error is a z score.
The two z scores are joined as Stouffer's, (z1 + z2) / sqrt(2).

That an alternative wins is not enough. A mask whose border has no edge in its image (a lesion, a
zone, a margin) agrees better almost anywhere where there are edges, and the more voxels it has the
surer. But a mask that belongs where the alternative puts it agrees worse as soon as it is moved
away from there, in whatever direction. So the alternative must also win over itself moved by
``NEARBY`` voxels to each of six sides: the smallest of these z scores is its *hold*. A pair is
doubtful where both pass their thresholds.

Neither z score is a probability. How often masks that lie right, and moved ones, score so high was
measured, over kinds of structures and with each collection left out in turn: ``docs/check.md``,
``benchmarks/content_check.py``. Where anatomy is symmetric no statistic tells a flip, and where a
structure has no edge none tells a shift. So this flags a pair for a person and never fails it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special

from unet_pipeline.gate.alternatives import SHIFTS, Alternative, along, alternatives
from unet_pipeline.gate.findings import Finding
from unet_pipeline.volume.disk_arrays import each_slab, thinned

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
Move = Callable[[Array], Array]

MAX_VOXELS = 1_000_000  # looked at; larger volumes are thinned out
BLOCK = 8
DOUBTFUL_Z = 3.5
DOUBTFUL_HOLD = 1.0
NEARBY = 2  # voxels
_PROMISING_Z = 3.0  # of an alternative that is looked into
_BINS = 16
_MARGIN = max(SHIFTS)
_FEWEST_BLOCKS = 8
_EDGE_VOXELS = 40_000
_STEPS = 12  # of a voxel, in search of the best shift
_LOOKED_INTO = 3  # of the alternatives that win, by each of two measures


@dataclass(frozen=True)
class Likelihood:
    """How often masks are doubted: ``benchmarks/content_check.py``.

    Means over collections, each by a rule that was chosen on the others.

    Attributes
    ----------
    sound, moved
        Share of masks that lie right, and of those moved by 2 voxels or more, flipped or
        transposed, that are doubted.
    """

    sound: float
    moved: float

    def __str__(self) -> str:
        return f"{self.sound:.1%} of masks that lie right are doubted, {self.moved:.0%} of moved"


LEFT_OUT = Likelihood(0.024, 0.39)


@dataclass(frozen=True)
class ContentOpinion:
    """What the voxels say.

    Attributes
    ----------
    alternative
        The alternative that agrees best, in words.
    z
        By how many standard errors it agrees better than the pair as it is; negative if worse.
    hold
        By how many standard errors it agrees better than itself moved a little, at the least; None
        where no alternative wins clearly.
    shift_mm
        How far the alternative is away, in mm; None for flips and transpositions.
    """

    alternative: str
    z: float
    hold: float | None
    shift_mm: float | None

    @property
    def doubtful(self) -> bool:
        """Whether a person should look."""
        return self.z > DOUBTFUL_Z and (self.hold or 0.0) > DOUBTFUL_HOLD


def content_opinion(
    image_XYZ: Array,
    mask_XYZ: Array,
    spacing_mm: Sequence[float],
    *,
    axcodes: Sequence[str] = ("R", "A", "S"),
) -> ContentOpinion | None:
    """Compare a mask, as it lies on its image, with how else it might lie.

    Parameters
    ----------
    image_XYZ, mask_XYZ
        Values of one shape; labels are integers, 0 is background.
    spacing_mm
        Distance of voxels along each axis.

    Returns
    -------
    ContentOpinion or None
        None where there is nothing to compare: an empty or tiny mask, a constant image.
    """
    thin = _thinning(image_XYZ.shape)
    image = np.asarray(image_XYZ[thin], np.float32)
    labels = np.unique(thinned(mask_XYZ, thin), return_inverse=True)[1].reshape(image.shape)
    least = min(int(mask_XYZ[..., part].min()) for part in each_slab(mask_XYZ))
    background = 0 if least == 0 else -1
    steps = [part.step for part in thin]
    pair = _Pair.of(image, labels.astype(np.int32), background)
    if pair is None:
        return None
    scored = [
        (gain, alternative)
        for alternative in alternatives(image.shape)
        if (gain := pair.gain(alternative)) is not None
    ]
    if not scored:
        return None
    gain, alternative, hold = _best(pair, scored)
    words, mm = alternative.describe(steps, spacing_mm, axcodes)
    return ContentOpinion(words, gain.z, hold, mm)


def content_finding(opinion: ContentOpinion) -> Finding | None:
    """Return a doubt as a finding that warns; None if there is none."""
    if not opinion.doubtful:
        return None
    return Finding(
        "content_doubtful",
        "warn",
        f"a mask that would agree better with the image's edges and intensities if it were "
        f"{opinion.alternative} (z {opinion.z:.1f}; of collections that it was not made for, "
        f"{LEFT_OUT})",
        "a mask that agrees best as it lies",
        "Look at the pair: the mask may be flipped or shifted, or belong to another image. Do not "
        "believe it of structures without an edge of their own",
        "mask",
        opinion.shift_mm,
    )


@dataclass(frozen=True)
class _Gain:
    """How much better an alternative is: surely (z), and on its edges (ranks, 0 to 1)."""

    z: float
    edges: float


@dataclass(frozen=True)
class _Pair:
    """A thinned image and mask, and what is computed of them once."""

    image: Array
    labels: Array
    background: int
    edges: Array
    points: Array
    box: tuple[slice, ...]

    @classmethod
    def of(cls, image: Array, labels: Array, background: int) -> "_Pair | None":
        image = np.nan_to_num(image, posinf=0.0, neginf=0.0)
        points = _boundary(labels)
        if len(points) < _FEWEST_BLOCKS or min(image.shape) < 2 or image.min() == image.max():
            return None
        inside = np.nonzero(labels != max(background, 0)) if background >= 0 else points.T
        box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in inside)
        return cls(image, labels, background, _ranks(_gradient(image)), points, box)

    def gain(self, other: Alternative, than: Alternative | None = None) -> _Gain | None:
        """Hold an alternative against another, or the pair as it is; None for no opinion."""
        than = than or Alternative(self.image.shape)
        now, then = than.points(self.points), other.points(self.points)
        shape = self.image.shape
        inside = ((now >= 0) & (now < shape) & (then >= 0) & (then < shape)).all(axis=1)
        if inside.mean() < 0.5:
            return None
        now, then = now[inside], then[inside]
        edges = self.edges[tuple(then.T)] - self.edges[tuple(now.T)]
        by_edges = _z(edges, _blocks(now))
        if by_edges is None:
            return None
        z = (by_edges + self._by_information(other, than)) / math.sqrt(2)
        return _Gain(z, float(edges.mean()))

    def hold(self, place: Alternative) -> float:
        """Return by how much an alternative wins over itself moved a little, to the worst side."""
        near = (
            replace(place, shift=tuple(np.add(place.shift, along(axis, step))))
            for axis in range(3)
            for step in (NEARBY, -NEARBY)
            if self.image.shape[axis] / 2 > NEARBY
        )
        losses = [-gain.z for one in near if (gain := self.gain(one, place)) is not None]
        return min(losses, default=-math.inf)

    def _by_information(self, other: Alternative, than: Alternative) -> float:
        box = self._common_box(other, than)
        bins = np.minimum((_ranks(self.image[box]) * _BINS).astype(np.intp), _BINS - 1)
        then, now = (one.mask(self.labels, self.background)[box] for one in (other, than))
        gain = _pointwise(bins, then) - _pointwise(bins, now)
        places = np.indices(bins.shape, np.int32).reshape(3, -1).T
        return _z(gain.ravel(), _blocks(places)) or 0.0

    def _common_box(self, *places: Alternative) -> tuple[slice, ...]:
        """Return a box around the mask where it lies in either way, with a margin."""
        corners = np.array([[part.start, part.stop - 1] for part in self.box]).T
        both = np.clip(
            np.vstack([one.points(corners) for one in places]), 0, np.array(self.image.shape) - 1
        )
        low = np.maximum(both.min(axis=0) - _MARGIN, 0)
        high = np.minimum(both.max(axis=0) + _MARGIN + 1, self.image.shape)
        return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


_Scored = tuple[_Gain, Alternative]


def _best(pair: _Pair, scored: Sequence[_Scored]) -> tuple[_Gain, Alternative, float | None]:
    """Return the surest alternative; of several that are sure enough, the one with most hold."""
    sure = [one for one in scored if one[0].z > _PROMISING_Z]
    if not sure:
        return *max(scored, key=lambda one: one[0].z), None
    found: dict[Alternative, _Gain] = {}
    for measure in ("z", "edges"):
        top = sorted(sure, key=lambda one: -float(getattr(one[0], measure)))[:_LOOKED_INTO]
        refined = (_refined(pair, *one) for one in top)
        found |= {alternative: gain for gain, alternative in refined}
    held = [(pair.hold(alternative), alternative) for alternative in found]
    hold, best = max(held, key=lambda one: one[0])
    return found[best], best, hold


def _refined(pair: _Pair, gain: _Gain, best: Alternative) -> tuple[_Gain, Alternative]:
    """Follow a shift that wins to where the edges are, a voxel at a time along each axis."""
    if gain.z <= _PROMISING_Z or best.flips or best.axes != (0, 1, 2):
        return gain, best
    for _ in range(_STEPS):
        near = [
            Alternative(best.shape, shift=tuple(np.add(best.shift, along(axis, step))))
            for axis in range(3)
            for step in (1, -1)
        ]
        scored = [(g, one) for one in near if (g := pair.gain(one)) and g.z > _PROMISING_Z]
        top = max(scored, key=lambda one: one[0].edges, default=(gain, best))
        if top[0].edges <= gain.edges:
            break
        gain, best = top
    return gain, best


def _thinning(shape: Sequence[int]) -> tuple[slice, slice, slice]:
    """Return steps that leave at most ``MAX_VOXELS``, taken from the longest axis first."""
    steps = [1, 1, 1]
    while math.prod(-(-n // s) for n, s in zip(shape, steps, strict=True)) > MAX_VOXELS:
        lengths = [n / s for n, s in zip(shape, steps, strict=True)]
        steps[int(np.argmax(lengths))] += 1
    x, y, z = (slice(None, None, step) for step in steps)
    return x, y, z


def _gradient(image_XYZ: Array) -> Array:
    smooth = ndimage.gaussian_filter(image_XYZ, 0.5)
    return np.asarray(sum(d * d for d in np.gradient(smooth)))


def _ranks(values: Array) -> Array:
    """Return each value's rank, 0 to 1; equal values have one rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    ranks = (middle / max(values.size - 1, 1)).astype(np.float32)
    return np.asarray(ranks[inverse].reshape(values.shape))


def _boundary(labels_XYZ: Array) -> Array:
    """Return the voxels with a neighbour of another label, shape (N, 3), thinned out evenly."""
    edge = np.zeros(labels_XYZ.shape, bool)
    for axis in range(3):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        differs = labels_XYZ[tuple(low)] != labels_XYZ[tuple(high)]
        edge[tuple(low)] |= differs
        edge[tuple(high)] |= differs
    points = np.argwhere(edge)
    return points[:: max(1, -(-len(points) // _EDGE_VOXELS))]


def _pointwise(bins: Array, labels: Array) -> Float:
    """Return log p(bin, label) / p(bin) p(label) of each voxel."""
    classes = int(labels.max()) + 1
    joint = np.bincount((labels * _BINS + bins).ravel(), minlength=classes * _BINS) + 0.5
    share = joint.reshape(classes, _BINS) / joint.sum()
    table = np.log(share / (share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)))
    return np.asarray(table.ravel()[labels * _BINS + bins])


def _blocks(points: Array) -> Array:
    """Return the number of the block that each point of (N, 3) lies in."""
    x, y, z = (points // BLOCK).T
    blocks = (x * (int(y.max()) + 1) + y) * (int(z.max()) + 1) + z
    return np.asarray(np.unique(blocks, return_inverse=True)[1])


def _z(gain: Array, blocks: Array) -> float | None:
    """Return the mean gain over its standard error, from blocks weighted by their voxels.

    Few blocks make the error uncertain, so it is Student's t, brought to the same tail as a z.
    """
    weight = np.bincount(blocks).astype(np.float64)
    if len(weight) < _FEWEST_BLOCKS:
        return None
    means = np.bincount(blocks, gain) / weight
    mean = np.average(means, weights=weight)
    error = np.sqrt((weight**2 * (means - mean) ** 2).sum()) / weight.sum()
    if error == 0:
        return 0.0
    freedom = max(weight.sum() ** 2 / (weight**2).sum() - 1, 1.0)
    tail = float(special.stdtr(freedom, -abs(mean / error)))
    return float(np.copysign(-special.ndtri(max(tail, 1e-300)), mean))
