"""Plant one fault in a sound pair of NIfTI files: to see that the gate finds it, by its name.

A fault takes the bytes of an image and of a mask and returns those of a pair with one thing wrong,
made with nibabel and not with the package under test. ``None`` means that the fault cannot be
planted in this pair.
"""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any
from uuid import uuid4

import nibabel as nib
import numpy as np

from unet_pipeline.gate.examine import Policy, examine
from unet_pipeline.gate.findings import Finding
from unet_pipeline.gate.inspect import inspect
from unet_pipeline.records import Case
from unet_pipeline.storage.store import Store


@dataclass(frozen=True)
class Pair:
    """The bytes of an image and of its mask; ``second`` is another subject's image or None."""

    image: bytes
    mask: bytes
    second: bytes | None = None


@dataclass(frozen=True)
class Fault:
    """One fault and the codes of which the gate must give at least one.

    Attributes
    ----------
    severity
        What the finding must be: ``fail``, or ``warn`` for what leaves the pair usable.
    reads_voxels
        Whether no header can tell, so that the voxels must be read.
    channels
        Whether ``second`` is the second channel of the case.
    """

    name: str
    codes: frozenset[str]
    plant: Callable[[Pair], Pair | None]
    severity: str = "fail"
    reads_voxels: bool = False
    channels: bool = False


# --- bytes, headers and arrays


def unpacked(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def packed_like(data: bytes, like: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0) if like[:2] == b"\x1f\x8b" else data


def image_of(data: bytes) -> Any:
    plain = unpacked(data)
    kind = nib.Nifti2Image if int.from_bytes(plain[:4], "little") == 540 else nib.Nifti1Image
    return kind.from_bytes(plain)


def edited(data: bytes, change: Callable[[Any], None]) -> bytes:
    """Change fields of the header; every other byte stays."""
    plain = unpacked(data)
    header = image_of(data).header.__class__.from_fileobj(io.BytesIO(plain), check=False)
    change(header)
    return packed_like(header.binaryblock + plain[len(header.binaryblock) :], data)


def rewritten(data: bytes, array: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    """Write other voxels with the header's place in the world, or another."""
    image = image_of(data)
    header = image.header.copy()
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(1, 0)
    place = image.affine if affine is None else affine
    plain = image.__class__(array, place, header)
    return packed_like(plain.to_bytes(), data)


def with_affine(data: bytes, affine: np.ndarray) -> bytes:
    """Say one place: an sform and the spacing that belongs to it, and no qform."""

    def change(header: Any) -> None:
        header.set_sform(affine, max(int(header["sform_code"]), 1))
        header["qform_code"] = 0
        header["pixdim"][1:4] = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))

    return edited(data, change)


def moved_mask(pair: Pair, change: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]) -> Pair:
    image = image_of(pair.mask)
    affine = change(image.affine.copy(), image.shape)
    return replace(pair, mask=with_affine(pair.mask, affine))


def both(pair: Pair, change: Callable[[np.ndarray], np.ndarray]) -> Pair:
    image, mask = (image_of(data).affine.copy() for data in (pair.image, pair.mask))
    return Pair(with_affine(pair.image, change(image)), with_affine(pair.mask, change(mask)))


# --- the faults


def restored(axes: tuple[int, ...], flips: tuple[int, ...]) -> Callable[[Pair], Pair]:
    """Store the mask's voxels in another order, and let its affine follow."""

    def plant(pair: Pair) -> Pair:
        image = image_of(pair.mask)
        order = np.array([[axes.index(a), -1 if a in flips else 1] for a in range(3)])
        plain = image.as_reoriented(order)
        return replace(pair, mask=packed_like(plain.to_bytes(), pair.mask))

    return plant


