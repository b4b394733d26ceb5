"""Labels decided block by block equal those of the views read whole, to the bit."""

from itertools import permutations, product

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit, softmax

from unet_pipeline.tiling.box import Box
from unet_pipeline.tiling.decision import Combined, Cut, Highest, Painted
from unet_pipeline.tiling.margins import margins_of
from unet_pipeline.tiling.merge import Merged, Partial, to_fixed_point
from unet_pipeline.volume import native
from unet_pipeline.volume.grid import Orientation, VoxelGrid
from unet_pipeline.volume.interpolation import interpolation_of
from unet_pipeline.volume.native import native_labels
from unet_pipeline.volume.nnunet_steps import Respace
from unet_pipeline.volume.steps import CropPad, Prepared, Reorder, Resample, covered_box
from unet_pipeline.volume.views import ArrayView, ShapeOnly

ORIENTATIONS = [
    Orientation(axes, flips)
    for axes, flips in product(permutations(range(3)), product([False, True], repeat=3))
]
sizes = st.tuples(*[st.integers(1, 12)] * 3)


def whole(merged, prepared, write_box, decision):
    """Decide from each class's scores on the whole write box: the definition."""

    def scores(index):
        model = decision.before_resampling(merged.scores(merged.box, index))
        view = ArrayView(model[None], merged.box, prepared.model.shape)
        return prepared.backward(view).read(write_box)[0]

    return decision.decide(map(scores, range(merged.classes)), np.uint8)


def prepared_with(steps, shape):
    start = grid = VoxelGrid.of(shape, np.diag([1.0, 1.5, 4.0, 1.0]))
    for step in steps:
        grid = step.grid(grid)
    return Prepared(start, grid, tuple(steps))


@st.composite
def frames(draw, shape):
    start = [draw(st.integers(-3, n - 1)) for n in shape]
    stop = [draw(st.integers(max(a, 0) + 1, n + 3)) for a, n in zip(start, shape, strict=True)]
    return CropPad(tuple(start), tuple(b - a for a, b in zip(start, stop, strict=True)))


@st.composite
def chains(draw):
    """A crop or margin, axes in any order, another spacing, and again a crop or margin."""
    shape = draw(sizes)
    grid = VoxelGrid.of(shape, np.diag([1.0, 1.5, 4.0, 1.0]))
    steps = []
    for kind in draw(st.permutations(["frame", "reorder", "space", "frame"])):
        if kind == "frame":
            step = draw(frames(grid.shape))
        elif kind == "reorder":
            step = Reorder(draw(st.sampled_from(ORIENTATIONS)))
        elif draw(st.booleans()):
            mm = draw(st.tuples(*[st.sampled_from([None, 0.4, 0.7, 0.9])] * 3))
            separate = draw(st.sampled_from([None, True, False]))
            respace = Respace(mm, cubic=False, separate_scores=separate)
            step = respace.resolve(ShapeOnly(grid.shape), grid)
        else:
            ratios = draw(st.tuples(*[st.floats(0.4, 2.5)] * 3))
            start = draw(st.tuples(*[st.sampled_from([0.0, -0.3, 0.4])] * 3))
            step = Resample(ratios, start, draw(sizes))
        steps.append(step)
        grid = step.grid(grid)
    return prepared_with(steps, shape)


@st.composite
def merges(draw, prepared):
    """Scores that are hard to tell apart, or far from each other, in partials that overlap."""
    shape = prepared.native.shape
    start = [draw(st.integers(0, n - 1)) for n in shape]
    stop = [draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)]
    write_box = Box(tuple(start), tuple(stop))
    box = covered_box(prepared, write_box)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scores = draw(st.sampled_from([equal, close, apart]))(rng, draw(st.integers(1, 6)), box.shape)
    first = Partial(box, to_fixed_point(scores))
    others = draw(st.lists(st.builds(Box.at, st.just(box.start), sizes), max_size=2))
    zeros = [Partial(part, np.zeros((len(scores), *part.shape), np.int64)) for part in others]
    weights = rng.choice([2**36, 3 * 2**36], box.shape)
    return Merged(box, [*zeros, first], weights), write_box


def equal(rng, classes, shape):
    """Few values, so that many voxels have equal scores."""
    return rng.integers(-1, 2, (classes, *shape)).astype(np.float32)


def close(rng, classes, shape):
    """Classes that differ in the last bit: one other rounding gives another label."""
    last_bits = rng.integers(-1, 2, (classes, *shape)).astype(np.float32) * np.float32(2**-23)
    return rng.normal(0, 3, shape).astype(np.float32) * (1 + last_bits)


