import json

import numpy as np
import pytest
from bundles import random_bundle
from monai.bundle import ConfigWorkflow

from unet_pipeline.evaluation.prediction import LabelCurve
from unet_pipeline.networks.bundle_writer import standard_preprocessing
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.decoding import read_labels
from unet_pipeline.volume.formats.nifti_header import HEADER_BYTES, parse_header

MONAI_KEYS = {
    "schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version",
    "required_packages_version", "task", "description", "authors", "copyright",
    "network_data_format",
}  # fmt: skip
TENSOR_KEYS = {
    "type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data",
    "channel_def",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    random_bundle(
        tmp_path / "model",
        network="unetpp",
        features=(4, 4, 4, 4, 4),
        preprocessing=standard_preprocessing((2.5, 2.5, 2.5)),
    )
    return tmp_path / "model"


def test_the_files_are_those_of_a_monai_bundle(folder):
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "configs/metadata.json",
        "configs/inference.json",
        "models/model.safetensors",
        "models/example.safetensors",
        "docs/README.md",
        "docs/license.txt",
        ".unet-pipeline.json",  # what is ours here
    }
    metadata = json.loads((folder / "configs/metadata.json").read_text())
    assert metadata.keys() >= MONAI_KEYS
    data_format = metadata["network_data_format"]
    for tensor in (data_format["inputs"]["image"], data_format["outputs"]["pred"]):
        assert tensor.keys() >= TENSOR_KEYS
        assert tensor["num_channels"] == len(tensor["channel_def"])


@pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")
def test_monai_alone_makes_a_label_map_of_every_image(folder, tmp_path):
    store, data = Store(), tmp_path / "data"
    names = write_cohort(store, str(data), 3)
    workflow = ConfigWorkflow(
        config_file=str(folder / "configs/inference.json"),
        logging_file=False,
        bundle_root=str(folder),
        dataset_dir=str(data / "images"),
        output_dir=str(tmp_path / "out"),
    )
    workflow.initialize()
    [saved] = workflow.run()

    assert saved == [str(tmp_path / "out" / f"{name}_dseg.nii.gz") for name in names]
    for name, path in zip(names, saved, strict=True):
        image = parse_header(store.read_range(f"{data}/images/{name}.nii.gz", 0, HEADER_BYTES))
        labels = parse_header(store.read_range(path, 0, HEADER_BYTES))
        assert labels.grid.shape == image.grid.shape
        np.testing.assert_allclose(labels.grid.affine, image.grid.affine, atol=1e-4)
        assert labels.dtype == np.uint8
        labels_XYZ, _ = read_labels(store, path, budget_bytes=10**9)
        assert set(np.unique(labels_XYZ)) <= {0, 1, 2}
        assert len(np.unique(labels_XYZ)) > 1


def test_what_a_training_learned_of_its_dice_is_in_the_bundle_until_it_is_replaced(tmp_path):
    curve = LabelCurve(20, 0.5, (0.5, 0.9), (0.4, 0.8), -0.2, 0.5)
    url = random_bundle(
        tmp_path / "bundle", features=(4, 8), dice_curves={"1": curve}, dice_cases=["a"]
    )
    bundle = load_bundle(url, Store())
    run = {"roi_size": [32, 32, 32], "overlap": 0.5, "blend": "gaussian", "depth": None}
    assert bundle.dice_calibration.labels == {"1": curve}
    assert bundle.dice_calibration.holds_for(bundle.weights_digest, run)
    assert load_bundle(random_bundle(tmp_path / "bundle"), Store()).dice_calibration is None
