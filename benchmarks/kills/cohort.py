"""A cohort of tiny cases, and the label maps of a run over it that nobody disturbs."""

from pathlib import Path

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import SegmentSettings
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.networks.bundle_writer import write_bundle
from unet_pipeline.networks.family import network_def
from unet_pipeline.networks.registry import build_network
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.formats.nifti_voxels import encode_labels
from unet_pipeline.volume.header import header_of

SHAPE, SPACING_MM = (32, 30, 28), (2.0, 2.0, 2.0)  # one window
MODEL, CLASSES, FEATURES = "model", 3, (4, 8)


def write_cohort(root: Path, number: int) -> None:
    """Write images and model below a folder, if they are not there yet."""
    store = Store()
    write_model(root / MODEL)
    for seed in range(number):
        url = str(root / "images" / f"case-{seed:03d}.nii.gz")
        if store.find(url) is None:
            phantom = make_phantom(seed, SHAPE, SPACING_MM)
            image_XYZ = phantom.image_XYZ
            header = header_of(image_XYZ.shape, phantom.affine, image_XYZ.dtype)
            store.write(url, encode_labels(image_XYZ, header))


def write_model(folder: Path) -> None:
    """Write a small network of random weights, if it is not there yet."""
    if folder.exists():
        return
    made = network_def("unet", 1, CLASSES, FEATURES)
    names = ("LoadImaged", "EnsureChannelFirstd", "EnsureTyped")
    write_bundle(
        str(folder), Store(), network=build_network(made, seed=0), network_def=made,
        preprocessing=[{"_target_": name, "keys": "image"} for name in names],
        roi_size=(32, 32, 32), overlap=0.5, channel_names=["image"],
        labels={index: f"label {index}" for index in range(CLASSES)},
        model_card="Random weights.", licence="Apache-2.0",
        metadata={"task": "none", "description": "random weights"},
    )  # fmt: skip


def request_of(root: str, output: str, model: str, **cluster: object) -> dict[str, object]:
    """Return the settings of a run; of what computes, all that label bytes depend on."""
    return {
        "images": join(root, "images"), "model": model, "output": join(root, output),
        "cluster": {"kind": "serial", "threads": 1, **cluster},
    }  # fmt: skip


def label_maps(output: Path) -> dict[str, bytes]:
    """Return the label maps of an output by the names of their cases."""
    found = output.glob("*_dseg.nii.gz")
    return {path.name.removesuffix("_dseg.nii.gz"): path.read_bytes() for path in found}


def undisturbed(root: Path) -> dict[str, bytes]:
    """Segment the cohort in this process, and return its label maps."""
    request = request_of(str(root), "undisturbed", str(root / MODEL))
    run = open_segment(SegmentSettings.model_validate(request))
    for record in run_segment(run, SerialExecutor()):
        if record.status not in {"done", "skipped"}:
            raise RuntimeError(f"{record.case}: {record.message}")
    return label_maps(root / "undisturbed")
