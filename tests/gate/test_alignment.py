import numpy as np
import pytest

from unet_pipeline.gate.alignment import check_grid, check_same_grid, residual_mm
from unet_pipeline.gate.findings import Tolerance, verdict_of
from unet_pipeline.volume.grid import VoxelGrid

GRID = VoxelGrid.of((40, 50, 60), np.diag([1.0, 1.0, 2.0, 1.0]))


def codes(first: VoxelGrid, second: VoxelGrid) -> list[str]:
    found = check_same_grid(first, second, Tolerance(), first_role="image", second_role="mask")
    return [finding.code for finding in found]


def shifted(mm: float) -> VoxelGrid:
    affine = GRID.affine.copy()
    affine[0, 3] += mm
    return VoxelGrid.of(GRID.shape, affine)


def test_the_residual_is_the_displacement_in_mm():
    assert residual_mm(GRID, shifted(3.0)) == pytest.approx(3.0)
    rotated = GRID.affine.copy()
    rotated[:3, :3] = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ rotated[:3, :3]
    assert residual_mm(GRID, VoxelGrid.of(GRID.shape, rotated)) == pytest.approx(
        np.hypot(39 + 49, 49 - 39)
    )


def test_a_shift_is_found_and_rounding_of_headers_is_not():
    assert codes(GRID, shifted(0.1)) == ["affine_mismatch"]
    assert codes(GRID, VoxelGrid.of(GRID.shape, GRID.affine.astype(np.float32) + 1e-4)) == []


def test_shapes_must_agree():
    assert codes(GRID, VoxelGrid.of((40, 50, 61), GRID.affine)) == ["shape_mismatch"]


@pytest.mark.parametrize(
    ("affine", "code"),
    [
        (np.full((4, 4), np.nan), "affine_not_finite"),
        (np.diag([1.0, 1.0, 0.0, 1.0]), "affine_singular"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "affine_singular"),
    ],
)
def test_an_affine_that_cannot_be_used_fails(affine, code):
    found = check_grid(VoxelGrid.of((4, 4, 4), affine), "image")
    assert [finding.code for finding in found] == [code]
    assert verdict_of(found) == "fail"


def test_a_sound_grid_passes():
    assert verdict_of(check_grid(GRID, "image")) == "pass"
