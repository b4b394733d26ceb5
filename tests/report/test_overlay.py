import io
import itertools
import tracemalloc

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from unet_pipeline.errors import CaseError
from unet_pipeline.report.overlay import HEIGHT, WIDTH, overlay_png
from unet_pipeline.report.palette import PALETTE, label_colour, label_colours

CELL = WIDTH // 3
ORANGE, BLUE, WHITE = PALETTE[0], PALETTE[1], (255, 255, 255)


def pixels(png):
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.size, image.mode) == ("PNG", (WIDTH, HEIGHT), "RGB")
    return np.asarray(image).astype(int)


def panels(png):
    """The axial, coronal and sagittal picture, without letters, scale bar and legend."""
    rows = pixels(png)[22:284]
    return [rows[:, index * CELL + 22 : (index + 1) * CELL - 22] for index in range(3)]


def of_colour(panel, colour):
    return (panel == colour).all(axis=2)


def place(mask_HW):
    """Where the centre of a mask lies in its panel, in words."""
    rows, columns = np.nonzero(mask_HW)
    height, width = mask_HW.shape
    return (
        "top" if rows.mean() < 0.45 * height else "bottom",
        "left" if columns.mean() < 0.45 * width else "right",
    )


def phantom():
    """A dim cuboid with one bright ball at the patient's right, front and top, and its mask."""
    x, y, z = np.indices((32, 40, 36))
    ball = (x - 25) ** 2 + (y - 32) ** 2 + (z - 28) ** 2 <= 25
    return np.where(ball, 100.0, 20.0).astype(np.float32), ball.astype(np.uint8)


def box(shape, low, high, value=1):
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = value
    return labels


def test_right_front_and_top_are_where_a_radiologist_expects_them():
    image_XYZ, ball_XYZ = phantom()
    axial, coronal, sagittal = panels(overlay_png(image_XYZ, ball_XYZ, (1.0, 1.0, 1.0)))
    for panel in (axial, coronal, sagittal):
        assert place(panel.max(axis=2) > 200) == ("top", "left")  # the bright spot of the image
        assert place(of_colour(panel, ORANGE)) == ("top", "left")  # the outline of the label


def test_each_direction_on_its_own():
    image_XYZ = np.zeros((30, 30, 30))
    left = box((30, 30, 30), (2, 12, 12), (8, 18, 18))
    back = box((30, 30, 30), (12, 2, 12), (18, 8, 18))
    down = box((30, 30, 30), (12, 12, 2), (18, 18, 8))

    def columns(labels_XYZ):
        parts = panels(overlay_png(image_XYZ, labels_XYZ, (1.0, 1.0, 1.0)))
        return [place(of_colour(panel, ORANGE))[1] for panel in parts]

    def rows(labels_XYZ):
        parts = panels(overlay_png(image_XYZ, labels_XYZ, (1.0, 1.0, 1.0)))
        return [place(of_colour(panel, ORANGE))[0] for panel in parts]

    assert columns(left)[:2] == ["right", "right"]
    assert columns(back)[2] == "right"
    assert rows(back)[0] == "bottom"
    assert rows(down)[1:] == ["bottom", "bottom"]


def ink(patch):
    """The shape of what is drawn in a patch, cut to its borders."""
    drawn = patch.min(axis=2) > 110
    rows, columns = np.nonzero(drawn)
    return drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].tolist()


def letter(text):
    canvas = Image.new("RGB", (40, 40))
    draw = ImageDraw.Draw(canvas)
    draw.text((20, 20), text, fill=(235, 235, 235), font=ImageFont.load_default(18), anchor="mm")
    return ink(np.asarray(canvas))


def test_the_letters_at_the_edges_are_the_directions_of_the_patient():
    black = np.zeros((20, 20, 20))
    black[0, 0, 0] = 1  # one voxel that is in none of the central slices
    picture = pixels(overlay_png(black, np.zeros((20, 20, 20), np.uint8), (1.0, 1.0, 1.0)))
    for index, (left, right, top, bottom) in enumerate(("RLAP", "RLSI", "APSI")):
        cell = picture[:, index * CELL : (index + 1) * CELL]
        middle = CELL // 2
        assert ink(cell[130:165, :22]) == letter(left)
        assert ink(cell[130:165, -22:]) == letter(right)
        assert ink(cell[:19, middle - 15 : middle + 15]) == letter(top)
        assert ink(cell[276:294, middle - 15 : middle + 15]) == letter(bottom)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_picture_does_not_depend_on_how_the_volume_is_stored(order):
    image_XYZ, ball_XYZ = phantom()
    spacing_mm = (1.0, 0.8, 1.5)
    wanted = overlay_png(image_XYZ, ball_XYZ, spacing_mm)
    for flips in itertools.product((False, True), repeat=3):
        axcodes = [("RL", "AP", "SI")[axis][flips[axis]] for axis in order]
        turn = tuple(slice(None, None, -1 if flips[axis] else 1) for axis in order)
        stored = [np.transpose(array, order)[turn].copy() for array in (image_XYZ, ball_XYZ)]
        found = overlay_png(*stored, [spacing_mm[axis] for axis in order], axcodes=axcodes)
        assert found == wanted, axcodes


