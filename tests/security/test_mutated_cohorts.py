"""No number in any field may do more than quarantine its case, in every command.

A short form of each; the long ones are marked ``soak``.
"""

import json
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundles import CT, random_bundle, transform
from command_line import cli
from mutants import mutants, sound, write_mutants

from unet_pipeline.networks.loading import load_bundle  # noqa: F401  torch, once for all tests


def strict(text: str) -> object:
    """Parse JSON as browsers do, who know neither NaN nor Infinity."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def cases_of(*arguments: object) -> dict[str, dict]:
    """Run a command with --json; what it said of each case."""
    done = cli(*arguments, "--json")
    assert done.returncode in (0, 1), done.stderr
    lines = [strict(line) for line in done.stdout.splitlines()]
    return {line["case"]: line for line in lines if "case" in line}


def all_are_said(said: dict[str, dict], count: int) -> None:
    assert len(said) == count
    codes = {code for one in said.values() for code in one.get("codes", [one.get("code")])}
    assert "unexpected" not in codes
    verdicts = {one.get("verdict", one.get("status", "planned")) for one in said.values()}
    assert len(verdicts) > 1  # some pass


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    steps = (*CT[:3], transform("Spacingd", pixdim=(4.0, 4.0, 4.0)), *CT[3:])
    folder = tmp_path_factory.mktemp("model")
    return random_bundle(folder, features=(4, 8), roi_size=(16, 16, 16), preprocessing=steps)


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("nested")
    return random_bundle(
        folder, network="unetpp", features=(2, 2, 2, 2, 2, 2), roi_size=(32, 32, 32), classes=2
    )


@pytest.mark.parametrize("count", [90, pytest.param(3000, marks=pytest.mark.soak)])
def test_mutated_files_through_check(tmp_path: Path, count: int):
    write_mutants(tmp_path / "images", count)
    all_are_said(cases_of("check", tmp_path / "images"), count)
    report = cases_of("check", tmp_path / "images", "--content", "--output", tmp_path / "out")
    all_are_said(report, count)
    for page in (tmp_path / "out").rglob("check.json"):
        strict(page.read_text())


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.soak)])
def test_mutated_masks_through_check_and_fix(tmp_path: Path, count: int):
    write_mutants(tmp_path / "masks", count, mask=True)
    (tmp_path / "images").mkdir()
    image = sound(np.random.default_rng(1), nib.Nifti1Image, "i2")
    for name, _ in mutants(count, mask=True):
        (tmp_path / "images" / f"{name.split('.')[0]}.nii").write_bytes(image)
    wheres = (tmp_path / "images", "--masks", tmp_path / "masks")
    all_are_said(cases_of("check", *wheres), count)
    remedies = "reorient,resample-mask,sform"
    fixed = ("--content", "--fix", tmp_path / "fixed", "--remedies", remedies)
    all_are_said(cases_of("check", *wheres, *fixed), count)


@pytest.mark.parametrize("count", [16, pytest.param(300, marks=pytest.mark.soak)])
def test_mutated_files_through_plan_and_segment(tmp_path: Path, bundle: str, count: int):
    write_mutants(tmp_path / "images", count, seed=1)
    model = ("--model", bundle)
    all_are_said(cases_of("plan", tmp_path / "images", *model, "--no-measure"), count)
    said = cases_of(
        "segment", tmp_path / "images", *model, "--output", tmp_path / "out", "--cluster", "serial"
    )
    all_are_said(said, count)
    done = {name for name, one in said.items() if one["status"] == "done"}
    for ending in (".nii.gz", ".json"):
        written = {path.name.split("_dseg")[0] for path in (tmp_path / "out").glob(f"*{ending}")}
        assert written == done  # a case that is quarantined leaves nothing
    for path in (tmp_path / "out").rglob("*.json"):
        strict(path.read_text())


def test_an_infinite_qform_costs_its_own_case_only(tmp_path: Path):
    """A NIfTI-2 file whose qoffset_z is huge, beside a sound one."""
    data = sound(np.random.default_rng(1), nib.Nifti2Image, "i2")
    header = nib.Nifti2Header(data[:540])
    (tmp_path / "b.nii").write_bytes(data)
    for name, offset in (("a", -np.inf), ("c", 1e200)):
        header["qoffset_z"] = offset
        (tmp_path / f"{name}.nii").write_bytes(header.binaryblock + data[540:])
    said = cases_of("check", tmp_path)
    assert {name: one["verdict"] for name, one in said.items()} == {
        "a": "fail", "b": "pass", "c": "fail",
    }  # fmt: skip
    assert "affine_not_finite" in said["a"]["codes"]
    assert "affine_not_finite" in said["c"]["codes"]


TRAINED = shlex.split(
    "--steps 1 --classes 256 --features 4,8 --network unet --roi-size 16,16,16 --threads 1"
)
LOOKED = shlex.split("--windows 1 --groups 0 --voxels 500 --threads 1")


def pairs(folder: Path, count: int) -> list[Path | str]:
    """Write mutated images and masks, and four sound pairs; return how a command names them."""
    write_mutants(folder / "images", count, seed=2)
    write_mutants(folder / "masks", count, seed=3, mask=True)
    rng = np.random.default_rng(1)
    for kind, dtype in (("images", "i2"), ("masks", "u1")):
        for index in range(4):
            data = sound(rng, nib.Nifti1Image, dtype, mask=kind == "masks")
            (folder / kind / f"sound-{index}.nii").write_bytes(data)
    for mask in (folder / "masks").glob("m*"):  # half of the mutants have a sound partner
        if int(mask.name[1:5]) % 2:
            mask.unlink()
            (folder / "masks" / f"{mask.name[:5]}.nii").write_bytes(data)
    return [folder / "images", "--masks", folder / "masks"]


@pytest.mark.parametrize(
    ("command", "count"),
    [
        ("train", 12),
        *(pytest.param(one, 200, marks=pytest.mark.soak) for one in ("train", "depths")),
        *(pytest.param(one, 200, marks=pytest.mark.soak) for one in ("compare", "layers")),
    ],
)
def test_mutated_pairs_through_commands_on_masks(
    tmp_path: Path, nested: str, command: str, count: int
):
    images, _, masks = named = pairs(tmp_path, count)
    output = ("--output", tmp_path / "out")
    words = {
        "train": (images, masks, *output, *TRAINED),
        "depths": (*named, "--model", nested, *output, "--cluster", "serial"),
        "compare": (
            images,
            f"a={nested}",
            f"b={nested}",
            *named[1:],
            *output,
            "--cluster",
            "serial",
        ),
        "layers": (*named, "--model", nested, *output, *LOOKED),
    }[command]
    done = cli(command, *words, "--json")  # raises what is not said in a line
    assert done.returncode == 1, done.stderr
    for line in done.stdout.splitlines():
        strict(line)
    assert '"unexpected"' not in done.stdout
