"""Headers that the standard does not allow, as the readers of this field read them.

Each file is written here and read by nibabel and by SimpleITK (which has niftilib inside); where
the two agree, or niftilib's rule (``nifti1_io.c``) agrees with one of them, so do we. SimpleITK
reads no NIfTI-2; there the rule is that of NIfTI-1.
"""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  its own users call it so

from unet_pipeline.errors import CaseError
from unet_pipeline.gate.examine import Policy, examine
from unet_pipeline.records import Case
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.decoding import read_volume
from unet_pipeline.volume.probe import probe_header

VALUES = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
ANGLE = 0.3
TURNED = np.array([
    [2 * np.cos(ANGLE), -3 * np.sin(ANGLE), 0, 10],
    [2 * np.sin(ANGLE), 3 * np.cos(ANGLE), 0, -20],
    [0, 0, 4, 30],
    [0, 0, 0, 1],
])  # fmt: skip
STRAIGHT = np.diag([2.0, 3, 4, 1])
STRAIGHT[:3, 3] = 10, -20, 30


def write(path: Path, kind: Any, q: int, s: int, fields: dict[Any, Any], sform=TURNED) -> None:
    image = kind(VALUES, None)
    image.set_qform(TURNED, q)
    image.set_sform(sform, min(s, 4))
    data = image.to_bytes()
    size = image.header.template_dtype.itemsize
    header = kind.header_class(data[:size], check=False)
    header["qform_code"], header["sform_code"] = q, s
    for name, value in fields.items():
        if isinstance(name, tuple):
            header[name[0]][name[1]] = value
        else:
            header[name] = value
    path.write_bytes(header.binaryblock + data[size:])


def by_nibabel(path: Path) -> np.ndarray | None:
    try:
        return nib.load(path).affine
    except (ValueError, nib.spatialimages.HeaderDataError):
        return None


def by_simpleitk(path: Path) -> np.ndarray | None:
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return None
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


ODD = {
    "pixdim[0] = 0": {("pixdim", 0): 0},
    "pixdim[0] = 0.5": {("pixdim", 0): 0.5},
    "pixdim[0] = NaN": {("pixdim", 0): np.nan},
    "pixdim[0] = -1": {("pixdim", 0): -1},
    "pixdim[1] = 0": {("pixdim", 1): 0},
    "quaternion a little long": {"quatern_b": 0, "quatern_c": 0, "quatern_d": np.sqrt(1 + 1e-7)},
    "one voxel along a fourth axis": {"dim": [4, 4, 5, 6, 1, 1, 1, 1]},
    "none along a fourth axis": {"dim": [4, 4, 5, 6, 0, 1, 1, 1]},
    "slope 0": {"scl_slope": 0, "scl_inter": 7},
    "slope infinite": {"scl_slope": np.inf, "scl_inter": 0},
    "an sform of code -1": {"sform_code": -1},
    "bits of another type": {"bitpix": 8},
}


@pytest.mark.parametrize("name", ODD)
def test_where_nibabel_and_simpleitk_agree_so_do_we(tmp_path, name):
    path = tmp_path / "x.nii"
    write(path, nib.Nifti1Image, 1, 0, ODD[name])
    nibabel, simpleitk = by_nibabel(path), by_simpleitk(path)
    np.testing.assert_allclose(nibabel, simpleitk, atol=1e-4)
    ours = probe_header(Store(), str(path)).header
    np.testing.assert_allclose(ours.grid.affine, nibabel, atol=1e-5)
    write(path, nib.Nifti2Image, 1, 0, ODD[name])
    second = probe_header(Store(), str(path)).header
    np.testing.assert_allclose(second.grid.affine, nibabel, atol=1e-4)


TWO_OF_THREE = {  # fields, and who reads it as we do beside niftilib
    "pixdim[0] = -2": ({("pixdim", 0): -2}, by_simpleitk),
    "pixdim[1] = NaN": ({("pixdim", 1): np.nan}, by_simpleitk),
    "quaternion 4e-7 over": (
        {"quatern_b": 0, "quatern_c": 0, "quatern_d": np.sqrt(1 + 4e-7)}, by_simpleitk),
    "quaternion 1e-4 over": (
        {"quatern_b": 0.6, "quatern_c": 0, "quatern_d": 0.8 * np.sqrt(1 + 1e-4)}, by_simpleitk),
    "unit metres": ({"xyzt_units": 1}, by_nibabel),
    "slope 2, intercept NaN": ({"scl_slope": 2, "scl_inter": np.nan}, by_simpleitk),
    "slope 0, intercept 7": ({"scl_slope": 0, "scl_inter": 7}, by_nibabel),
}  # fmt: skip


