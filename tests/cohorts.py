"""Small cohorts, written with the product's own phantoms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

from unet_pipeline.phantoms import make_phantom, misalign, write_cohort
from unet_pipeline.records import CaseRecord
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.formats.nifti_voxels import encode_labels
from unet_pipeline.volume.header import header_of

# the organs fit in, the body does not: two windows of 32 voxels of 2 mm instead of eight
TINY = (
    ((48, 42, 32), (1.5, 1.5, 2.0), "RAS"),
    ((48, 42, 32), (1.5, 1.5, 2.0), "LPS"),
    ((30, 48, 45), (2.1, 1.5, 1.4), "SRA"),
)


@dataclass(frozen=True)
class SmallCohort:
    """Phantoms with masks; the last one's mask is misaligned, and one more image is cut short."""

    images: str
    masks: str
    sound: tuple[str, ...]
    misaligned: str
    cut_short: str


def small_cohort(store: Store, root: str, n_cases: int = 3) -> SmallCohort:
    """Write a cohort below ``root``."""
    return _with_one_cut_short(store, root, write_cohort(store, root, n_cases, misaligned=True))


def tiny_cohort(store: Store, root: str, n_cases: int = 3) -> SmallCohort:
    """Write a cohort that takes a quarter of the time, for tests that do not need any."""
    return _with_one_cut_short(store, root, write_tiny(store, root, n_cases, misaligned=True))


def write_tiny(store: Store, root: str, n_cases: int, misaligned: bool = False) -> list[str]:
    """Write tiny phantoms as ``write_cohort`` does."""
    names = []
    for index, variant in enumerate(islice(cycle(TINY), n_cases)):
        phantom = make_phantom(index, *variant)
        phantom = misalign(phantom) if misaligned and index == n_cases - 1 else phantom
        names.append(f"phantom-{index + 1:02d}")
        for kind, values_XYZ, affine in (
            ("images", phantom.image_XYZ, phantom.affine),
            ("masks", phantom.mask_XYZ, phantom.mask_affine),
        ):
            data = encode_labels(values_XYZ, header_of(values_XYZ.shape, affine, values_XYZ.dtype))
            store.write(join(root, kind, f"{names[-1]}.nii.gz"), data)
    return names


def _with_one_cut_short(store: Store, root: str, names: Sequence[str]) -> SmallCohort:
    image = store.read(join(root, "images", f"{names[0]}.nii.gz"))
    mask = store.read(join(root, "masks", f"{names[0]}.nii.gz"))
    store.write(join(root, "images", "cut-short.nii.gz"), image[: len(image) // 2])
    store.write(join(root, "masks", "cut-short.nii.gz"), mask)
    return SmallCohort(
        join(root, "images"), join(root, "masks"), tuple(names[:-1]), names[-1], "cut-short"
    )


def with_one_odd(records: Sequence[CaseRecord]) -> list[CaseRecord]:
    """Return the records of two cases, the second with its label 1 in parts, and thirty others."""
    first, second = records
    parts = {**second.statistics, "1": {**second.statistics["1"], "largest_part": 0.2}}
    others = [replace(first, case=f"other-{index}") for index in range(30)]
    return [first, replace(second, statistics=parts), *others]