def apart(rng, classes, shape):
    """Classes that win everywhere, or only here and there, or nowhere."""
    levels = rng.normal(0, 3, (classes, 1, 1, 1))
    return (levels + rng.normal(0, 1, (classes, *shape))).astype(np.float32)


@settings(max_examples=examples(200), deadline=None)
@given(st.data(), st.sampled_from([(64, 64, 32), (3, 2, 4)]), st.integers(1, 2))
def test_any_chain_gives_the_labels_of_the_whole_views(data, block, threads):
    prepared = data.draw(chains())
    merged, write_box = data.draw(merges(prepared))
    chain = prepared.backward(ShapeOnly(prepared.model.shape))
    assert interpolation_of(chain, write_box) is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "BLOCK", block)
        labels = native_labels(merged, prepared, write_box, Highest(), np.uint8, threads=threads)
    np.testing.assert_array_equal(labels, whole(merged, prepared, write_box, Highest()))


@settings(max_examples=examples(50), deadline=None)
@given(
    st.data(),
    st.sampled_from([Painted((3, 1, 2)), Combined(), Combined(Cut(0.5, probabilities=True))]),
)
def test_other_decisions_are_taken_block_by_block_too(data, decision):
    prepared = data.draw(chains())
    merged, write_box = data.draw(merges(prepared))
    if isinstance(decision, Painted):
        decision = Painted(tuple(range(1, merged.classes + 1)), decision.order, decision.cut)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "VIEWED_BLOCK", (3, 2, 4))
        labels = native_labels(merged, prepared, write_box, decision, np.uint8, threads=2)
    np.testing.assert_array_equal(labels, whole(merged, prepared, write_box, decision))


def test_a_chain_that_interpolates_twice_is_read():
    twice = (Resample((1.5, 1.0, 1.0), (0, 0, 0), (6, 8, 8)),) * 2
    prepared = prepared_with(twice, (8, 8, 8))
    box, values = Box.whole(prepared.model.shape), np.random.default_rng(0)
    scores = close(values, 3, prepared.model.shape)
    merged = Merged(box, [Partial(box, to_fixed_point(scores))], np.full(box.shape, 2**36))
    write_box = Box.whole((8, 8, 8))
    assert interpolation_of(prepared.backward(ShapeOnly(box.shape)), write_box) is None
    labels = native_labels(merged, prepared, write_box, Highest(), np.uint8)
    np.testing.assert_array_equal(labels, whole(merged, prepared, write_box, Highest()))


def test_interpolation_by_eye():
    """Five voxels: a margin of one, then three of the other grid at half its spacing, reversed."""
    steps = (
        CropPad((1, 0, 0), (4, 1, 1)),
        Reorder(Orientation((0, 1, 2), (True, False, False))),
        Resample((2.0, 1.0, 1.0), (0.0, 0.0, 0.0), (2, 1, 1)),
    )
    chain = prepared_with(steps, (5, 1, 1)).backward(ShapeOnly((2, 1, 1)))
    along, _, _ = interpolation_of(chain, Box.whole((5, 1, 1)))
    assert along.below.tolist() == [-1, 1, 1, 0, 0]
    assert along.above.tolist() == [-1, 1, 1, 1, 1]
    assert along.share.tolist() == [0, 0, 0, 0.5, 0]
    assert (along.start, along.stop, along.length) == (0, 2, 3)
    assert along[3:].length == 2
    assert along[:1].length == 1


def test_many_model_voxels_make_a_block_small():
    fine = prepared_with((Resample((0.05,) * 3, (0, 0, 0), (2000, 2000, 2000)),), (100, 100, 100))
    chain = fine.backward(ShapeOnly((2000, 2000, 2000)))
    interps = interpolation_of(chain, Box.whole((100, 100, 100)))
    assert sorted(native._block_shape(interps)) == [1, 1, 2]


def test_a_class_that_wins_one_voxel_by_a_hair_is_not_left_out():
    scores = np.zeros((3, 20, 10, 10), np.float32)
    scores[0, 7, 3, 5] = -1
    scores[1], scores[2] = -1 + 2**-20, -1 - 2**-20
    box = Box.whole((20, 10, 10))
    merged = Merged(box, [Partial(box, to_fixed_point(scores))], np.full(box.shape, 2**36))
    labels = native_labels(merged, prepared_with((), box.shape), box, Highest(), np.uint8)
    assert np.argwhere(labels).tolist() == [[7, 3, 5]]
    assert labels[7, 3, 5] == 1


