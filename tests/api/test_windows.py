"""Windows and merging alone, against MONAI's sliding window and our own line."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.inferers.utils import sliding_window_inference

from unet_pipeline.api.windows import Merge, Window, plan_windows
from unet_pipeline.errors import CaseError

RNG = np.random.default_rng(7)
VOLUME = RNG.normal(size=(1, 11, 9, 5)).astype(np.float32)


def network(values: np.ndarray) -> np.ndarray:
    """Return scores that depend on where in the window a voxel lies."""
    ramp = np.linspace(0.5, 1.5, values[0].size, dtype=np.float32).reshape(values[0].shape)
    return np.stack([values[0] * ramp, -values[0]])


def merged(order, blend="gaussian", overlap=0.5, roi=(6, 4, 8)):
    windows = plan_windows(VOLUME.shape[1:], roi, overlap)
    merge = Merge(windows, 2, blend)
    for index in order(range(len(windows))):
        merge.add(windows[index], network(windows[index].read(VOLUME)))
    return merge


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_scores_are_monais(blend):
    theirs = sliding_window_inference(
        torch.from_numpy(VOLUME[None]), (6, 4, 8), 1,
        lambda x: torch.from_numpy(network(x[0].numpy())[None]), overlap=0.5, mode=blend,
    )  # fmt: skip
    ours = merged(list, blend)
    np.testing.assert_allclose(ours.scores(), theirs[0].numpy(), atol=2e-6)
    np.testing.assert_array_equal(ours.labels(), theirs[0].argmax(0))


def test_the_order_of_windows_changes_no_bit():
    straight, shuffled = merged(list), merged(lambda n: RNG.permutation(len(n)))
    assert straight.scores().tobytes() == shuffled.scores().tobytes()


@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    roi=st.tuples(*[st.integers(1, 8)] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.9]),
)
def test_windows_cover_every_voxel(shape, roi, overlap):
    seen = np.zeros((1, *shape), dtype=bool)
    for window in plan_windows(shape, roi, overlap):
        lows = [max(a, 0) for a in window.start]
        highs = [a + n for a, n in zip(window.start, roi, strict=True)]
        seen[0, lows[0] : highs[0], lows[1] : highs[1], lows[2] : highs[2]] = True
    assert seen.all()


def test_a_window_larger_than_the_volume_is_padded_with_zeros():
    window = plan_windows((2, 2, 2), (4, 4, 4))[0]
    assert window == Window((-1, -1, -1), (4, 4, 4))
    values = window.read(np.ones((3, 2, 2, 2)))
    assert values.shape == (3, 4, 4, 4)
    assert values.sum() == 3 * 8
    assert values[:, 1:3, 1:3, 1:3].all()


def test_what_cannot_be_is_said():
    windows = plan_windows((4, 4, 4), (4, 4, 4))
    with pytest.raises(ValueError, match=r"\(2, 4, 4, 4\) are wanted, not \(3, 4, 4, 4\)"):
        Merge(windows, 2).add(windows[0], np.zeros((3, 4, 4, 4)))
    with pytest.raises(CaseError, match="NaN, infinite or out of range"):
        Merge(windows, 1).add(windows[0], np.full((1, 4, 4, 4), np.nan))
    for shape, roi, overlap in [
        ((4, 4), (2, 2), 0),
        ((4, 4, 0), (2, 2, 2), 0),
        ((4, 4, 4), (2, 2, 2), 1),
    ]:
        with pytest.raises(ValueError, match="wanted"):
            plan_windows(shape, roi, overlap)
    with pytest.raises(IndexError):
        windows[1]
