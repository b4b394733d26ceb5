"""Small cohorts, written with the product's own phantoms."""

from dataclasses import dataclass

from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store, join


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
    names = write_cohort(store, root, n_cases, misaligned=True)
    image = store.read(join(root, "images", f"{names[0]}.nii.gz"))
    mask = store.read(join(root, "masks", f"{names[0]}.nii.gz"))
    store.write(join(root, "images", "cut-short.nii.gz"), image[: len(image) // 2])
    store.write(join(root, "masks", "cut-short.nii.gz"), mask)
    return SmallCohort(
        join(root, "images"), join(root, "masks"), tuple(names[:-1]), names[-1], "cut-short"
    )