@pytest.mark.parametrize("name", TWO_OF_THREE)
def test_where_two_of_three_agree_we_are_with_them(tmp_path, name):
    path = tmp_path / "x.nii"
    fields, oracle = TWO_OF_THREE[name]
    write(path, nib.Nifti1Image, 1, 0, fields)
    wanted = oracle(path)
    assert wanted is not None
    ours = probe_header(Store(), str(path)).header
    np.testing.assert_allclose(ours.grid.affine, wanted, atol=1e-3)
    read = read_volume(Store(), str(path), role="image0", budget_bytes=10**6).view
    if oracle is by_simpleitk:
        image = sitk.ReadImage(str(path))
        np.testing.assert_allclose(read.values().T, sitk.GetArrayFromImage(image))
    else:
        np.testing.assert_allclose(read.values(), np.asarray(nib.load(path).dataobj))


@pytest.mark.parametrize(("q", "s"), [(1, 1), (2, 1), (3, 1), (0, 1), (0, 2), (0, 4), (0, 7)])
def test_an_sform_is_followed_before_a_qform(tmp_path, q, s):
    path = tmp_path / "x.nii"
    write(path, nib.Nifti1Image, q, s, {}, STRAIGHT if q else TURNED)
    ours = probe_header(Store(), str(path)).header.grid.affine
    np.testing.assert_allclose(ours, by_simpleitk(path), atol=1e-4)
    if s < 5:  # nibabel knows no other codes
        np.testing.assert_allclose(ours, by_nibabel(path), atol=1e-4)


def codes(path: Path) -> dict[str, str]:
    record = examine(Store(), Case("x", (str(path),)), Policy()).record()
    return {finding["code"]: finding["severity"] for finding in record.findings}


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({("pixdim", 0): 0}, "pixdim[0] of 0, taken as 1"),
        ({("pixdim", 0): -7}, "pixdim[0] of -7, taken as -1"),
        ({("pixdim", 2): -3}, "pixdim[2] of -3, taken without its sign"),
        ({("pixdim", 2): np.inf}, "pixdim[2] of inf, taken as 1 mm"),
        ({"quatern_d": np.sqrt(1 + 1e-4)}, "over 1, brought to 1"),
    ],
)
def test_what_was_taken_otherwise_is_a_remark(tmp_path, fields, wanted):
    path = tmp_path / "x.nii"
    write(path, nib.Nifti1Image, 1, 0, fields)
    record = examine(Store(), Case("x", (str(path),)), Policy()).record()
    (remark,) = [f for f in record.findings if f["code"] == "header_repaired"]
    assert remark["severity"] == "pass"
    assert wanted in remark["found"]
    assert record.verdict != "fail"


def test_a_quaternion_that_is_far_from_one_is_still_refused(tmp_path):
    path = tmp_path / "x.nii"
    write(path, nib.Nifti1Image, 1, 0, {"quatern_b": 2.0})
    with pytest.raises(CaseError) as caught:
        probe_header(Store(), str(path))
    assert caught.value.code == "qform_invalid"
    write(path, nib.Nifti1Image, 1, 1, {"quatern_b": 2.0})
    assert codes(path)["qform_invalid"] == "warn"


def test_a_sound_header_has_no_remark(tmp_path):
    path = tmp_path / "x.nii"
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        for angle in np.linspace(0, 6.3, 50):  # quaternions of turns round to a little over 1
            image = kind(VALUES, None)
            c, s = np.cos(angle), np.sin(angle)
            turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])
            image.set_qform(turn @ STRAIGHT, 1)
            path.write_bytes(image.to_bytes())
            header = probe_header(Store(), str(path)).header
            assert header.repairs == ()
            np.testing.assert_array_equal(header.grid.affine, nib.load(path).affine)


def test_numbers_of_another_world_are_refused(tmp_path):
    path = tmp_path / "x.nii"
    far = STRAIGHT.copy()
    far[0, 3] = 2e6
    write(path, nib.Nifti1Image, 0, 1, {}, far)
    assert codes(path)["affine_out_of_range"] == "fail"
    write(path, nib.Nifti1Image, 1, 1, {"qoffset_x": np.inf})
    assert codes(path)["affine_not_finite"] == "fail"
    fixed = examine(Store(), Case("x", (str(path),)), Policy(fixes=frozenset({"sform"}))).record()
    assert fixed.verdict == "pass"
    assert fixed.fixed == ("image: sform",)
