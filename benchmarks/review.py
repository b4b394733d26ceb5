"""How well the review list finds label maps that are wrong: planted failures among real cases.

    python -m benchmarks.review IMAGES MASKS [--model hippocampus] [--every 5] [--workers 2]
    python -m benchmarks.review IMAGES MASKS --sessions

Each of every few cases is spoilt in one of the ways below; all are segmented, and Dice says which
label maps came out wrong. Printed are, for "Dice under 0.8", the AUROC of the list's score, how
many of the wrong ones stand in the first tenth, and what was not found.

With ``--sessions`` each case has an earlier scan, too: a stand-in, the same volume as it was,
turned by up to 4 degrees, shifted by up to a voxel and with a little noise. Printed is what each
kind of reason lists.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation

import unet_pipeline as up
from unet_pipeline.evaluation.review import review

WRONG = 0.8
Array = npt.NDArray[Any]
_random = np.random.default_rng(0)


def _noisy(image: Array) -> Array:
    return image + _random.normal(0, 1.5 * image.std(), image.shape)


def _biased(image: Array) -> Array:
    ramp = np.linspace(0.05, 3, image.shape[1])[:, None]
    return image * ramp


def _half_lost(image: Array) -> Array:
    found = image.copy()
    found[:, :, image.shape[2] // 2 :] = 0
    return found


def _outside_lost(image: Array) -> Array:
    found = np.zeros_like(image)
    x, y, _ = (n // 4 for n in image.shape)
    found[x:-x, y:-y] = image[x:-x, y:-y]
    return found


WAYS: dict[str, Callable[[Array], Array]] = {
    "front to back": lambda image: image[:, ::-1],
    "upside down": lambda image: image[:, :, ::-1],
    "axes exchanged": lambda image: ndimage.zoom(
        np.swapaxes(image, 0, 1), np.divide(image.shape, np.swapaxes(image, 0, 1).shape), order=1
    ),
    "noise": _noisy,
    "bias field": _biased,
    "half of the slices lost": _half_lost,
    "field of view lost": _outside_lost,
    "inverted": lambda image: image.max() - image,
    "blurred": lambda image: ndimage.gaussian_filter(image, 4),
}


def main() -> None:
    """Spoil, segment, and hold the list against Dice."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("images", type=Path)
    asked.add_argument("masks", type=Path)
    asked.add_argument("--model", default="hippocampus")
    asked.add_argument("--every", type=int, default=5)
    asked.add_argument("--workers", type=int, default=2)
    asked.add_argument("--sessions", action="store_true")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images, masks = Path(folder) / "images", options.masks
        spoilt = spoil(options.images, images, options.every)
        if options.sessions:
            masks = write_earlier(options.images, images, masks)
        result = up.segment(
            str(images),
            masks=str(masks),
            model=options.model,
            output=f"{folder}/out",
            cluster="local",
            workers=options.workers,
            threads=1,
        )
    if options.sessions:
        _say_kinds(list(result.records))
    else:
        _say(list(result.records), spoilt)


def spoil(source: Path, target: Path, every: int) -> dict[str, str]:
    """Copy the images, every few of them spoilt; return how, by case."""
    target.mkdir()
    spoilt = {}
    for index, path in enumerate(sorted(source.glob("*.nii.gz"))):
        image = nib.load(path)
        values = np.asarray(image.dataobj, np.float32)
        if index % every == 0:
            way = list(WAYS)[index // every % len(WAYS)]
            values = np.ascontiguousarray(WAYS[way](values), np.float32)
            spoilt[path.name.removesuffix(".nii.gz")] = way
        nib.save(nib.Nifti1Image(values, image.affine), target / path.name)
    return spoilt


def write_earlier(source: Path, target: Path, masks: Path) -> Path:
    """Rename the images to a second session, and write a first one of each, as it was.

    Returns
    -------
    Path
        Folder of the masks by the new names.
    """
    renamed = target.parent / "masks"
    renamed.mkdir()
    random = np.random.default_rng(1)
    for path in sorted(source.glob("*.nii.gz")):
        subject = f"sub-{path.name.removesuffix('.nii.gz').replace('_', '')}"
        (target / path.name).rename(target / f"{subject}_ses-2_T1w.nii.gz")
        copyfile(masks / path.name, renamed / f"{subject}_ses-2_T1w.nii.gz")
        image = nib.load(path)
        values = np.asarray(image.dataobj, np.float32)
        turn = Rotation.from_euler("xyz", random.uniform(-4, 4, 3), degrees=True).as_matrix()
        middle = (np.array(values.shape) - 1) / 2
        shift = middle - turn @ middle + random.uniform(-1, 1, 3)
        moved = ndimage.affine_transform(values, turn, shift, order=1, mode="nearest")
        moved += random.normal(0, 0.02 * values.std(), values.shape)
        saved = nib.Nifti1Image(moved.astype(np.float32), image.affine)
        nib.save(saved, target / f"{subject}_ses-1_T1w.nii.gz")
    return renamed


KINDS: dict[str, Callable[[str], bool]] = {
    "volume since the last scan": lambda why: " in ses-" in why and "nearer" not in why,
    "place since the last scan": lambda why: "nearer" in why,
    "where nothing was scanned": lambda why: "what was scanned" in why,
    "all but the last scan": lambda why: "ses-" not in why,
    "all": lambda _: True,
}


def _say_kinds(records: list[Any]) -> None:
    now = [one for one in records if "_ses-2_" in one.case]
    wrong = {one.case for one in now if one.mean_dice < WRONG}
    reviews = review(now, others=[one for one in records if "_ses-1_" in one.case])
    print(f"{len(now)} cases, {len(wrong)} with Dice under {WRONG}")
    for kind, is_of in KINDS.items():
        found = {one.case for one in reviews if any(is_of(doubt.what) for doubt in one.doubts)}
        print(f"{kind}: {len(found & wrong)} wrong, {len(found - wrong)} others")


def _say(records: list[Any], spoilt: dict[str, str]) -> None:
    scored = [one for one in records if one.mean_dice is not None]
    wrong = {one.case for one in scored if one.mean_dice < WRONG}
    every = {one.case: one for one in review(scored, least=0.0)}
    scores = {one.case: every[one.case].score if one.case in every else 0.0 for one in scored}
    bad = [scores[case] for case in wrong]
    good = [score for case, score in scores.items() if case not in wrong]
    auroc = stats.mannwhitneyu(bad, good).statistic / (len(bad) * len(good))
    ranked = sorted(scores, key=lambda case: -scores[case])
    first = set(ranked[: len(ranked) // 10])
    listed = {one.case for one in review(scored)}
    print(f"{len(scored)} cases, {len(spoilt)} spoilt, {len(wrong)} with Dice under {WRONG}")
    print(f"AUROC {auroc:.3f}; in the first tenth {len(wrong & first)} of {len(wrong)}")
    print(f"listed {len(listed)}, of these wrong {len(listed & wrong)}")
    for one in scored:
        if one.case in wrong or one.case in spoilt:
            doubt = every[one.case].doubts[0].what if one.case in every else ""
            print(
                f"{one.case} {spoilt.get(one.case, 'as it is'):24} Dice {one.mean_dice:.2f} "
                f"score {scores[one.case]:5.1f} {doubt}"
            )


if __name__ == "__main__":
    main()
