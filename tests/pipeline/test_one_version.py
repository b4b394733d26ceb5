"""One version of an object per case: whatever is replaced, no label map is of a mixture."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundles import random_bundle

from unet_pipeline import pipeline, shared_volume
from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.gate.examine import Policy, examine
from unet_pipeline.gate.inspect import inspect
from unet_pipeline.jobs.segment import open_segment, segment_case
from unet_pipeline.records import Case
from unet_pipeline.storage.store import Store

SERIAL = ClusterSettings(kind="serial", threads=1)


def volume(path: Path, seed: int, shift: float = 0.0, mask: bool = False) -> Path:
    values = np.random.default_rng(seed).integers(0, 2 if mask else 300, (20, 18, 16))
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 3] = shift
    image = nib.Nifti1Image(values.astype(np.int16), affine)
    path.parent.mkdir(exist_ok=True)
    nib.save(image, path)
    return path


@pytest.fixture
def place(tmp_path):
    """An image and a mask, another version of both, and a bundle."""
    for folder, seed, shift in (("now", 0, 0.0), ("later", 1, 40.0)):
        volume(tmp_path / folder / "a.nii.gz", seed, shift)
        volume(tmp_path / folder / "a_mask.nii.gz", seed, shift, mask=True)
    return tmp_path, random_bundle(tmp_path / "bundle", features=(4, 8))


def opened(root, bundle, output):
    settings = SegmentSettings(
        images=str(root / "now"), masks=str(root / "now"), model=bundle, output=str(output),
        cluster=SERIAL, resume=False,
    )  # fmt: skip
    run = open_segment(settings)
    return run, run.cases[0]


def labels_of(url):
    image = nib.load(url)
    return np.asarray(image.dataobj), image.affine


def replaced_before(monkeypatch, where, root, times):
    """Put the later version in place before a call of the workers, as often as ``times`` says."""
    module, name = where
    called, act = [], getattr(module, name)
    versions = ["later", "first"]

    def after(*arguments):
        if len(called) < times:
            source = root / versions[len(called) % 2]
            for file in source.iterdir():
                shutil.copy(file, root / "now" / file.name)
        called.append(name)
        return act(*arguments)

    monkeypatch.setattr(module, name, after)


@pytest.mark.parametrize("when", [(shared_volume, "read_case"), (pipeline, "finish_case")])
def test_a_replaced_input_is_begun_again_once_with_the_new_one(place, monkeypatch, when):
    root, bundle = place
    wanted = root / "wanted"
    shutil.copytree(root / "now", root / "first")
    shutil.copytree(root / "later", root / "kept")
    (root / "first").rename(root / "aside")
    shutil.rmtree(root / "now")
    shutil.copytree(root / "kept", root / "now")
    run, case = opened(root, bundle, wanted)
    expected = segment_case(run, case, SerialExecutor())
    assert expected.status == "done", expected.message
    shutil.rmtree(root / "now")
    (root / "aside").rename(root / "first")
    shutil.copytree(root / "first", root / "now")
    run, case = opened(root, bundle, root / "out")
    replaced_before(monkeypatch, when, root, times=1)
    record = segment_case(run, case, SerialExecutor())
    assert record.status == "done", record.message
    for found, right in zip(labels_of(record.output), labels_of(expected.output), strict=True):
        np.testing.assert_array_equal(found, right)
    assert record.dice == expected.dice


def test_an_input_that_is_replaced_again_and_again_costs_its_case(place, monkeypatch):
    root, bundle = place
    shutil.copytree(root / "now", root / "first")
    run, case = opened(root, bundle, root / "out")
    replaced_before(monkeypatch, (shared_volume, "read_case"), root, times=2)
    assert segment_case(run, case, SerialExecutor()).code == "input_changed"
    assert not list((root / "out").glob("*_dseg*"))


@pytest.mark.parametrize("file", ["a.nii.gz", "a_mask.nii.gz"])
def test_each_file_that_changes_behind_the_gate_is_named(place, monkeypatch, file):
    root, _ = place
    case = Case("a", (str(root / "now" / "a.nii.gz"),), str(root / "now" / "a_mask.nii.gz"))

    def examined_then_replaced(*arguments):
        found = examine(*arguments)
        shutil.copy(root / "later" / file, root / "now" / file)
        return found

    monkeypatch.setattr("unet_pipeline.gate.inspect.examine", examined_then_replaced)
    found = inspect(Store(), case, Policy(), content=False)
    assert found.findings[0].code == "input_changed"


@pytest.mark.parametrize("half", ["a.hdr", "a.img"])
def test_either_half_of_a_pair_that_changes_is_named(tmp_path, monkeypatch, half):
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    nib.save(nib.Nifti1Pair(values, np.eye(4)), tmp_path / "a.img")
    case = Case("a", (str(tmp_path / "a.hdr"),))

    def examined_then_replaced(*arguments):
        found = examine(*arguments)
        path = tmp_path / half
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
        return found

    monkeypatch.setattr("unet_pipeline.gate.inspect.examine", examined_then_replaced)
    found = inspect(Store(), case, Policy(), content=False)
    assert found.findings[0].code == "input_changed"
