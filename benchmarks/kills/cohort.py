"""A cohort of tiny cases, and the label maps of a run over it that nobody disturbs."""

from pathlib import Path

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import SegmentSettings
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.formats.nifti_voxels import encode_labels
from unet_pipeline.volume.header import header_of

SHAPE, SPACING_MM = (32, 30, 28), (2.0, 2.0, 2.0)  # one window


def write_cohort(root: str, number: int) -> list[str]:
    """Write images below a folder, if they are not there yet, and return the names of the cases."""
    store, names = Store(), []
    for seed in range(number):
        names.append(f"case-{seed:03d}")
        url = join(root, "images", f"{names[-1]}.nii.gz")
        if store.find(url) is None:
            phantom = make_phantom(seed, SHAPE, SPACING_MM)
            image_XYZ = phantom.image_XYZ
            header = header_of(image_XYZ.shape, phantom.affine, image_XYZ.dtype)
            store.write(url, encode_labels(image_XYZ, header))
    return names


def request_of(images: str, output: str, **cluster: object) -> dict[str, object]:
    """Return the settings of a run; of what computes, all that label bytes depend on."""
    return {
        "images": images, "model": "phantom", "output": output,
        "cluster": {"kind": "serial", "threads": 1, **cluster},
    }  # fmt: skip


def label_maps(output: Path) -> dict[str, bytes]:
    """Return the label maps of an output by the names of their cases."""
    found = output.glob("*_dseg.nii.gz")
    return {path.name.removesuffix("_dseg.nii.gz"): path.read_bytes() for path in found}


def undisturbed(root: Path) -> dict[str, bytes]:
    """Segment the cohort in this process, and return its label maps."""
    output = root / "undisturbed"
    settings = SegmentSettings.model_validate(request_of(str(root / "images"), str(output)))
    run = open_segment(settings)
    for record in run_segment(run, SerialExecutor()):
        if record.status not in {"done", "skipped"}:
            raise RuntimeError(f"{record.case}: {record.message}")
    return label_maps(output)
