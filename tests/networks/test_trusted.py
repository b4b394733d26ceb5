"""Bundles whose own code decides something: refused without trust, run by MONAI with it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
import torch
from bundles import CT, random_bundle
from safetensors.torch import save_file

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.networks.trusted import BundleCode
from unet_pipeline.opening import open_model
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store

STORE = Store()
NETWORK = """
from pathlib import Path

import torch

from scripts.factor import FACTOR

{also}
class Scaled(torch.nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.mix = torch.nn.Conv3d(in_channels, out_channels, 3, padding=1)

    def forward(self, x):
        return FACTOR * self.mix(x)
"""


@pytest.fixture
def plain(tmp_path) -> Path:
    random_bundle(tmp_path / "plain", features=(4, 8), roi_size=(32, 32, 32), overlap=0.25)
    return tmp_path / "plain"


def edit(folder: Path, **changes) -> None:
    path = folder / "configs/inference.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def with_scripts(folder: Path, factor: int = 1, also: str = "") -> Path:
    """Write a bundle whose network is a class of its own ``scripts`` package."""
    random_bundle(folder, features=(4, 8), roi_size=(32, 32, 32))
    edit(folder, network_def={"_target_": "scripts.nets.Scaled", "in_channels": 1,
                              "out_channels": 3})  # fmt: skip
    torch.manual_seed(0)
    convolution = torch.nn.Conv3d(1, 3, 3, padding=1)
    weights = {f"mix.{name}": value for name, value in convolution.state_dict().items()}
    save_file(weights, folder / "models/model.safetensors")
    for name, text in {
        "__init__": "",
        "factor": f"FACTOR = {factor}\n",
        "nets": NETWORK.format(also=also),
    }.items():
        (folder / "scripts").mkdir(exist_ok=True)
        (folder / f"scripts/{name}.py").write_text(text)
    return folder


def leaves_a_mark(mark: Path) -> str:
    return f"Path({str(mark)!r}).touch()\n\n"


def scores_of(folder: Path | str, store: Store = STORE) -> torch.Tensor:
    network = load_network(load_bundle(str(folder), store, trust=True), store)
    x = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return network(x)


def refused(folder: Path, *, trust: bool) -> RequestError:
    with pytest.raises(RequestError) as caught:
        load_network(load_bundle(str(folder), STORE, trust=trust), STORE)
    return caught.value


@pytest.mark.parametrize(
    "network_def",
    [
        "$monai.networks.nets.UNet(3, 1, 3, @widths, [2], num_res_units=2, norm='instance')",
        {"_target_": "UNet", "spatial_dims": "$math.ceil(2.5)", "in_channels": 1,
         "out_channels": "$len('abc')", "channels": "@widths", "strides": "$torch.tensor([2])",
         "num_res_units": 2, "norm": "instance"},
    ],
    ids=["a call", "arguments"],
)  # fmt: skip
def test_expressions_are_evaluated_where_they_are_trusted(plain, network_def):
    wanted = scores_of(plain)
    edit(plain, network_def=network_def, widths="$[4 * 2**i for i in range(2)]",
         imports=["$import math"], inferer={"roi_size": "$[32] * 3", "overlap": "$math.log2(1.25)",
                                            "mode": "$'gaussian'.lower()"})  # fmt: skip
    error = refused(plain, trust=False)
    assert error.code == "bundle_expression"
    assert "--trust" in error.remedy
    bundle = load_bundle(str(plain), STORE, trust=True)
    assert bundle.roi_size == (32, 32, 32)
    assert bundle.overlap == pytest.approx(0.3219, abs=1e-4)
    assert bundle.blend == "gaussian"
    assert (bundle.in_channels, bundle.out_channels) == (1, 3)
    assert torch.equal(scores_of(plain), wanted)


def test_lists_of_transforms_that_are_added_up_become_our_steps(plain):
    settings = SegmentSettings(images="-", model=str(plain), output="-", trust=True)
    wanted = open_model(settings, STORE).steps
    first, last = list(CT[:3]), list(CT[3:])
    last[0] = {**last[0], "a_min": "$-2 * @scale", "a_max": "$float(np.float32(3) * @scale)"}
    last[1] = {**last[1], "dtype": "$torch.float32", "device": "$torch.device('cpu')"}
    both = {"_target_": "Compose", "transforms": "$@first + @last"}
    edit(plain, preprocessing=both, first=first, last=last, scale=100)
    assert open_model(settings, STORE).steps == wanted
    edit(plain, last=[*last, {"_target_": "RandFlipd", "keys": "image"}])
    with pytest.raises(RequestError, match="RandFlipd") as caught:
        open_model(settings, STORE)
    assert caught.value.code == "transform_unsupported"


def test_code_runs_only_with_trust(tmp_path):
    mark = tmp_path / "the code ran"
    folder = with_scripts(tmp_path / "own", also=leaves_a_mark(mark))
    error = refused(folder, trust=False)
    assert error.code == "network_unknown"
    assert "--trust" in error.remedy
    assert not mark.exists()
    assert scores_of(folder).shape == (1, 3, 32, 32, 32)
    assert mark.exists()


def test_trust_runs_nothing_that_is_not_needed(plain, tmp_path):
    mark = tmp_path / "the code ran"
    (plain / "scripts").mkdir()
    (plain / "scripts/__init__.py").write_text(f"open({str(mark)!r}, 'w').close()")
    edit(plain, imports=["$import scripts"], unneeded=f"$open({str(mark)!r}, 'w').close()")
    trusted = load_bundle(str(plain), STORE, trust=True)
    assert trusted == load_bundle(str(plain), STORE)
    load_network(trusted, STORE)
    assert not mark.exists()


def test_two_bundles_with_scripts_of_one_name_do_not_meet(tmp_path, monkeypatch):
    ours = ModuleType("scripts")
    monkeypatch.setitem(sys.modules, "scripts", ours)
    path, names = list(sys.path), set(sys.modules)
    one, three = (with_scripts(tmp_path / f"times {n}", factor=n) for n in (1, 3))
    once = scores_of(one)
    assert torch.equal(scores_of(three), 3 * once)
    assert torch.equal(scores_of(one), once)
    assert sys.path == path
    assert sys.modules["scripts"] is ours
    assert not [name for name in set(sys.modules) - names if name.startswith("scripts")]


def test_a_bundle_in_a_bucket_brings_its_scripts(tmp_path, s3):
    folder, url = with_scripts(tmp_path / "own", factor=2), f"{s3.bucket()}/models/own"
    for file in (path for path in folder.rglob("*") if path.is_file()):
        s3.store.write(f"{url}/{file.relative_to(folder).as_posix()}", file.read_bytes())
    assert torch.equal(scores_of(url, s3.store), scores_of(folder))
    assert BundleCode.fetch(url, s3.store).digest == BundleCode.fetch(str(folder), STORE).digest


@pytest.mark.parametrize("file", ["scripts/factor.py", "scripts/new.py", "configs/inference.json"])
def test_a_changed_script_is_a_changed_bundle(tmp_path, file):
    folder = with_scripts(tmp_path / "own")
    before = load_bundle(str(folder), STORE, trust=True)
    assert load_bundle(str(folder), STORE, trust=True) == before
    with (folder / file).open("a") as script:
        script.write("\n")
    after = load_bundle(str(folder), STORE, trust=True)
    assert after.config_digest != before.config_digest
    assert after.weights_digest == before.weights_digest
    with pytest.raises(RequestError) as caught:
        load_network(before, STORE)
    assert caught.value.code == "bundle_changed"


def test_code_that_fails_is_named_with_its_cause(tmp_path):
    folder = with_scripts(tmp_path / "own", also="raise ImportError('no module tea')\n")
    error = refused(folder, trust=True)
    assert error.code == "bundle_code_failed"
    assert "tea" in error.found or "Scaled" in error.found
    edit(folder, network_def="$1 / 0")
    assert "ZeroDivisionError" in refused(folder, trust=True).found
    edit(folder, network_def="$dict(a=1)")
    assert refused(folder, trust=True).found == "a network_def that makes a dict"
    edit(folder, inferer={"roi_size": "$lambda: 32"})
    error = refused(folder, trust=True)
    assert error.code == "bundle_expression"
    assert "a function" in error.found


def test_more_than_code_is_not_fetched(plain):
    (plain / "scripts").mkdir()
    (plain / "scripts/data.json").write_bytes(bytes(17 * 2**20))
    edit(plain, inferer={"roi_size": "$[32] * 3"})
    error = refused(plain, trust=True)
    assert error.code == "bundle_invalid"
    assert "16 MiB" in error.found


def segmented(folder: Path, images: Path, output: Path) -> np.ndarray:
    settings = SegmentSettings(
        images=str(images), model=str(folder), output=str(output), trust=True,
        cluster=ClusterSettings(kind="serial", threads=1),
    )  # fmt: skip
    (record,) = run_segment(open_segment(settings), SerialExecutor())
    assert record.status == "done", record.message
    return np.asanyarray(nib.load(record.output).dataobj)


def test_a_network_that_breaks_its_promise_is_refused_before_work_starts(tmp_path):
    write_cohort(STORE, str(tmp_path), 1)
    folder = with_scripts(tmp_path / "own")
    script = folder / "scripts/nets.py"
    script.write_text(script.read_text().replace("padding=1", "padding=0"))
    with pytest.raises(RequestError, match="30, 30, 30") as caught:
        segmented(folder, tmp_path / "images", tmp_path / "out")
    assert caught.value.code == "network_invalid"


@pytest.mark.slow
def test_monais_own_run_of_a_trusted_bundle_gives_the_same_label_map(tmp_path):
    write_cohort(STORE, str(tmp_path), 1)
    folder = with_scripts(tmp_path / "own", factor=2)
    edit(folder, widths="$[32] * 3", inferer={"_target_": "SlidingWindowInferer",
         "roi_size": "$list(@widths)", "overlap": 0.25, "mode": "gaussian"})  # fmt: skip
    found = segmented(folder, tmp_path / "images", tmp_path / "out")
    command = [
        sys.executable, "-m", "monai.bundle", "run", "--logging_file", "False",
        "--config_file", "configs/inference.json", "--meta_file", "configs/metadata.json",
        "--dataset_dir", str(tmp_path / "images"), "--output_dir", str(tmp_path / "monai"),
    ]  # fmt: skip
    python_path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    subprocess.run(command, check=True, capture_output=True, timeout=200, cwd=folder,
                   env={**os.environ, "PYTHONPATH": python_path})  # fmt: skip
    (written,) = (tmp_path / "monai").rglob("*_dseg.nii.gz")
    wanted = np.asarray(nib.load(written).dataobj)
    assert np.unique(wanted).size > 1
    assert np.count_nonzero(found != wanted) <= wanted.size / 10_000
