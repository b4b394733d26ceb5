"""Where a resampled grid lies is what MONAI says, to the bit, on grids of all kinds."""

import numpy as np
import pytest
from monai.data.utils import compute_shape_offset, zoom_affine

from unet_pipeline.volume.spacing_grid import shape_and_origin, with_spacing


def affine_of(random: np.random.Generator, kind: str) -> np.ndarray:
    """Return an affine: axes swapped and flipped, turned (also through float32), or sheared."""
    spacing = np.round(random.uniform(0.3, 6, 3), int(random.integers(1, 9)))
    axes = np.eye(3)[random.permutation(3)] * random.choice([-1.0, 1.0], 3)
    if kind != "straight":
        angle = random.choice([1e-9, 1e-7, 1e-3, 0.4, 2.0])
        turned, _ = np.linalg.qr(np.eye(3) + angle * random.standard_normal((3, 3)))
        axes = axes @ turned
    if kind == "sheared":
        axes = axes @ (np.eye(3) + np.triu(random.uniform(-0.4, 0.4, (3, 3)), 1))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * spacing, random.uniform(-200, 200, 3)
    return affine.astype(np.float32).astype(float) if random.integers(2) else affine


@pytest.mark.parametrize("kind", ["straight", "turned", "sheared"])
def test_shape_and_origin_are_monais_to_the_bit(kind):
    random, centred = np.random.default_rng(sum(map(ord, kind))), 0
    for _ in range(400):
        affine, shape = affine_of(random, kind), tuple(map(int, random.integers(1, 300, 3)))
        spacing = np.round(random.uniform(0.3, 6, 3), 2)
        wanted = zoom_affine(affine.copy(), spacing, diagonal=False)
        found = with_spacing(affine, spacing.tolist())
        np.testing.assert_array_equal(found, wanted)
        counts, origin = compute_shape_offset(shape, affine, wanted)
        here = shape_and_origin(shape, affine, found)
        assert here[0] == tuple(counts)
        np.testing.assert_array_equal(here[1], origin)
        corners = affine[:3, :3] @ np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, 8)
        centred += not np.isclose(corners + affine[:3, 3:], origin[:, None]).all(axis=0).any()
    assert kind == "straight" or centred > 0  # the other case was met, too
