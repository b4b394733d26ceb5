"""A doubtful case is drawn where its doubt is."""

import numpy as np
import pytest

from unet_pipeline.errors import CaseError
from unet_pipeline.evaluation.doubts import Doubt
from unet_pipeline.evaluation.review import SCATTERED
from unet_pipeline.report.doubt_pictures import doubt_png, place_of
from unet_pipeline.report.overlay import overlay_png
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.formats.nifti_voxels import encode_labels
from unet_pipeline.volume.header import header_of

AFFINE = np.array([[0, -1.0, 0, 9], [-1.0, 0, 0, 9], [0, 0, 2.0, 0], [0, 0, 0, 1]])  # PLS
APART = Doubt("1", 9.0, f"{SCATTERED} 12 %, usually 0 % to 1 %")
SMALL = Doubt("1", 9.0, "volume 1 ml, usually 3 to 4 ml")


@pytest.fixture
def labels_XYZ():  # noqa: N802
    """Label 1 in three parts, the second of 2 x 2 x 2 voxels at one end; label 2 elsewhere."""
    made = np.zeros((20, 18, 16), np.uint8)
    made[3:9, 3:9, 3:9] = 1
    made[16:18, 14:16, 12:14] = 1
    made[1, 16, 1] = 1
    made[12:15, 2:5, 8:14] = 2
    return made


def test_the_place_is_in_the_label_or_in_its_largest_stray_part(labels_XYZ):
    place = place_of(labels_XYZ, APART)
    assert labels_XYZ[place] == 1
    assert min(place) >= 12
    x, y, z = place_of(labels_XYZ, Doubt("2", 4.0, "volume"))
    assert (x, y) == (13, 3)
    assert z in (10, 11)
    assert place_of(labels_XYZ, Doubt("3", 99.0, "absent")) is None


def test_planes_go_through_the_place_whatever_the_axes(labels_XYZ):
    store, header = Store(), header_of(labels_XYZ.shape, AFFINE, np.uint8)
    image_XYZ = np.arange(labels_XYZ.size, dtype=np.int16).reshape(labels_XYZ.shape)
    for name, values in (("image", image_XYZ), ("labels", labels_XYZ)):
        store.write(f"memory://doubt/{name}.nii.gz", encode_labels(values, header))
    files = "memory://doubt/image.nii.gz", "memory://doubt/labels.nii.gz"
    names = {1: "liver", 2: "spleen"}
    options = {"spacing_mm": header.grid.spacing_mm, "axcodes": header.grid.axcodes, "names": names}
    for doubt in (APART, SMALL):
        place, only_there = place_of(labels_XYZ, doubt), np.zeros_like(labels_XYZ)
        only_there[place] = 1  # so planes go through it anyway
        there = overlay_png(image_XYZ, only_there, **options)
        assert there == overlay_png(image_XYZ, only_there, place=place, **options)
        drawn = overlay_png(image_XYZ, labels_XYZ, place=place, **options)
        assert doubt_png(store, *files, doubt, names) == drawn
    assert doubt_png(store, *files, Doubt("3", 99.0, "absent"), names) is None
    store.write("memory://doubt/image.nii.gz", encode_labels(image_XYZ[:10], header))
    with pytest.raises(CaseError) as raised:
        doubt_png(store, *files, SMALL, names)
    assert raised.value.code == "figure_shape"