def columns(matrix: np.ndarray) -> Callable[[Pair], Pair]:
    """Multiply the voxel axes of the mask's affine; voxel 0 stays."""

    def change(affine: np.ndarray, _: tuple[int, ...]) -> np.ndarray:
        affine[:3, :3] = affine[:3, :3] @ matrix
        return affine

    return lambda pair: moved_mask(pair, change)


def turned(degrees: float) -> Callable[[Pair], Pair | None]:
    """Turn the mask about its centre, in the plane of its first two axes.

    Not in a volume so small that no corner moves by 0.1 voxels.
    """
    a = np.radians(degrees)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])

    def change(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        unit = affine[:3, :3] / spacing
        centre = (np.array(shape[:3]) - 1) / 2
        middle = affine[:3, :3] @ centre + affine[:3, 3]
        affine[:3, :3] = unit @ turn * spacing
        affine[:3, 3] = middle - affine[:3, :3] @ centre
        return affine

    def plant(pair: Pair) -> Pair | None:
        x, y, _ = image_of(pair.mask).shape[:3]
        return moved_mask(pair, change) if np.hypot(x - 1, y - 1) / 2 * a >= 0.1 else None

    return plant


def shifted(axis: int, voxels: float) -> Callable[[Pair], Pair]:
    def change(affine: np.ndarray, _: tuple[int, ...]) -> np.ndarray:
        affine[:3, 3] += voxels * affine[:3, axis]
        return affine

    return lambda pair: moved_mask(pair, change)


def scaled(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(affine: np.ndarray) -> np.ndarray:
        affine[:3, :3] *= factor
        return affine

    return change


def slanted(degrees: float) -> np.ndarray:
    """Columns whose second leans towards the first."""
    matrix = np.eye(3)
    matrix[0, 1] = np.tan(np.radians(degrees))
    return matrix


def slant_world(affine: np.ndarray, degrees: float = 5) -> np.ndarray:
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    affine[:3, :3] = affine[:3, :3] / spacing @ slanted(degrees) * spacing
    return affine


def slanted_mask(pair: Pair) -> Pair:
    return moved_mask(pair, lambda affine, _: slant_world(affine))


def last_slice_lost(pair: Pair) -> Pair | None:
    image = image_of(pair.mask)
    array = np.asanyarray(image.dataobj)
    return (
        replace(pair, mask=rewritten(pair.mask, array[:, :, :-1])) if array.shape[2] > 1 else None
    )


def halved(pair: Pair) -> Pair:
    image = image_of(pair.mask)
    affine = image.affine @ np.diag([2.0, 2, 2, 1])
    return replace(
        pair, mask=rewritten(pair.mask, np.asanyarray(image.dataobj)[::2, ::2, ::2], affine)
    )


def forms(qcode: int, scode: int, q_shift_mm: float) -> Callable[[Pair], Pair]:
    """Give the mask a qform and an sform with these codes, the qform moved."""

    def plant(pair: Pair) -> Pair:
        affine = image_of(pair.mask).affine
        moved = affine.copy()
        moved[0, 3] += q_shift_mm

        def change(header: Any) -> None:
            header.set_sform(affine, scode)
            header.set_qform(moved, qcode)

        return replace(pair, mask=edited(pair.mask, change))

    return plant


def field(name: str, value: Any, at: slice | int | None = None) -> Callable[[bytes], bytes]:
    def change(header: Any) -> None:
        if at is None:
            header[name] = value
        else:
            header[name][at] = value

    return lambda data: edited(data, change)


def one_form(pair: Pair) -> Pair:
    return replace(pair, mask=with_affine(pair.mask, image_of(pair.mask).affine))


def on_mask(
    change: Callable[[bytes], bytes | None], *, of: Callable[[Pair], Pair] = one_form
) -> Any:
    """Change the bytes of a mask that says its place once."""

    def plant(pair: Pair) -> Pair | None:
        sound = of(pair)
        mask = change(sound.mask)
        return None if mask is None else replace(sound, mask=mask)

    return plant


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(share * len(data))]


def flipped_byte(data: bytes) -> bytes | None:
    """Flip the byte in the middle; not one that means nothing, as some of a gzip file do."""
    middle = len(data) // 2
    broken = data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
    try:
        return None if unpacked(broken) == unpacked(data) else broken
    except (OSError, EOFError, zlib.error):
        return broken


def mask_as(convert: Callable[[np.ndarray], np.ndarray]) -> Callable[[Pair], Pair]:
    def plant(pair: Pair) -> Pair:
        array = np.asanyarray(image_of(pair.mask).dataobj)
        return replace(pair, mask=rewritten(pair.mask, convert(array)))

    return plant


def fractions(array: np.ndarray) -> np.ndarray:
    smooth = array.astype(np.float32)
    smooth[1:] = (smooth[1:] + smooth[:-1]) / 2
    return smooth if (smooth % 1).any() else array.astype(np.float32) + np.float32(0.25)


def colour(array: np.ndarray) -> np.ndarray:
    grey = array.astype(np.int64).astype(np.uint8)
    rgb = np.stack([grey] * 3, axis=-1)
    return np.ascontiguousarray(rgb).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]