def test_aspect_is_that_of_the_patient():
    labels_XYZ = box((40, 40, 10), (5, 10, 2), (35, 30, 8))  # 30 x 40 x 24 mm
    outline = panels(overlay_png(np.zeros((40, 40, 10)), labels_XYZ, (1.0, 2.0, 4.0)))
    sizes = []
    for panel in outline:
        rows, columns = np.nonzero(of_colour(panel, ORANGE))
        sizes.append((np.ptp(columns) + 1, np.ptp(rows) + 1))
    scale = sizes[0][0] / 30
    wanted = [(30, 40), (30, 24), (40, 24)]
    for found, (width_mm, height_mm) in zip(sizes, wanted, strict=True):
        assert found == pytest.approx((width_mm * scale, height_mm * scale), abs=2)


@pytest.mark.parametrize(("voxel_mm", "bar_mm"), [(1.0, 5), (0.02, 0.1), (3.3, 20), (40.0, 200)])
def test_the_scale_bar_is_true(voxel_mm, bar_mm):
    labels_XYZ = box((20, 20, 20), (5, 5, 5), (15, 15, 15))
    picture = pixels(overlay_png(np.zeros((20, 20, 20)), labels_XYZ, (voxel_mm,) * 3))
    pixels_per_mm = np.ptp(np.nonzero(of_colour(picture[:290, :CELL], ORANGE))[1]) / 10 / voxel_mm
    bar = (picture[306, 100:CELL] == 235).all(axis=1)
    longest = max(len(run) for run in "".join("x" if pixel else " " for pixel in bar).split())
    assert longest == pytest.approx(bar_mm * pixels_per_mm, abs=2)


def test_labels_are_filled_and_outlined_in_their_own_colour():
    labels_XYZ = box((20, 20, 20), (4, 4, 4), (16, 16, 16))
    labels_XYZ[4:16, 10:16, 4:16] = 2
    axial = panels(overlay_png(np.full((20, 20, 20), 7), labels_XYZ, (1.0, 1.0, 1.0)))[0]
    assert place(of_colour(axial, BLUE))[0] == "top"
    assert place(of_colour(axial, ORANGE))[0] == "bottom"
    filled = np.rint(128 + 0.3 * (np.array(BLUE) - 128)).astype(int)
    assert np.count_nonzero((axial == filled).all(axis=2)) > 5000


def test_the_reference_is_dashed_white_over_the_outline():
    labels_XYZ = box((20, 20, 20), (4, 4, 4), (16, 16, 16))
    image_XYZ = np.zeros((20, 20, 20))
    without = panels(overlay_png(image_XYZ, labels_XYZ, (1.0, 1.0, 1.0)))[0]
    agreeing = panels(overlay_png(image_XYZ, labels_XYZ, (1.0, 1.0, 1.0), labels_XYZ))[0]
    outline = of_colour(without, ORANGE)
    assert not of_colour(without, WHITE).any()
    assert set(map(tuple, agreeing[outline])) == {ORANGE, WHITE}
    assert 0.3 < of_colour(agreeing, WHITE)[outline].mean() < 0.7
    assert np.array_equal(agreeing[~outline], without[~outline])


def test_an_empty_label_map_shows_where_the_reference_is():
    reference_XYZ = box((30, 30, 30), (22, 22, 22), (28, 28, 28))
    empty = np.zeros_like(reference_XYZ)
    image_XYZ = np.zeros((30, 30, 30))
    for panel in panels(overlay_png(image_XYZ, empty, (1.0, 1.0, 1.0), reference_XYZ)):
        assert place(of_colour(panel, WHITE)) == ("top", "left")


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    spacing_mm=st.tuples(*[st.floats(0.05, 20)] * 3),
    dtype=st.sampled_from([np.uint8, np.int16, np.int64, np.float16, np.float64, np.bool_]),
    kind=st.sampled_from(["noise", "constant", "holes", "all NaN"]),
    n_labels=st.integers(0, 300),
    with_reference=st.booleans(),
)
def test_any_volume_gives_a_picture(shape, spacing_mm, dtype, kind, n_labels, with_reference):
    rng = np.random.default_rng(0)
    image_XYZ = rng.normal(0, 0 if kind == "constant" else 1, shape)
    if kind in ("holes", "all NaN") and np.issubdtype(dtype, np.floating):
        image_XYZ[rng.random(shape) < (0.3 if kind == "holes" else 2)] = np.nan
    elif not np.issubdtype(dtype, np.floating):
        image_XYZ = np.abs(image_XYZ * 40)
    labels_XYZ = rng.integers(0, n_labels, shape, np.uint16, endpoint=True)
    reference_XYZ = labels_XYZ[::-1] if with_reference else None
    png = overlay_png(image_XYZ.astype(dtype), labels_XYZ, spacing_mm, reference_XYZ)
    assert pixels(png).any()


