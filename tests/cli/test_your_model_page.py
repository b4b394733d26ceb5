"""From a MONAI tutorial's checkpoint to a run, following docs/your-model.md to the letter."""

import json
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from cohorts import write_tiny
from command_line import cli
from monai.bundle.config_parser import ConfigParser
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import SliceInferer
from monai.inferers.utils import sliding_window_inference
from monai.losses.dice import DiceCELoss
from monai.networks.layers.factories import Norm
from monai.networks.nets.unet import UNet
from monai.transforms.compose import Compose
from monai.transforms.croppad.dictionary import CropForegroundd
from monai.transforms.intensity.dictionary import ScaleIntensityRanged
from monai.transforms.io.dictionary import LoadImaged
from monai.transforms.post.dictionary import Invertd
from monai.transforms.spatial.dictionary import Orientationd, Spacingd
from monai.transforms.utility.dictionary import EnsureChannelFirstd

from unet_pipeline.networks.from_weights import arguments_of
from unet_pipeline.networks.network_text import parse_network
from unet_pipeline.networks.registry import build_network
from unet_pipeline.storage.store import Store

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your-model.md"
RAS = (("L", "R"), ("P", "A"), ("I", "S"))


def commands(page: str) -> list[list[str]]:
    """The commands of a page: its indented blocks, lines that end with a backslash joined."""
    blocks = "\n".join(line[4:] for line in page.splitlines() if line.startswith("    "))
    lines = blocks.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("unet-pipeline ")]


def tutorial_transforms():
    """The preprocessing of spleen_segmentation_3d."""
    return Compose(
        [
            LoadImaged(keys=["image"]),
            EnsureChannelFirstd(keys=["image"]),
            Orientationd(keys=["image"], axcodes="RAS", labels=RAS),
            Spacingd(keys=["image"], pixdim=(1.5, 1.5, 2.0), mode="bilinear"),
            ScaleIntensityRanged(
                keys=["image"], a_min=-57, a_max=164, b_min=0.0, b_max=1.0, clip=True
            ),
            CropForegroundd(keys=["image"], source_key="image"),
        ]
    )


def tutorial_network():
    return UNet(
        spatial_dims=3, in_channels=1, out_channels=2, channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2), num_res_units=2, norm=Norm.BATCH,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Scans, masks, and the checkpoint of a few steps of the tutorial's training."""
    folder = tmp_path_factory.mktemp("tutorial")
    write_tiny(Store(), str(folder), 1)
    (folder / "images").rename(folder / "scans")
    for place in (folder / "masks").iterdir():  # one organ, as in the tutorial
        mask = nib.load(place)
        values = (np.asanyarray(mask.dataobj) > 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(values, mask.affine), place)
    torch.manual_seed(0)
    network, loss = tutorial_network(), DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    scan = nib.load(folder / "scans/phantom-01.nii.gz")
    organ = np.asanyarray(nib.load(folder / "masks/phantom-01.nii.gz").dataobj)
    values = np.clip((np.asanyarray(scan.dataobj, np.float32) + 57) / 221, 0, 1)
    image, target = (
        torch.from_numpy(a)[None, None, :32, :32, :32].float() for a in (values, organ)
    )
    for _ in range(4):
        optimiser.zero_grad()
        loss(network(image), target).backward()
        optimiser.step()
    with torch.inference_mode():  # after a few steps of batch norm, so that both labels are found
        scores = network.eval()(image)[0]
        lead = torch.quantile((scores[0] - scores[1]).flatten(), 0.8)
        network.state_dict()["model.2.1.conv.unit0.conv.bias"][1] += lead
    torch.save(network.state_dict(), folder / "best_metric_model.pth")
    return folder, network


def as_the_tutorial_runs_it(network, path):
    """Labels on the file's grid, by MONAI alone, and the lead of the higher score there."""
    transforms = tutorial_transforms()
    case = transforms({"image": str(path)})
    with torch.inference_mode():
        scores = sliding_window_inference(case["image"][None], (160, 160, 160), 1, network)
    case["pred"] = MetaTensor(scores[0].as_tensor(), meta=case["image"].meta)
    inverse = Invertd(
        keys="pred", transform=transforms, orig_keys="image", nearest_interp=False, to_tensor=True
    )
    found = inverse(case)["pred"].numpy()
    return found.argmax(0), np.abs(found[1] - found[0])