def image_as(convert: Callable[[np.ndarray], np.ndarray]) -> Callable[[Pair], Pair]:
    def plant(pair: Pair) -> Pair:
        array = np.asanyarray(image_of(pair.image).dataobj)
        return replace(pair, image=rewritten(pair.image, convert(array)))

    return plant


def larger_type(data: bytes) -> bytes:
    """Say float64 of smaller voxels, in the header only."""

    def change(header: Any) -> None:
        header["datatype"], header["bitpix"] = 64, 64

    return edited(data, change)


def swapped_channel(pair: Pair) -> Pair | None:
    if pair.second is None:
        return None
    first, second = image_of(pair.image), image_of(pair.second)
    same = first.shape == second.shape and np.allclose(first.affine, second.affine, atol=1e-2)
    return None if same else pair


def _faults() -> Iterator[Fault]:
    def fault(name: str, codes: str, plant: Any, **more: Any) -> Fault:
        return Fault(name, frozenset(codes.split()), plant, **more)

    identity = (0, 1, 2)
    for axis in range(3):
        yield fault(
            f"stored flipped, axis {axis + 1}", "axes_reordered", restored(identity, (axis,))
        )
    for axes in list(permutations(identity))[1:]:
        yield fault(f"stored in axis order {axes}", "axes_reordered", restored(axes, ()))
    yield fault("stored permuted and flipped", "axes_reordered", restored((2, 0, 1), (0, 2)))

    for axis in range(3):
        mirror = np.eye(3)
        mirror[axis, axis] = -1
        yield fault(f"header mirrored, axis {axis + 1}", "handedness_mismatch", columns(mirror))
    yield fault("header turned by 180", "direction_mismatch", columns(np.diag([-1.0, -1, 1])))
    for axes in list(permutations(identity))[1:]:
        matrix = np.eye(3)[:, axes]
        code = "handedness_mismatch" if np.linalg.det(matrix) < 0 else "direction_mismatch"
        # of axes of one length and spacing this is the header of another storage order, too
        yield fault(f"header axes in order {axes}", f"{code} axes_reordered", columns(matrix))
    for degrees in (1, 5):
        yield fault(f"turned by {degrees} degrees", "direction_mismatch", turned(degrees))
    for voxels in (0.1, 0.5, 1, 5):
        for axis in range(3):
            name = f"shifted by {voxels:g} voxels, axis {axis + 1}"
            yield fault(name, "origin_mismatch", shifted(axis, voxels))
    for factor in (2, 10, 1000, 0.001):
        scale = columns(np.diag([1.0, factor, 1]))
        yield fault(f"spacing x {factor:g}, one axis", "spacing_mismatch", scale)
        scale = columns(np.eye(3) * factor)
        yield fault(f"spacing x {factor:g}, all axes", "spacing_mismatch", scale)
    for factor in (1000, 0.001):

        def plant(pair: Pair, factor: float = factor) -> Pair:
            return both(pair, scaled(factor))

        yield fault(f"image and mask spacing x {factor:g}", "spacing_implausible", plant)
    yield fault("sheared by 5 degrees", "shear_mismatch", slanted_mask)
    yield fault("image and mask sheared by 50 degrees", "axes_sheared",
                lambda p: both(p, lambda affine: slant_world(affine, 50)))  # fmt: skip
    yield fault("last slice lost", "shape_mismatch", last_slice_lost)
    yield fault("resampled to half", "shape_mismatch", halved)
    yield fault(
        "swapped channel",
        "shape_mismatch origin_mismatch spacing_mismatch direction_mismatch",
        swapped_channel,
        channels=True,
    )

    yield fault("qform moved, one space", "forms_conflict", forms(1, 1, 5))
    yield fault("qform moved, two spaces", "forms_conflict", forms(1, 2, 5), severity="warn")
    yield fault("qform moved, sform code 0", "origin_mismatch", forms(1, 0, 5))
    yield fault("no form", "no_form", on_mask(field("sform_code", 0)), severity="warn")
    yield fault("quaternion impossible", "qform_invalid",
                on_mask(field("quatern_b", 2.0), of=forms(1, 1, 0)), severity="warn")  # fmt: skip
    yield fault("sform with NaN", "affine_not_finite", on_mask(field("srow_x", np.nan, 0)))
    yield fault("sform all zero", "affine_singular", on_mask(
        lambda d: field("srow_z", 0)(field("srow_y", 0)(field("srow_x", 0)(d)))))  # fmt: skip
    yield fault("sform with a zero row", "affine_singular", on_mask(field("srow_y", 0)))
    for value in (-1.0, 0.0, 77.0):
        yield fault(f"pixdim {value:g}", "pixdim_conflict", on_mask(field("pixdim", value, 2)),
                    severity="warn")  # fmt: skip
    for code, unit in ((1, "metres"), (3, "micrometres")):
        yield fault(f"unit code {unit}", "unit_doubtful", on_mask(field("xyzt_units", code)),
                    severity="warn")  # fmt: skip

    for share in (0.9, 0.5, 0.01):
        codes = "file_truncated file_corrupt"
        yield fault(f"image cut to {share:.0%}", codes,
                    lambda p, share=share: replace(p, image=cut(share)(p.image)))  # fmt: skip
        yield fault(f"mask cut to {share:.0%}", codes, on_mask(cut(share)))
    yield fault("mask unpacked and cut to 50%", "file_truncated", on_mask(
        lambda d: cut(0.5)(unpacked(d))))  # fmt: skip
    yield fault("mask of 0 bytes", "file_empty", on_mask(lambda d: b""))
    yield fault("one byte of the mask flipped", "file_corrupt file_truncated file_trailing_data",
                on_mask(flipped_byte), reads_voxels=True)  # fmt: skip
    yield fault("mask of fractions", "mask_not_integer", mask_as(fractions), reads_voxels=True)
    yield fault("image in colour", "dtype_unsupported", image_as(colour))
    yield fault("image complex", "dtype_unsupported", image_as(lambda a: a.astype(np.complex64)))
    yield fault("mask of two volumes", "not_3d", mask_as(lambda a: np.stack([a, a], axis=-1)))
    yield fault("mask said to be float64", "file_truncated", on_mask(larger_type))
    yield fault("dimensions that lie", "file_truncated", on_mask(field("dim", 10_000, slice(1, 4))))


