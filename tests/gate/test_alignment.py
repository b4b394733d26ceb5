import numpy as np
import pytest

from unet_pipeline.gate.alignment import Roles, check_same_grid, residual_mm
from unet_pipeline.gate.findings import Tolerance
from unet_pipeline.volume.grid import Orientation, VoxelGrid

GRID = VoxelGrid.of((40, 50, 60), np.diag([1.0, 1.0, 2.0, 1.0]))


def findings(second: VoxelGrid, first: VoxelGrid = GRID):
    return check_same_grid(first, second, Tolerance(), Roles("image", "mask"))


def codes(second: VoxelGrid) -> list[str]:
    return [finding.code for finding in findings(second)]


def changed(*, shift=(0, 0, 0), columns=(1, 1, 1), turn=None) -> VoxelGrid:
    """GRID with its origin shifted, its columns scaled, its directions turned (about voxel 0)."""
    affine = GRID.affine.copy()
    affine[:3, 3] += shift
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ affine[:3, :3] @ np.diag(columns)
    return VoxelGrid.of(GRID.shape, affine)


def about_z(degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])


def test_the_residual_is_the_displacement_in_mm():
    assert residual_mm(GRID, changed(shift=(3, 0, 0))) == pytest.approx(3.0)
    # the corner (39, 49) goes to (-49, 39) when it is turned by 90 degrees about voxel 0
    assert residual_mm(GRID, changed(turn=about_z(90))) == pytest.approx(np.hypot(39 + 49, 49 - 39))


def test_rounding_of_headers_is_not_found():
    assert codes(VoxelGrid.of(GRID.shape, GRID.affine.astype(np.float32) + 1e-4)) == []


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (changed(shift=(0, 0.1, 0)), "origin_mismatch"),
        (changed(shift=(5, 0, -5)), "origin_mismatch"),
        (changed(columns=(1, 1, 1.01)), "spacing_mismatch"),
        (changed(columns=(1000, 1000, 1000)), "spacing_mismatch"),
        (changed(columns=(-1, 1, 1)), "handedness_mismatch"),
        (changed(columns=(-1, 1, -1)), "direction_mismatch"),
        (changed(turn=about_z(1)), "direction_mismatch"),
        (changed(turn=about_z(90)), "direction_mismatch"),
        (changed(turn=np.array([[1, 0.05, 0], [0, 1, 0], [0, 0, 1]])), "shear_mismatch"),
        (VoxelGrid.of((40, 50, 59), GRID.affine), "shape_mismatch"),
    ],
)
def test_each_difference_has_its_code(second, code):
    (finding,) = findings(second)
    assert (finding.code, finding.severity, finding.role) == (code, "fail", "mask")
    assert finding.fix == "resample-mask"


def test_differences_of_two_kinds_are_both_named():
    assert codes(changed(shift=(9, 0, 0), columns=(1, 2, 1))) == [
        "spacing_mismatch",
        "origin_mismatch",
    ]


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (Orientation((0, 1, 2), (False, True, False)), "axis 2 reversed"),
        (Orientation((2, 0, 1), (False, False, False)), "its axes in the order"),
        (Orientation((1, 0, 2), (True, False, True)), "reversed"),
    ],
)
def test_another_storage_order_is_no_other_place(order, words):
    (finding,) = findings(order.apply(GRID))
    assert (finding.code, finding.fix, finding.residual_mm) == ("axes_reordered", "reorient", 0.0)
    assert words in finding.found


def test_a_sentence_says_where_to_and_how_far():
    (finding,) = findings(changed(shift=(-3, 0, 1)))
    assert "3 mm to L, 1 mm to S" in finding.found
    assert finding.residual_mm == pytest.approx(np.hypot(3, 1))
    assert finding.tolerance_mm == pytest.approx(0.05)


def test_channels_are_resampled_by_their_own_fix():
    roles = Roles("channel 1", "channel 2")
    (finding,) = check_same_grid(GRID, changed(shift=(3, 0, 0)), Tolerance(), roles)
    assert (finding.role, finding.fix) == ("channel 2", "resample-channels")
