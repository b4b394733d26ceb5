"""How well the review list finds label maps that are wrong: planted failures among real cases.

    python -m benchmarks.review IMAGES MASKS [--model hippocampus] [--every 5] [--workers 2]

Each of every few cases is spoilt in one of the ways below; all are segmented, and Dice says which
label maps came out wrong. Printed are, for "Dice under 0.8", the AUROC of the list's score, how
many of the wrong ones stand in the first tenth, and what was not found.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

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
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spoilt = spoil(options.images, Path(folder) / "images", options.every)
        result = up.segment(
            f"{folder}/images",
            masks=str(options.masks),
            model=options.model,
            output=f"{folder}/out",
            cluster="local",
            workers=options.workers,
            threads=1,
        )
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
