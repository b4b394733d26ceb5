"""Where a NIfTI header says that its voxels lie: it may say so in three ways, which may disagree.

See the NIfTI-1 standard, "3D image (volume) orientation and location in space", methods 1 to 3.
"""

from dataclasses import dataclass
from typing import Literal

Row = tuple[float, float, float, float]
Rows = tuple[Row, Row, Row, Row]
Form = Literal["sform", "qform"]
Unit = Literal["unknown", "m", "mm", "um"]


@dataclass(frozen=True)
class Forms:
    """The positions that one header gives.

    Attributes
    ----------
    sform, qform
        The 4x4 affines by rows, or None where the code is 0, or the quaternion is none.
    sform_code, qform_code
        0 unknown, 1 scanner, 2 aligned to another file, 3 Talairach, 4 MNI.
    pixdim_mm
        Voxel sizes as the header keeps them apart from the sform, sign included.
    unit
        The unit that the header names. No reader of this field scales by it; neither do we.
    """

    sform: Rows | None
    sform_code: int
    qform: Rows | None
    qform_code: int
    pixdim_mm: tuple[float, float, float]
    unit: Unit

    @property
    def used(self) -> Form | None:
        """The form that says where the voxels lie: the sform if there is one, as in nibabel."""
        return "sform" if self.sform_code > 0 else "qform" if self.qform_code > 0 else None
