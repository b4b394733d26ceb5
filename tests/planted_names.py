"""A patient's name wherever a file has room for free text, and a search of all that comes out."""

import base64
import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import nibabel as nib
import numpy as np
from cohorts import TINY
from command_line import Done

from unet_pipeline.phantoms import make_phantom, misalign
from unet_pipeline.storage.store import Store, join

NAME = "ZQXWERLING"  # no word, no number, no base64 that comes by chance
PATIENT = f"{NAME}^MÜLLERIN"
NEEDLES = [NAME, NAME[:8], "MÜLLERIN"]  # a short field has only a part of it


def spellings(text: str) -> list[bytes]:
    ways = ("utf-8", "latin-1", "utf-16-le", "utf-16-be")
    return sorted({text.encode(way) for way in ways})


# --- going in


def planted(values: np.ndarray, affine: np.ndarray) -> bytes:
    """Return a NIfTI file whose every free text names the patient, its extensions, too."""
    image = nib.Nifti1Image(values, affine)
    for name, size in (("descrip", 80), ("aux_file", 24), ("intent_name", 16), ("db_name", 18),
                       ("data_type", 10)):  # fmt: skip
        image.header[name] = PATIENT.encode("latin-1")[:size]
    element = struct.pack("<HH2sH", 0x0010, 0x0010, b"PN", len(PATIENT)) + PATIENT.encode("latin-1")
    texts = {2: element, 4: f"<afni {PATIENT}/>".encode(), 6: PATIENT.encode("utf-16"),
             44: f'{{"PatientName": "{PATIENT}"}}'.encode()}  # fmt: skip
    for code, text in texts.items():
        image.header.extensions.append(nib.nifti1.Nifti1Extension(code, text))
    return image.to_bytes()


def packed(data: bytes) -> bytes:
    """Return gzip whose head names a file and holds a remark, as gzip itself writes them."""
    deflate = zlib.compressobj(1, wbits=-15)
    body = deflate.compress(data) + deflate.flush()
    texts = PATIENT.encode("latin-1") + b".nii\0" + PATIENT.encode("latin-1") + b"\0"
    head = b"\x1f\x8b\x08\x18" + b"\0" * 6 + texts
    return head + body + struct.pack("<II", zlib.crc32(data), len(data))


def edited(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def with_nan(values: np.ndarray) -> np.ndarray:
    changed = values.astype(np.float32)
    changed[3, 4, 5] = np.nan
    return changed


BROKEN = {  # from an image as it is and packed: what a case is quarantined for
    "cut": lambda plain, whole: whole[: len(whole) // 2],
    "crc": lambda plain, whole: edited(whole, len(whole) - 8, b"\0\0\0\0"),
    "magic": lambda plain, whole: packed(edited(plain, 344, NAME[:4].encode())),
    "analyze": lambda plain, whole: packed(edited(plain, 344, b"ni1\0")),
    "type": lambda plain, whole: packed(edited(plain, 70, struct.pack("<h", 128))),
    "unknown-type": lambda plain, whole: packed(edited(plain, 70, NAME[:2].encode())),
    "axes": lambda plain, whole: packed(edited(plain, 40, struct.pack("<5h", 4, 48, 42, 16, 2))),
    "no-volume": lambda plain, whole: PATIENT.encode() * 40,
    "behind": lambda plain, whole: whole + packed(PATIENT.encode("latin-1") * 9_000_000),
    "singular": lambda plain, whole: packed(edited(plain, 280, b"\0" * 48)),
    "huge": lambda plain, whole: packed(edited(plain, 42, struct.pack("<3h", 9000, 9000, 9000))),
}  # fmt: skip
FAULTS = {*BROKEN, "moved", "nan", "labelled"}
SOUND = {"sound-1", "sound-2", "sound-3"}


def write_planted(store: Store, root: str) -> None:
    phantoms = [make_phantom(index, *variant) for index, variant in enumerate(TINY)]
    cases = {f"sound-{i + 1}": p for i, p in enumerate(phantoms)}
    one = phantoms[0]
    image = planted(one.image_XYZ, one.affine)
    mask = packed(planted(one.mask_XYZ, one.mask_affine))
    files = {
        name: (packed(planted(p.image_XYZ, p.affine)), packed(planted(p.mask_XYZ, p.mask_affine)))
        for name, p in cases.items()
    }
    files |= {name: (make(image, packed(image)), mask) for name, make in BROKEN.items()}
    moved = misalign(one)
    files["moved"] = (packed(image), packed(planted(moved.mask_XYZ, moved.mask_affine)))
    files["nan"] = (packed(planted(with_nan(one.image_XYZ), one.affine)), mask)
    files["labelled"] = (packed(image), packed(planted(one.mask_XYZ * 9, one.mask_affine)))
    for name, (image_data, mask_data) in files.items():
        store.write(join(root, "images", f"{name}.nii.gz"), image_data)
        store.write(join(root, "masks", f"{name}.nii.gz"), mask_data)


# --- coming out


def unfolded(data: bytes) -> Iterator[bytes]:
    """Yield what a file holds: as it is, unpacked, its pictures, and what these hold."""
    yield data
    if data[:2] == b"\x1f\x8b":
        yield from unfolded(gzip.decompress(data))
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        yield from chunks(data)
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            yield from (parts.read(name) for name in parts.namelist())
    for found in re.finditer(rb"base64,([A-Za-z0-9+/=]+)", data):
        yield from unfolded(base64.b64decode(found[1]))


def chunks(png: bytes) -> Iterator[bytes]:
    """Yield the chunks of a picture, those of text unpacked."""
    at = 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        yield content
        if kind in {b"zTXt", b"iTXt"}:
            yield zlib.decompress(content.partition(b"\0")[2].lstrip(b"\0"))
        at += 12 + length


@dataclass
class Outcome:
    """Everything that came out: files by URL, and what each command said."""

    said: dict[str, Done] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def where(self, needles: list[bytes]) -> list[str]:
        texts = {f"{n}: said": (d.stdout + d.stderr).encode() for n, d in self.said.items()}
        return [
            place
            for place, data in (texts | self.files).items()
            if any(needle in part for part in unfolded(data) for needle in needles)
        ]
