"""A case whose label map, mask and margins lie on disk, and whose files are streams."""

import json
from pathlib import Path

import nibabel as nib
import pytest
from bundles import CT, random_bundle, transform

from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import (
    Budget,
    ClusterSettings,
    SegmentSettings,
    StorageSettings,
    WindowSettings,
)
from unet_pipeline.jobs.segment import open_segment, segment_case
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.storage import s3 as s3_calls
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume import disk_arrays, kept
from unet_pipeline.volume.formats import nifti

FILES = ("_dseg.nii.gz", "_dseg_confidence.nii.gz", "_dseg.png")
OF_LABELS = ("dice", "statistics", "label_changes", "output", "written", "gate")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder, phantom = tmp_path_factory.mktemp("finishing"), make_phantom(1, (52, 48, 44))
    for kind, values in (("images", phantom.image_XYZ), ("masks", phantom.mask_XYZ)):
        (folder / kind).mkdir()
        nib.save(nib.Nifti1Image(values, phantom.affine), folder / kind / "a.nii.gz")
    random_bundle(
        folder / "bundle", features=(4, 8), roi_size=(32, 32, 32),
        preprocessing=(*CT[:3], transform("NormalizeIntensityd"), CT[4]),
    )  # fmt: skip
    return folder


def finished(place: Path, store: Store, output: str, budget_gb: float, endpoint: str | None = None):
    """Return the files of a case, and what its record says of its labels."""
    run = open_segment(
        SegmentSettings(
            images=str(place / "images"), masks=str(place / "masks"), output=output,
            model=str(place / "bundle"), windows=WindowSettings(tile=(30, 30, 30)),
            cluster=ClusterSettings(kind="serial", threads=1), confidence="map",
            postprocess=("remove-small:64voxels", "fill-holes", "largest:1"),
            budget=Budget(memory_gb=budget_gb, scratch=str(place)),
            storage=StorageSettings(endpoint_url=endpoint),
        )
    )  # fmt: skip
    with open_executor(ClusterSpec("serial")) as executor:
        record = segment_case(run, run.cases[0], executor)
    assert record.status == "done", record.message
    said = json.loads(store.read(join(output, "a_dseg.json")))
    files = {name: store.read(join(output, f"a{name}")) for name in FILES}
    return files, {name: said[name] for name in OF_LABELS if name in said}


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_not_a_byte_differs(place, kind, tmp_path, request, monkeypatch):
    store, outputs, endpoint = Store(), [str(tmp_path / "a"), str(tmp_path / "b")], None
    if kind == "s3":
        s3 = request.getfixturevalue("s3_env")
        store, endpoint = s3.store, s3.endpoint_url
        outputs[1] = join(s3.bucket("finishing"), "b")
    wanted = finished(place, Store(), outputs[0], 2.0)
    monkeypatch.setattr(disk_arrays, "SLAB_VOXELS", 9_000)
    monkeypatch.setattr(kept, "_BOX_VOXELS", 40_000)
    monkeypatch.setattr(nifti, "ENCODED_BYTES", 0)
    monkeypatch.setattr(s3_calls, "STREAM_PART", 10_000)
    found = finished(place, store, outputs[1], 0.0001, endpoint)
    assert found[0] == wanted[0]
    for name in OF_LABELS:
        if name != "output":  # the etag is the store's
            assert found[1].get(name) == wanted[1].get(name), name
    assert found[1]["output"]["sha256"] == wanted[1]["output"]["sha256"]
    assert not [*place.glob("unet-pipeline-*")]
    assert len(wanted[0]["_dseg_confidence.nii.gz"]) > 2 * s3_calls.STREAM_PART
    assert wanted[1]["label_changes"]
