"""TorchScript and torch.export files run as networks, where they are trusted."""

import shutil
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundles import random_bundle

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store

STORE = Store()


def as_program(folder: Path, kind: str) -> Path:
    """Write the bundle anew, its network as a program, without weights and network_def."""
    network = load_network(load_bundle(str(folder), STORE), STORE)
    target = folder.parent / kind
    shutil.copytree(folder, target)
    (target / "models/model.safetensors").unlink()
    x = torch.zeros(1, 1, 32, 32, 32)
    if kind == "pt2":
        torch.export.save(torch.export.export(network, (x,)), target / "models/model.pt2")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that TorchScript is to go
            torch.jit.save(torch.jit.trace(network, x), target / "models/model.ts")
    config = target / "configs/inference.json"
    config.write_text(config.read_text().replace('"network_def"', '"another_def"'))
    return target


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    random_bundle(folder / "plain", features=(4, 8), roi_size=(32, 32, 32))
    write_cohort(STORE, str(folder), 1)
    return folder


def label_map(place: Path, model: Path, *, trust: bool) -> np.ndarray:
    settings = SegmentSettings(
        images=str(place / "images"), model=str(model), output=str(place / f"out-{model.name}"),
        cluster=ClusterSettings(kind="serial", threads=1), trust=trust, resume=False,
    )  # fmt: skip
    (record,) = run_segment(open_segment(settings), SerialExecutor())
    assert record.status == "done", record.message
    return np.asanyarray(nib.load(record.output).dataobj)


@pytest.mark.filterwarnings("ignore:.*TorchScript.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["ts", "pt2"])
def test_a_program_gives_the_labels_of_its_network(place, kind):
    model = as_program(place / "plain", kind)
    with pytest.raises(RequestError, match="--trust") as caught:
        label_map(place, model, trust=False)
    assert caught.value.code == "program_untrusted"
    wanted = label_map(place, place / "plain", trust=False)
    found = label_map(place, model, trust=True)
    assert np.count_nonzero(found != wanted) <= 1e-4 * wanted.size
    assert np.unique(wanted).size > 1


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("name", ["model.ts", "model.pt2"])
def test_a_damaged_program_is_named(place, tmp_path, name):
    shutil.copytree(place / "plain", tmp_path / "broken")
    (tmp_path / "broken/models/model.safetensors").unlink()
    (tmp_path / "broken/models" / name).write_bytes(b"no program")
    loaded = load_bundle(str(tmp_path / "broken"), STORE, trust=True)
    with pytest.raises(RequestError, match="torch cannot load") as caught:
        load_network(loaded, STORE)
    assert caught.value.code == "bundle_invalid"
