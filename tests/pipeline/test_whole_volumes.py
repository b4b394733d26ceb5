"""``SimpleInferer``: the volume goes through the network whole, padded to the network's stride."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundles import random_bundle, transform
from command_line import cli, said
from monai.bundle.config_parser import ConfigParser
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import SimpleInferer
from monai.transforms.croppad.array import DivisiblePad
from monai.transforms.post.dictionary import Invertd

from unet_pipeline.config import SegmentSettings
from unet_pipeline.ensembles import open_first
from unet_pipeline.networks.bundle_writer import write_bundle
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.networks.registry import build_network
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.plan import SCORE_BYTES
from unet_pipeline.tiling.windows import in_volume, whole_window

AFFINE = np.diag([1.5, 1.5, 2.0, 1.0])
SHAPES = {"even": (24, 16, 16), "odd": (19, 22, 13), "tiny": (3, 2, 4)}


def simple(folder: Path) -> str:
    file = folder / "configs/inference.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "inferer": {"_target_": "SimpleInferer"}}))
    return str(folder)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("whole")
    random_bundle(folder, features=(4, 8, 8), preprocessing=[transform("ScaleIntensityd")])
    return simple(folder)  # of stride 4


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name, shape in SHAPES.items():
        values = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
        nib.save(nib.Nifti1Image(values, AFFINE), folder / f"{name}.nii.gz")
    return folder


def monais(network: torch.nn.Module, path: Path, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """MONAI's labels of the padded volume, cut back, and by how much the best score leads."""
    values = torch.from_numpy(np.asarray(nib.load(path).dataobj))[None]
    values = (values - values.min()) / (values.max() - values.min())
    pad = DivisiblePad(stride)
    with torch.inference_mode():
        scores = SimpleInferer()(pad(values)[None], network)[0]
    start = [(-n % stride) // 2 for n in values.shape[1:]]
    inside = [slice(a, a + n) for a, n in zip(start, values.shape[1:], strict=True)]
    top = scores[(slice(None), *inside)].as_tensor().sort(dim=0).values
    labels = scores[(slice(None), *inside)].as_tensor().argmax(0)
    return labels.numpy(), (top[-1] - top[-2]).numpy()


def test_a_volume_is_one_window_and_has_monais_labels(bundle, images, tmp_path):
    where = (images, "--model", bundle)
    out = ("--output", tmp_path / "out", "--cluster", "serial")
    done = said("segment", *where, *out)
    assert {(one["status"], one["windows"]) for one in done.values()} == {("done", 1)}
    planned = said("plan", *where, "--no-measure")
    windows = {name: one["window"] for name, one in planned.items()}
    assert windows == {"even": [24, 16, 16], "odd": [20, 24, 16], "tiny": [8, 4, 4]}
    network = load_network(load_bundle(bundle, Store()), Store()).eval()
    for name in ("even", "odd"):
        wanted, lead = monais(network, images / f"{name}.nii.gz", 4)
        found = np.asarray(nib.load(tmp_path / "out" / f"{name}_dseg.nii.gz").dataobj)
        assert len(np.unique(found)) > 1
        assert not ((found != wanted) & (lead > 1e-4)).any()
    tiled = ("--output", tmp_path / "tiled", "--cluster", "serial", "--tile", "7,8,9")
    said("segment", *where, *tiled)
    for name in SHAPES:
        one, other = (tmp_path / d / f"{name}_dseg.nii.gz" for d in ("out", "tiled"))
        assert one.read_bytes() == other.read_bytes()
    assert said("segment", *where, *out)["odd"]["status"] == "skipped"
    assert cli("plan", *where).returncode == 0


def test_a_resized_volume_goes_through_whole_and_comes_back_as_with_monai(images, tmp_path):
    resized = transform("Resized", spatial_size=[16, 12, 16], mode="trilinear")
    preprocessing = [
        transform("LoadImaged"), transform("EnsureChannelFirstd"), transform("ScaleIntensityd"),
        resized,
    ]  # fmt: skip
    random_bundle(tmp_path / "model", features=(4, 8, 8), preprocessing=preprocessing)
    model = simple(tmp_path / "model")
    file = images / "odd.nii.gz"
    done = said("segment", file, "--model", model, "--output", tmp_path, "--cluster", "serial")
    assert done["odd"]["windows"] == 1
    config = ConfigParser({"preprocessing": {"_target_": "Compose", "transforms": preprocessing}})
    transforms = config.get_parsed_content("preprocessing")
    case = transforms({"image": str(file)})
    network = load_network(load_bundle(model, Store()), Store()).eval()
    with torch.inference_mode():
        scores = SimpleInferer()(case["image"][None], network)[0]
    case["pred"] = MetaTensor(scores.as_tensor(), meta=case["image"].meta)
    scores = Invertd("pred", transforms, orig_keys="image", nearest_interp=False)(case)["pred"]
    top = scores.as_tensor().sort(dim=0).values
    found = np.asarray(nib.load(tmp_path / "odd_dseg.nii.gz").dataobj)
    assert len(np.unique(found)) > 1
    lead = (top[-1] - top[-2]).numpy()
    assert not ((found != scores.as_tensor().argmax(0).numpy()) & (lead > 1e-4)).any()


def test_what_the_network_would_take_is_known_from_the_header_and_refused(bundle, tmp_path):
    large = np.zeros((128, 128, 128), np.uint8)
    nib.save(nib.Nifti1Image(large, AFFINE), tmp_path / "large.nii.gz")
    nib.save(nib.Nifti1Image(large[:9, :9, :9], AFFINE), tmp_path / "small.nii.gz")
    limit = ("--memory-gb", 0.05)
    where = (tmp_path, "--model", bundle)
    for command in (
        ("check", *where),
        ("plan", *where, "--no-measure", *limit),
        ("segment", *where, *limit, "--output", tmp_path / "out", "--cluster", "serial"),
    ):
        found = said(*command)
        if command[0] == "check":  # with the usual budget
            assert found["large"]["verdict"] == "pass"
            continue
        assert found["large"]["code"] == "window_too_large"
        assert "--memory-gb" in found["large"]["message"]
    assert found["small"]["code"] == "image_constant"


def test_an_ensemble_takes_the_memory_of_its_largest_member(bundle, images, tmp_path):
    random_bundle(tmp_path, features=(16, 8, 8), preprocessing=[transform("ScaleIntensityd")])
    other = simple(tmp_path)

    def bytes_of(model: str, *members: str) -> int:
        asked = SegmentSettings(images="a", output="b", model=model, ensemble=members)
        return open_first(asked, Store()).policy.layout.voxel_bytes

    assert bytes_of(bundle) < (large := bytes_of(other))
    assert (
        bytes_of(bundle, other) == large + 3 * SCORE_BYTES
    )  # the sum of the scores of three classes beside
    where = (images / "odd.nii.gz", "--model", bundle, "--ensemble", other)
    (done,) = said("segment", *where, "--output", tmp_path / "out", "--cluster", "serial").values()
    assert (done["status"], done["windows"]) == ("done", 1)


def test_a_2d_network_takes_each_slice_whole(tmp_path):
    made = {"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 3,
            "channels": [4, 8], "strides": [2]}  # fmt: skip
    network = build_network(made, seed=3).eval()
    write_bundle(
        str(tmp_path / "flat"), Store(), network=network, network_def=made,
        preprocessing=[transform("ScaleIntensityd")], roi_size=(16, 16, 1), overlap=0.25,
        labels=dict(enumerate("abc")), channel_names=["image"], model_card="", licence="",
        metadata={}, slice_axis=2,
    )  # fmt: skip
    model = simple(tmp_path / "flat")
    values = np.random.default_rng(1).normal(0, 1, (13, 18)).astype(np.float32)
    (tmp_path / "images").mkdir()
    file = tmp_path / "images" / "a.nii.gz"
    nib.save(nib.Nifti1Image(values, AFFINE), file)
    out = ("--output", tmp_path / "out", "--cluster", "serial")
    assert said("segment", tmp_path / "images", "--model", model, *out)["a"]["windows"] == 1
    wanted, lead = monais(network, file, 2)
    found = np.asarray(nib.load(tmp_path / "out" / "a_dseg.nii.gz").dataobj)
    assert found.shape == values.shape
    assert not ((found != wanted) & (lead > 1e-4)).any()


def test_engines_that_compile_a_window_are_refused_and_bundles_say_what_they_do(bundle, images):
    run = ("segment", images, "--model", bundle, "--output", "memory://out", "--cluster", "serial")
    refused = cli(*run, "--engine", "compiled")
    assert refused.returncode == 2
    assert "engine_unsupported" in refused.stderr
    inspected = cli("bundle", "inspect", bundle, "--json")
    assert json.loads(inspected.stdout)["roi_size"] == "the whole volume"


def test_windows_of_whole_volumes():
    assert whole_window((24, 16, 17), in_volume((8, 8, 8))) == (24, 16, 24)
    assert whole_window((1, 8, 8), in_volume((8, 8, 8))) == (16, 8, 8)
    assert whole_window((10, 30, 99), in_volume((4, 4))) == (12, 32, 1)
    assert whole_window((1, 1, 1), in_volume((1, 1, 1))) == (2, 1, 1)
