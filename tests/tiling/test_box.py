import pytest

from unet_pipeline.tiling.box import Box


def test_a_box_is_half_open():
    box = Box((1, 2, 3), (4, 4, 4))
    assert box.shape == (3, 2, 1)
    assert box.size == 6


def test_intersection_and_union_by_eye():
    a, b = Box((0, 0, 0), (4, 4, 4)), Box((2, 2, 2), (6, 6, 6))
    assert a.intersect(b) == Box((2, 2, 2), (4, 4, 4))
    assert a.union(b) == Box((0, 0, 0), (6, 6, 6))
    assert a.intersect(Box((4, 0, 0), (5, 1, 1))).size == 0


def test_slices_are_relative_to_the_frame():
    assert Box((3, 3, 3), (5, 5, 5)).within(Box((1, 2, 3), (9, 9, 9))) == (
        slice(2, 4),
        slice(1, 3),
        slice(0, 2),
    )


def test_a_box_that_ends_before_it_starts_is_refused():
    with pytest.raises(ValueError, match="must not be past its stop"):
        Box((2, 0, 0), (1, 1, 1))


def test_blocks_by_eye():
    assert list(Box((1, 0, 0), (6, 1, 2)).blocks((3, 4, 2))) == [
        Box((1, 0, 0), (4, 1, 2)),
        Box((4, 0, 0), (6, 1, 2)),
    ]
    assert len(list(Box.whole((5, 5, 5)).blocks((2, 2, 2)))) == 27