@pytest.mark.parametrize("shape", [(5, 4, 4), (1, 1, 1), (1, 1, 3000), (3000, 2, 2), (2, 2500, 1)])
def test_small_and_thin_volumes_are_seen_in_every_panel(shape):
    labels_XYZ = np.ones(shape, np.uint8)
    for panel in panels(overlay_png(np.zeros(shape), labels_XYZ, (1.0, 1.0, 1.0))):
        assert of_colour(panel, ORANGE).any()


def test_only_slices_are_converted():
    labels_XYZ = box((400, 400, 400), (100, 100, 100), (140, 140, 140))
    image_XYZ = np.broadcast_to(np.arange(400, dtype=np.float32), labels_XYZ.shape)
    overlay_png(image_XYZ[:8, :8, :8], labels_XYZ[:8, :8, :8], (1.0, 1.0, 1.0))
    tracemalloc.start()
    try:
        overlay_png(image_XYZ, labels_XYZ, (1.0, 1.0, 1.0), labels_XYZ)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < labels_XYZ.nbytes / 2


def test_the_same_input_gives_the_same_bytes():
    image_XYZ, ball_XYZ = phantom()
    first, second = (overlay_png(image_XYZ, ball_XYZ, (1.0, 1.0, 1.0)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("shapes", "spacing_mm", "code"),
    [
        (((4, 4, 4), (4, 4, 5)), (1.0, 1.0, 1.0), "figure_shape"),
        (((4, 4), (4, 4)), (1.0, 1.0, 1.0), "figure_shape"),
        (((4, 0, 4), (4, 0, 4)), (1.0, 1.0, 1.0), "figure_shape"),
        (((4, 4, 4), (4, 4, 4)), (1.0, 0.0, 1.0), "figure_spacing"),
        (((4, 4, 4), (4, 4, 4)), (1.0, 1.0, float("nan")), "figure_spacing"),
        (((4, 4, 4), (4, 4, 4)), (1.0, 1.0), "figure_spacing"),
    ],
)
def test_parts_that_do_not_fit_are_refused(shapes, spacing_mm, code):
    image, labels = (np.zeros(shape, np.uint8) for shape in shapes)
    with pytest.raises(CaseError) as caught:
        overlay_png(image, labels, spacing_mm)
    assert caught.value.code == code


def test_a_reference_on_another_grid_is_refused():
    image = np.zeros((4, 4, 4), np.uint8)
    with pytest.raises(CaseError, match=r"\(4, 4, 4\), \(4, 4, 4\), \(4, 4, 5\)"):
        overlay_png(image, image, (1.0, 1.0, 1.0), np.zeros((4, 4, 5), np.uint8))


def test_page_and_picture_agree_on_the_colour_of_a_label():
    labels = np.array([1, 2, 21, 22, 1000])
    as_text = ["#" + bytes(colour).hex() for colour in label_colours(labels)]
    assert as_text == [label_colour(int(label)) for label in labels]
    assert as_text[0] == "#e69f00"
    assert as_text[3] == as_text[0]
    assert len(set(PALETTE)) == len(PALETTE)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SAL", "PIR"])
def test_a_volume_on_disk_gives_the_same_picture_and_is_read_in_three_slices(tmp_path, axcodes):
    rng = np.random.default_rng(0)
    image_XYZ = rng.integers(0, 900, (20, 31, 42)).astype(np.int16)
    labels_XYZ = np.zeros((20, 31, 42), np.uint8)
    labels_XYZ[4:9, 20:29, 11:30] = 1
    on_disk = zarr.create_array(str(tmp_path / "x.zarr"), shape=image_XYZ.shape, dtype="i2")
    on_disk[:, :, :] = image_XYZ

    class Counted:
        shape, voxels = image_XYZ.shape, 0

        def __getitem__(self, part):
            found = on_disk[part]
            self.voxels += found.size
            return found

    counted = Counted()
    spacing_mm = (1.0, 1.5, 2.0)
    drawn = overlay_png(counted, labels_XYZ, spacing_mm, axcodes=tuple(axcodes))
    assert drawn == overlay_png(image_XYZ, labels_XYZ, spacing_mm, axcodes=tuple(axcodes))
    assert counted.voxels == 20 * 31 + 31 * 42 + 42 * 20