FAULTS = tuple(_faults())


# --- real pairs


def sound_pairs(data: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield name, image and mask of all real pairs of the folder; hippocampus last."""
    for patient in sorted((data / "soft_tissue").iterdir()):
        for kind in ("CT", "MR_T1", "PET"):
            name = f"{patient.name} {kind}"
            yield name, patient / f"{kind}_image.nii.gz", patient / f"{kind}_mask.nii.gz"
    for folder, image, masks in _NAMED:
        for mask in masks.split():
            name = mask.removesuffix(".nii.gz")
            yield name, data / folder / f"{image}.nii.gz", data / folder / f"{mask}.nii.gz"
    for image in sorted((data / "hippocampus" / "images").iterdir()):
        yield image.name.removesuffix(".nii.gz"), image, data / "hippocampus/labels" / image.name


_NAMED = (
    ("abdomen_ct", "example_ct_sm", "example_seg"),
    ("abdomen_ct", "example_ct_dicom", "example_seg_dicom"),
    ("abdomen_ct", "example_ct", "example_seg_fast_force_split"),
    ("abdomen_ct", "example_mr_sm", "example_seg_mr"),
    ("spine", "sub-ct_label-22_ct", "sub-ct_seg-subreg_label-22_msk sub-ct_seg-vert_label-22_msk"),
    ("spine", "sub-mri_label-6_T2w", "sub-mri_seg-subreg_label-6_msk sub-mri_seg-vert_label-6_msk"),
    ("spine", "t1w", "t1w_seg-manual"),
    ("spine", "t2", "t2_seg-manual t2_seg-deepseg_sc-2d"),
    ("spine", "t2s", "t2s_gmseg_manual"),
    ("brain", "tcia_example_t1c", "bet_tcia_example_t1c_mask"),
    ("phantom", "ibsi_1_digital_phantom_phantom", "ibsi_1_digital_phantom_mask"),
    ("phantom", "ibsi_2_digital_phantom_noise_noise", "ibsi_2_digital_phantom_noise_mask"),
    ("phantom", "ibsi_2_digital_phantom_sphere_sphere", "ibsi_2_digital_phantom_sphere_mask"),
)


# --- what the gate makes of it


def read_pair(image: Path, mask: Path, second: Path | None = None) -> Pair:
    """Read a pair; ``second`` becomes the second channel where a fault wants one."""
    return Pair(
        image.read_bytes(), mask.read_bytes(), second.read_bytes() if second is not None else None
    )


def findings_of(pair: Pair, *, voxels: bool = False, channels: bool = False) -> list[Finding]:
    """Return what the gate finds in a pair that lies in a store."""
    store, place = Store(), f"memory://planted-{uuid4().hex}"
    images = []
    for index, data in enumerate([pair.image, *([pair.second] if channels else [])]):
        images.append(_put(store, f"{place}/image{index}", data or b""))
    case = Case(
        "case", tuple(images), None if channels else _put(store, f"{place}/mask", pair.mask)
    )
    look = inspect if voxels else examine
    found = look(store, case, Policy(), **({"content": False} if voxels else {}))
    for url in store.list_files(place):
        store.remove(url)
    return list(found.findings)


def judged(fault: Fault, pair: Pair) -> tuple[str, list[str]]:
    """Return what the gate made of a fault in a sound pair, and the codes that it gave.

    ``detected`` by the right code and severity, ``wrong code`` where only other findings fail or
    warn, ``missed``, or ``not applicable``.
    """
    planted = fault.plant(pair)
    if planted is None:
        return "not applicable", []
    found = findings_of(planted, voxels=fault.reads_voxels, channels=fault.channels)
    grave = [finding for finding in found if finding.severity != "pass"]
    codes = [finding.code for finding in grave]
    if any(f.code in fault.codes and f.severity == fault.severity for f in grave):
        return "detected", codes
    return ("wrong code" if grave else "missed"), codes


def _put(store: Store, stem: str, data: bytes) -> str:
    url = f"{stem}.nii.gz" if data[:2] == b"\x1f\x8b" else f"{stem}.nii"
    store.write(url, data)
    return url
