"""What is summed and let go of as windows pass are the sums of all of them, to the bit."""

import tracemalloc
from threading import current_thread

import numpy as np
import pytest
import torch
from bundles import random_bundle

from unet_pipeline.errors import CaseError
from unet_pipeline.inference.accumulator import ScoreAccumulator
from unet_pipeline.inference.predictor import Predictor
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.inference.streaming import StreamingMerge
from unet_pipeline.inference.transfer import DeviceTransfer
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box, index3
from unet_pipeline.tiling.plan import TilePlan
from unet_pipeline.tiling.planning import make_plan
from unet_pipeline.volume.views import ArrayView, read_with_margin

ROI = (16, 16, 16)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory) -> Predictor:
    folder = random_bundle(tmp_path_factory.mktemp("bundle"), features=(4, 8), roi_size=ROI)
    return Predictor(ModelSpec(load_bundle(folder, Store()), Store(), ROI, batch=3, threads=2))


def plan_of(shape, classes: int) -> TilePlan:
    """Return a plan whose native voxels run backwards, three to a model voxel and a rest."""
    native = index3(3 * n - 2 for n in shape)

    def needs(box: Box) -> Box:
        if not box.size:
            return box
        ends = [(n - b, n - a) for n, a, b in zip(native, box.start, box.stop, strict=True)]
        return Box(index3(a // 3 for a, _ in ends), index3((b - 1) // 3 + 1 for _, b in ends))

    return make_plan(
        native_shape=native,
        model_shape=shape,
        needs=needs,
        roi_size=ROI,
        overlap=0.5,
        channels=1,
        classes=classes,
    )


@pytest.mark.parametrize("shape", [(50, 16, 16), (11, 60, 20), (20, 9, 41), (16, 16, 12)])
def test_each_slab_is_given_the_sums_of_its_box(predictor, shape):
    plan = plan_of(shape, predictor.classes)
    (tile,) = plan.tiles
    read_box, order = plan.cover_box(tile), tile.order
    image = np.random.default_rng(0).random((1, *shape), dtype=np.float32)
    image[:, : shape[0] // 2] = 0.5  # some windows have one value
    values = read_with_margin(ArrayView(image), read_box)
    every = Predictor(predictor.spec, reuse_bytes=0).score(values, read_box, tile.windows)
    decided = np.zeros(plan.native_shape, int)

    def decide(slab, partials) -> None:
        decided[slab.write_box.within(tile.write_box)] += 1
        assert sum(partial.box.size for partial in partials) == slab.score_box.size
        for partial in partials:
            expected = every.sums_CXYZ[(slice(None), *partial.box.within(read_box))]
            assert (partial.sums_CXYZ == expected).all()

    first, again = (predictor.stream(values, read_box, order, decide) for _ in range(2))
    assert (decided == 2).all()
    assert again.reused >= first.reused
    assert (order.length < max(shape)) == (max(shape) > max(ROI))
    assert first.seconds["infer"] >= first.seconds["forward"] > 0


def test_a_fault_of_a_decision_ends_the_call_and_no_other(predictor):
    plan = plan_of((50, 16, 16), predictor.classes)
    (tile,) = plan.tiles
    read_box = plan.cover_box(tile)
    values = np.random.default_rng(0).random((1, *read_box.shape), dtype=np.float32)

    def refuse(slab, partials) -> None:
        raise CaseError("test", found="a", wanted="b", remedy="c")

    with pytest.raises(CaseError, match="a"):
        predictor.stream(values, read_box, tile.order, refuse)
    seen = []
    predictor.stream(values, read_box, tile.order, lambda slab, _: seen.append(slab))
    assert seen == list(tile.order.slabs)


def test_scores_that_are_no_numbers_end_the_call(predictor):
    plan = plan_of((50, 16, 16), predictor.classes)
    (tile,) = plan.tiles
    read_box = plan.cover_box(tile)
    values = np.full((1, *read_box.shape), np.nan, np.float32)
    with pytest.raises(CaseError) as caught:
        predictor.stream(values, read_box, tile.order, lambda *_: None)
    assert caught.value.code == "scores_not_finite"


class Copies(DeviceTransfer):
    """A transfer whose sums are copies, as those of a device are."""

    def unload(self, sums_CXYZ):
        return sums_CXYZ.numpy().copy()


TRANSFER = Copies((1, 1, *ROI), torch.contiguous_format)


@pytest.mark.parametrize("aside", [False, True])
def test_labels_may_be_decided_aside_while_windows_go_on(predictor, aside):
    (tile,) = plan_of((50, 16, 16), 2).tiles
    order, weights = tile.order, predictor.importance
    kept = ScoreAccumulator(2, order.box, weights, 1, axis=order.axis, length=order.length)
    every = ScoreAccumulator(2, order.box, weights, 1)
    scores = torch.rand(2, *ROI)
    threads, differences = set(), []

    def decide(slab, partials) -> None:
        threads.add(current_thread())
        for partial in partials:
            cut = (slice(None), *partial.box.within(order.box))
            differences.append(np.abs(partial.sums_CXYZ - expected[cut]).max())

    for window in order.windows:
        every.add(scores, Box.at(window, ROI))
    expected = every.sums().numpy()
    merge = StreamingMerge(kept, order, TRANSFER, decide, aside=aside)
    for window in order.windows:
        merge.add(scores, Box.at(window, ROI))
    merge.close()
    merge.check()
    assert len(differences) >= len(order.slabs)
    assert not any(differences)
    assert (current_thread() in threads) == (not aside)
    assert (merge.seconds == 0) == aside


def test_a_fault_of_a_decision_aside_is_raised_at_the_end(predictor):
    (tile,) = plan_of((50, 16, 16), 2).tiles
    order = tile.order
    total = ScoreAccumulator(
        2, order.box, predictor.importance, 1, axis=order.axis, length=order.length
    )

    def refuse(slab, partials) -> None:
        raise CaseError("test", found="a", wanted="b", remedy="c")

    merge = StreamingMerge(total, order, TRANSFER, refuse, aside=True)
    for window in order.windows:
        merge.add(torch.zeros(2, *ROI), Box.at(window, ROI))
    merge.close()
    with pytest.raises(CaseError, match="a"):
        merge.check()


def test_memory_does_not_grow_with_the_length_of_a_volume(predictor):
    def peak_bytes(length: int) -> int:
        plan = plan_of((length, 16, 16), predictor.classes)
        (tile,) = plan.tiles
        read_box = plan.cover_box(tile)
        values = np.random.default_rng(0).random((1, *read_box.shape), dtype=np.float32)
        tracemalloc.start()
        predictor.stream(values, read_box, tile.order, lambda *_: None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(32)  # what is made once
    sums_bytes = predictor.classes * 16**3 * 8
    short, long = peak_bytes(64), peak_bytes(512)
    assert sums_bytes < short < 2 * sums_bytes
    assert long < 2 * sums_bytes
