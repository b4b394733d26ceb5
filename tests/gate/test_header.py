"""Each thing that one header may say wrongly, on headers that nibabel writes."""

import nibabel as nib
import numpy as np
import pytest

from unet_pipeline.gate.findings import Tolerance, verdict_of
from unet_pipeline.gate.header import check_header
from unet_pipeline.volume.formats.nifti_header import parse_header


def header(affine=None, *, qform=None, codes=(1, 1), unit="mm", shape=(40, 50, 60), **fields):
    """The header of a file with this sform, and this qform, by default the same."""
    affine = np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else np.asarray(affine, float)
    written = nib.Nifti1Header()
    written.set_data_shape(shape)
    written.set_data_dtype(np.int16)
    with np.errstate(all="ignore"):
        if qform is not None or codes[0]:
            written.set_qform(affine if qform is None else qform, codes[0])
    written.set_sform(affine, codes[1])
    written["pixdim"][1:4] = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    written.set_xyzt_units(unit)
    written["vox_offset"], written["magic"] = 352, b"n+1"
    for field, value in fields.items():
        written[field] = value
    return parse_header(written.binaryblock + b"\0" * 4)


def found(parsed):
    return [(f.code, f.severity) for f in check_header(parsed, "image", Tolerance())]


def moved(mm: float) -> np.ndarray:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[0, 3] = mm
    return affine


def test_a_sound_header_has_no_finding():
    assert found(header()) == []


def test_a_left_handed_or_oblique_header_is_sound():
    assert found(header(np.diag([-1.0, 1.0, 1.0, 1.0]))) == []
    a = np.radians(25)
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    assert found(header(turned)) == []


@pytest.mark.parametrize(
    ("parsed", "finding"),
    [
        (header(np.full((4, 4), np.nan), codes=(0, 1)), ("affine_not_finite", "fail")),
        (header(np.zeros((4, 4)), codes=(0, 1)), ("affine_singular", "fail")),
        (header([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], codes=(0, 1)),
         ("affine_singular", "fail")),
        (header(np.diag([1000.0, 1000, 1000, 1])), ("spacing_implausible", "fail")),
        (header(np.diag([0.001, 0.001, 0.001, 1])), ("spacing_implausible", "fail")),
        (header(np.diag([10.0, 1, 1, 1]), shape=(400, 5, 5)), ("spacing_implausible", "fail")),
        (header([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], codes=(0, 1)),
         ("axes_sheared", "pass")),
        (header(qform=moved(5)), ("forms_conflict", "fail")),
        (header(qform=moved(5), codes=(1, 2)), ("forms_conflict", "warn")),
        (header(codes=(0, 0)), ("no_form", "warn")),
        (header(codes=(1, 0)), ("qform_only", "pass")),
        (header(quatern_b=2.0), ("qform_invalid", "warn")),
        (header(pixdim=[1, 2, 1, 2, 0, 0, 0, 0], codes=(0, 1)), ("pixdim_conflict", "warn")),
        (header(pixdim=[1, -1, 1, 2, 0, 0, 0, 0], codes=(0, 1)), ("pixdim_conflict", "warn")),
        (header(unit="meter"), ("unit_doubtful", "warn")),
        (header(unit="micron"), ("unit_doubtful", "warn")),
        (header(unit="unknown"), ("unit_unknown", "pass")),
    ],
)  # fmt: skip
def test_each_fault_has_its_code(parsed, finding):
    assert finding in found(parsed)
    assert verdict_of(check_header(parsed, "image", Tolerance())) == finding[1]


def test_a_mix_up_of_units_is_named():
    (finding,) = check_header(header(np.diag([1000.0, 1000, 1000, 1])), "image", Tolerance())
    assert "as if micrometres were written as millimetres" in finding.found
    (finding,) = check_header(header(np.diag([0.001, 0.001, 0.002, 1])), "image", Tolerance())
    assert "as if metres were written as millimetres" in finding.found


def test_a_conflict_says_how_far_apart_the_forms_are():
    (finding,) = check_header(header(qform=moved(5)), "mask", Tolerance())
    assert finding.residual_mm == pytest.approx(5.0)
    assert (finding.role, finding.fix) == ("mask", "sform")


def test_one_slice_may_be_thick():
    assert found(header(np.diag([1.0, 1.0, 80.0, 1.0]), shape=(40, 50, 1))) == []