def test_the_page_leads_from_a_checkpoint_to_label_maps(trained, monkeypatch):
    folder, network = trained
    monkeypatch.chdir(folder)
    words = commands(PAGE.read_text())
    assert [" ".join(one[:2]) for one in words] == [
        "bundle make", "bundle make", "bundle inspect", "plan scans", "segment scans",
    ]  # fmt: skip
    for command in words:
        done = cli(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    same = [
        Path(name, "models/model.safetensors").read_bytes() for name in ("spleen", "spleen-short")
    ]
    assert same[0] == same[1]
    wanted, lead = as_the_tutorial_runs_it(network, "scans/phantom-01.nii.gz")
    found = np.asanyarray(nib.load("labels/phantom-01_dseg.nii.gz").dataobj)
    differ = found != wanted
    assert not (differ & (lead > 1e-4)).any()
    assert 0 < found.mean() < 1
    record = json.loads(Path("labels/phantom-01_dseg.json").read_text())
    assert record["labels"] == {"0": "background", "1": "spleen"}


def test_all_that_lacks_is_asked_for_at_once(trained, tmp_path):
    folder, _ = trained
    make = ("bundle", "make", folder / "best_metric_model.pth", "--output", tmp_path / "out")
    refused = cli(*make, "--network", "UNet")
    assert refused.returncode == 2
    assert "no --spacing, no --intensity, no --window" in refused.stderr
    rest = ("--spacing", "2,2,2", "--intensity", "minmax", "--window", "32,32,32")
    refused = cli(*make, "--network", "UNet", *rest)
    assert "network_incomplete" in refused.stderr
    assert "strides" in refused.stderr
    full = ("--network", "UNet(strides=(2,2,2,2))", *rest)
    refused = cli(*make, *full, "--labels", "a,b,c")
    assert "each of the network's 2 output channels" in refused.stderr
    assert not (tmp_path / "out").exists()
    assert cli(*make, *full).returncode == 0
    assert "bundle_exists" in cli(*make, *full).stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--network", "NoSuchNet(a=1)"), "network_unknown"),
        (("--network", "UNet(strides=__import__('os').getcwd())"), "network_invalid"),
        (("--network", "UNet(strides=(2, 2))"), "network_invalid"),
        (("--network", "UNet(strides=(2, 2, 2, 2), num_res_units=1)"), "weights_mismatch"),
        (("--network", "UNet(strides=(2, 2, 2, 2))", "--window", "33,32,32"), "roi_size_invalid"),
        (("--network", "UNet(strides=(2, 2, 2, 2))", "--intensity", "hu"), "setting_invalid"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(trained, tmp_path, words, code):
    folder, _ = trained
    usual = ("--spacing", "2,2,2", "--intensity", "minmax", "--window", "32,32,32")
    place = tmp_path / "out"
    refused = cli(
        "bundle", "make", folder / "best_metric_model.pth", "--output", place, *usual, *words
    )
    assert refused.returncode == 2
    assert code in refused.stderr
    assert not place.exists()


def test_one_sigmoid_channel_is_named_by_its_label(tmp_path):
    network = UNet(3, 1, 1, channels=(4, 8), strides=(2,))
    torch.save({"model_state_dict": network.state_dict()}, tmp_path / "weights.pt")
    done = cli(
        "bundle", "make", tmp_path / "weights.pt", "--network", "UNet(strides=[2])", "--spacing",
        "file", "--intensity", "zscore", "--window", "16,16,16", "--labels", "lesion",
        "--output", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["labels"] == {"0": "background", "1": "lesion"}


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        ("UNet(2, 3, 4, (4, 8), (2,), norm=Norm.BATCH, num_res_units=1)", {"strides": [2]}),
        ("UNet(3, 1, 2, (4, 8, 16), (2, 2), kernel_size=5)", {"strides": [2, 2]}),
        ("BasicUNet(3, 2, 5, (4, 4, 8, 8, 16, 4))", {}),
        ("SegResNet(3, init_filters=8, in_channels=2, out_channels=3, blocks_up=(1, 1, 1))", {}),
        ("DynUNet(3, 1, 4, (3, 3, 3), (1, 2, 2), (2, 2))",
         {"kernel_size": [3] * 3, "strides": [1, 2, 2], "upsample_kernel_size": [2] * 2}),
        ("VNet(spatial_dims=3, in_channels=1, out_channels=2)", {}),
        ("AttentionUnet(3, 1, 2, (4, 8), (2,))", {"channels": [4, 8], "strides": [2]}),
    ],
)  # fmt: skip
def test_what_the_weights_say_is_not_asked_for(text, lacking):
    made = parse_network(text)
    state = build_network(made, seed=0).state_dict()
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    name = made["_target_"]
    read = build_network({"_target_": name, **arguments_of(name, wrapped), **lacking}).state_dict()
    assert {k: v.shape for k, v in read.items()} == {k: v.shape for k, v in state.items()}


def test_a_2d_network_becomes_a_bundle_that_takes_slices_as_monai_does(tmp_path):
    torch.manual_seed(0)
    network = UNet(2, 1, 3, channels=(4, 8), strides=(2,)).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    write_tiny(Store(), str(tmp_path), 1)
    scan = tmp_path / "images/phantom-01.nii.gz"
    make = ("bundle", "make", tmp_path / "weights.pt", "--network", "UNet(strides=[2])",
            "--spacing", "2,2", "--intensity", "range:-200,300",
            "--slices-along", "x")  # fmt: skip
    refused = cli(*make, "--window", "16,16,16", "--output", tmp_path / "out")
    assert "2 sizes in voxels, X,Y" in refused.stderr
    assert not (tmp_path / "out").exists()
    done = cli(*make, "--window", "16,16", "--output", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    run = ("--model", tmp_path / "out", "--output", tmp_path / "labels", "--cluster", "serial")
    assert cli("segment", scan, *run).returncode == 0
    config = ConfigParser(json.loads((tmp_path / "out/configs/inference.json").read_text()))
    inferer = config.get_parsed_content("inferer")
    assert (type(inferer), inferer.spatial_dim) == (SliceInferer, 0)
    transforms = config.get_parsed_content("preprocessing")
    case = transforms({"image": str(scan)})
    with torch.inference_mode():
        scores = inferer(case["image"][None], network)
    case["pred"] = MetaTensor(scores[0].as_tensor(), meta=case["image"].meta)
    inverse = Invertd(
        keys="pred", transform=transforms, orig_keys="image", nearest_interp=False, to_tensor=True
    )
    wanted = inverse(case)["pred"].numpy()
    best, lead = wanted.argmax(0), np.diff(np.sort(wanted, axis=0)[-2:], axis=0)[0]
    found = np.asanyarray(nib.load(tmp_path / "labels/phantom-01_dseg.nii.gz").dataobj)
    assert not ((found != best) & (lead > 1e-4)).any()
    assert len(np.unique(found)) > 1
