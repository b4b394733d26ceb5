"""What confidence costs, how well predicted Dice fits, and the calibration of our own bundle.

    python -m benchmarks.confidence cost [--cases own-2,full-104] [--repeats 3]
    python -m benchmarks.confidence fit RECORDS.jsonl [--rounds 200]
    python -m benchmarks.confidence learn IMAGES MASKS RECORDS.jsonl

``cost`` segments a CT of the speed benchmark in one process, without confidence, with its numbers
and with its map in turn, and prints the least processor time of each: what else
the machine does only adds to it. ``fit`` takes the lines of ``segment --json
--masks``, calibrates on a random half of the cases and holds the other half against it. ``learn``
segments the cases that the bundle ``hippocampus`` was not trained on, each as it is and once spoilt
as in ``benchmarks.review``, and writes its ``configs/confidence.json`` and the records.
"""

import argparse
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

import unet_pipeline as up
from benchmarks.review import spoil
from benchmarks.speed.cases import Files, cases_named, write_files
from unet_pipeline.evaluation.calibration import calibrate
from unet_pipeline.evaluation.prediction import CALIBRATION, FEATURE
from unet_pipeline.networks.bundle import PACKAGED
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.records import json_text
from unet_pipeline.storage.store import Store
from unet_pipeline.training.dice_calibration import calibrate_dice

KINDS = ("none", "numbers", "map")


def main() -> None:
    """Measure what was asked for."""
    asked = argparse.ArgumentParser(description=__doc__)
    commands = asked.add_subparsers(required=True)
    cost = commands.add_parser("cost")
    cost.add_argument("--cases", default="own-2,full-104")
    cost.add_argument("--repeats", type=int, default=3)
    cost.set_defaults(measure=_cost)
    fit = commands.add_parser("fit")
    fit.add_argument("records", type=Path)
    fit.add_argument("--rounds", type=int, default=200)
    fit.set_defaults(measure=_fit)
    learn = commands.add_parser("learn")
    for name in ("images", "masks", "records"):
        learn.add_argument(name, type=Path)
    learn.set_defaults(measure=_learn)
    options = asked.parse_args()
    options.measure(options)


def _cost(options: argparse.Namespace) -> None:
    for case in cases_named(options.cases.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            files = write_files(case, Path(folder) / case.name)
            _segment(files, Path(folder) / "warm", "map")
            took: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
            for turn in range(options.repeats):
                for kind, before in took.items():
                    before.append(_segment(files, Path(folder) / f"{kind}-{turn}", kind))
        whole, decide = ({kind: min(one[i] for one in found) for kind, found in took.items()}
                         for i in (0, 1))  # fmt: skip
        for kind in KINDS:
            print(
                f"{case.name:10} {kind:8} {whole[kind]:6.2f} s of processor time "
                f"({whole[kind] / whole['none'] - 1:+.1%}), deciding labels {decide[kind]:.2f} s",
                flush=True,
            )


def _segment(files: Files, output: Path, kind: str) -> tuple[float, float]:
    """Return the processor time of a run, and the seconds in which labels were decided."""
    assert files.models is not None  # a cohort is no case of this benchmark
    begin = process_time()
    result = up.segment(
        str(files.images), model=str(files.models.monai), output=str(output), cluster="serial",
        threads=2, confidence=kind, memory_gb=8.0,
    )  # fmt: skip
    (record,) = result.records
    assert record.status == "done", record.message
    return process_time() - begin, record.seconds["merge"]


def _fit(options: argparse.Namespace) -> None:
    lines = map(json.loads, options.records.read_text().splitlines())
    cases = [one for one in lines if one.get("dice") and one.get("statistics")]
    random = np.random.default_rng(0)
    for label in sorted({label for one in cases for label in one["dice"]}):
        held = [row for _ in range(options.rounds) for row in _held_out(cases, label, random)]
        _say(label, held)


def _held_out(
    cases: Sequence[dict[str, Any]], label: str, random: np.random.Generator
) -> Iterator[tuple[float, tuple[float, float, float] | None]]:
    """Yield Dice and prediction of the cases of one half, calibrated on the other."""
    order = random.permutation(len(cases))
    known, others = np.split(order, [len(cases) // 2])
    curves = calibrate((cases[i]["statistics"], cases[i]["dice"]) for i in known)
    for index in others:
        dice, values = cases[index]["dice"][label], cases[index]["statistics"].get(label, {})
        if dice is not None and FEATURE in values and label in curves:
            yield dice, curves[label].predict(values[FEATURE])


def _say(label: str, held: Sequence[tuple[float, tuple[float, float, float] | None]]) -> None:
    told = np.array([(dice, *found) for dice, found in held if found is not None])
    inside = (told[:, 2] <= told[:, 0]) & (told[:, 0] <= told[:, 3])
    poor = told[:, 0] < 0.8
    print(
        f"label {label}: {np.mean(inside):.1%} of held-out cases lie in the interval "
        f"(Dice under 0.8: {np.mean(inside[poor]) if poor.any() else np.nan:.1%}), its mean width "
        f"{np.mean(told[:, 3] - told[:, 2]):.3f}; mean error of the prediction "
        f"{np.mean(np.abs(told[:, 0] - told[:, 1])):.3f}, correlation "
        f"{np.corrcoef(told[:, 0], told[:, 1])[0, 1]:.3f}; not predicted "
        f"{1 - len(told) / len(held):.1%}"
    )


def _learn(options: argparse.Namespace) -> None:
    own = PACKAGED / "hippocampus"
    card = (own / "docs" / "README.md").read_text()
    names = re.findall(r"hippocampus_\d+", card.partition("## Held-out cases")[2])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for place in ("source", "masks"):
            (folder / place).mkdir()
        for name in sorted(set(names)):
            shutil.copy(options.images / f"{name}.nii.gz", folder / "source")
        spoilt = spoil(folder / "source", folder / "images", every=1)
        for name in spoilt:
            spoilt_image = folder / "images" / f"{name}.nii.gz"
            spoilt_image.rename(folder / "images" / f"{name}-spoilt.nii.gz")
            shutil.copy(folder / "source" / f"{name}.nii.gz", folder / "images")
            for ending in ("", "-spoilt"):
                mask = options.masks / f"{name}.nii.gz"
                shutil.copy(mask, folder / "masks" / f"{name}{ending}.nii.gz")
        bundle = shutil.copytree(own, folder / "hippocampus")
        result = up.segment(
            f"{folder}/images", masks=f"{folder}/masks", model=str(bundle), output=f"{folder}/out",
            cluster="local", workers=2, threads=1,
        )  # fmt: skip
        calibrate_dice(load_bundle(str(bundle), Store()), Store(), f"{folder}/out")
        shutil.copy(Path(bundle) / CALIBRATION, own / CALIBRATION)
    lines = (json_text(one.as_dict()) for one in result.records)
    options.records.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