@pytest.mark.parametrize("orientation", ORIENTATIONS[::7])
@pytest.mark.parametrize("reorder_first", [True, False])
def test_not_one_rounding_differs(orientation, reorder_first):
    """Thousands of voxels whose classes differ in the last bit, interpolated along every axis."""
    reorder = Reorder(orientation)
    resample = Resample((1.3, 0.7, 2.1), (0.2, 0.0, -0.4), (11, 29, 10))
    crop = CropPad((2, -1, 0), (9, 27, 11))
    steps = (reorder, resample, crop) if reorder_first else (crop, resample, reorder)
    prepared = prepared_with(steps, (19, 21, 20))
    box, write_box = Box.whole(prepared.model.shape), Box.whole((19, 21, 20))
    scores = close(np.random.default_rng(0), 4, box.shape)
    merged = Merged(box, [Partial(box, to_fixed_point(scores))], np.full(box.shape, 2**36))
    labels = native_labels(merged, prepared, write_box, Highest(), np.uint8, threads=2)
    np.testing.assert_array_equal(labels, whole(merged, prepared, write_box, Highest()))
    assert len(np.unique(labels)) == 4


@settings(max_examples=examples(100), deadline=None)
@given(
    st.data(),
    st.sampled_from([Highest(), Painted((3, 1, 2)), Combined(), Combined(Cut(0.3, True))]),
    st.sampled_from([(64, 64, 64), (3, 2, 4)]),
)
def test_margins_are_those_of_the_whole_scores(data, decision, block):
    """In whatever blocks: as NumPy finds them from the scores of all voxels; so are the labels."""
    prepared = data.draw(chains())
    merged, write_box = data.draw(merges(prepared))
    if isinstance(decision, Painted):
        decision = Painted(tuple(range(1, merged.classes + 1)), decision.order, decision.cut)
    found_XYZ, some_XYZ = np.full((2, *write_box.shape), 77, np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "BLOCK", block)
        patch.setattr(native, "VIEWED_BLOCK", block)
        for background, margins_XYZ in ((True, found_XYZ), (False, some_XYZ)):
            labels = native_labels(merged, prepared, write_box, decision, np.uint8, threads=2,
                                   margins_XYZ=margins_XYZ, background=background)  # fmt: skip
            np.testing.assert_array_equal(labels, whole(merged, prepared, write_box, decision))
    np.testing.assert_array_equal(found_XYZ[labels > 0], some_XYZ[labels > 0])
    scores_CXYZ = np.array(
        [
            prepared.backward(ArrayView(
                decision.before_resampling(merged.scores(merged.box, index))[None], merged.box,
                prepared.model.shape)).read(write_box)[0]
            for index in range(merged.classes)
        ]
    )  # fmt: skip
    np.testing.assert_array_equal(found_XYZ, margins_of(leads_of(decision, scores_CXYZ)))


def leads_of(decision, scores_CXYZ):
    if isinstance(decision, Highest):
        last = np.float32(-np.inf)
        *_, second_XYZ, first_XYZ = np.sort(
            np.concatenate([np.full((1, *scores_CXYZ.shape[1:]), last), scores_CXYZ]), axis=0
        )
        return first_XYZ - second_XYZ
    if decision.cut.probabilities:
        p = np.clip(scores_CXYZ, 0, 1)
        return np.abs(logit(p) - logit(np.float32(0.3))).min(axis=0)
    return np.abs(scores_CXYZ).min(axis=0)


def test_the_margin_is_the_share_of_the_first_less_that_of_the_second():
    """Of the softmax of the scores of a voxel: (p1 - p2) / (p1 + p2)."""
    scores = np.random.default_rng(0).normal(0, 3, (5, 20, 10, 10)).astype(np.float32)
    box = Box.whole(scores.shape[1:])
    merged = Merged(box, [Partial(box, to_fixed_point(scores))], np.full(box.shape, 2**36))
    margins_XYZ = np.empty(box.shape, np.uint8)
    native_labels(merged, prepared_with((), box.shape), box, Highest(), np.uint8,
                  margins_XYZ=margins_XYZ)  # fmt: skip
    *_, second, first = np.sort(softmax(scores.astype(np.float64), axis=0), axis=0)
    np.testing.assert_allclose(margins_XYZ / 255, (first - second) / (first + second), atol=0.005)
