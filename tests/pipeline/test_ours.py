"""Nothing of the user's is ever destroyed, and a stranger's sidecar ends no run."""

import json
import shutil

import numpy as np
import pytest
from bundles import random_bundle
from cohorts import write_tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sidecars import damaged

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import close_segment, faults_of, open_segment, run_segment
from unet_pipeline.storage.ledger import digest_bytes
from unet_pipeline.storage.sidecar import read_sidecar, read_stamp
from unet_pipeline.storage.store import Store

SERIAL = ClusterSettings(kind="serial", threads=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two images and masks, a small bundle, and what a run writes of them."""
    root = tmp_path_factory.mktemp("ours")
    write_tiny(Store(), str(root), 2)
    bundle = random_bundle(root / "bundle", features=(4, 8))
    run_on(root / "images", bundle, root / "out")
    return root


@pytest.fixture
def place(made, tmp_path):
    for name in ("images", "masks", "out"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path, str(made / "bundle")


def run_on(images, bundle, output, **changes):
    request = SegmentSettings(
        images=str(images), model=bundle, output=str(output), cluster=SERIAL, **changes
    )
    run = open_segment(request)
    records = [*faults_of(run), *run_segment(run, SerialExecutor())]
    close_segment(run, records, seconds=1.0, workers=1)
    return {record.case: record for record in records}


def test_an_experts_mask_beside_its_image_is_never_replaced(place):
    root, bundle = place
    expert = root / "images" / "phantom-01_dseg.nii.gz"
    shutil.copy(root / "masks" / "phantom-01.nii.gz", expert)
    before = expert.read_bytes()
    records = run_on(root / "images", bundle, root / "images")
    assert records["phantom-01"].code == "output_foreign"
    assert records["phantom-02"].status == "done"
    (root / "images" / "phantom-02_dseg.nii.gz").unlink()
    with pytest.raises(RequestError) as caught:
        run_on(root / "images", bundle, root / "images", masks=str(root / "images"))
    assert caught.value.code == "output_is_input"
    assert expert.read_bytes() == before


def test_an_image_that_is_called_like_its_label_map_is_refused(place):
    root, bundle = place
    image = root / "images" / "scan_dseg.nii.gz"
    shutil.copy(root / "images" / "phantom-01.nii.gz", image)
    manifest = root / "images" / "m.csv"
    manifest.write_text(f"case,image\nscan,{image}\n")
    with pytest.raises(RequestError) as caught:
        run_on(manifest, bundle, root / "images")
    assert caught.value.code == "output_is_input"


def test_a_label_map_that_was_edited_by_hand_stays_and_is_named(place):
    root, bundle = place
    edited = root / "out" / "phantom-01_dseg.nii.gz"
    edited.write_bytes(edited.read_bytes()[:-1] + b"x")  # of the same size
    records = run_on(root / "images", bundle, root / "out")
    assert records["phantom-01"].code == "output_foreign"
    assert records["phantom-02"].status == "skipped"
    assert edited.read_bytes().endswith(b"x")
    records = run_on(root / "images", bundle, root / "out", resume=False)
    assert records["phantom-01"].code == "output_foreign"
    assert records["phantom-02"].status == "done"
    assert edited.read_bytes().endswith(b"x")


def test_a_sidecar_of_another_program_is_never_replaced(place):
    root, bundle = place
    for path in (root / "out").glob("phantom-01*"):
        path.unlink()
    sidecar = root / "out" / "phantom-01_dseg.json"
    sidecar.write_text('{"RawSources": ["sub-01"], "Manual": true}')
    assert run_on(root / "images", bundle, root / "out")["phantom-01"].code == "output_foreign"
    assert json.loads(sidecar.read_text())["Manual"] is True


@pytest.fixture(scope="module")
def one_done(made, tmp_path_factory):
    """One image, a small bundle, and its output: a file of each ending as a run writes it."""
    root = tmp_path_factory.mktemp("one")
    for folder, pattern in (("images", "phantom-01*"), ("out", "phantom-01_dseg*")):
        (root / folder).mkdir()
        for path in (made / folder).glob(pattern):
            shutil.copy(path, root / folder)
    files = {path: path.read_bytes() for path in sorted((root / "out").iterdir())}
    sidecar, labels, _ = files
    return root / "images", str(made / "bundle"), files, sidecar, labels


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(choices=st.data())
def test_a_damaged_sidecar_means_not_done_and_is_made_again(one_done, choices):
    """Never a traceback; nothing is replaced that the record no longer calls ours."""
    images, bundle, files, sidecar, labels = one_done
    data = choices.draw(damaged(files[sidecar]))
    for path, content in files.items():
        path.write_bytes(data if path == sidecar else content)
    mark = read_stamp(data)
    ours = mark is not None and all(
        digest_bytes(content) in mark.files for path, content in files.items() if path != sidecar
    )
    record = run_on(images, bundle, sidecar.parent)["phantom-01"]
    assert labels.read_bytes() == files[labels]
    if record.status == "skipped":
        assert read_sidecar(data) is not None
    elif ours:
        assert record.status == "done", record.message
        assert run_on(images, bundle, sidecar.parent)["phantom-01"].status == "skipped"
    else:
        assert record.code == "output_foreign"
        assert sidecar.read_bytes() == data


def test_the_digest_of_a_label_map_is_looked_at_on_resume(place):
    root, bundle = place
    labels = root / "out" / "phantom-01_dseg.nii.gz"
    shutil.copy(root / "out" / "phantom-02_dseg.nii.gz", labels)
    record = json.loads((root / "out" / "phantom-01_dseg.json").read_text())
    record["output"]["bytes"] = labels.stat().st_size
    (root / "out" / "phantom-01_dseg.json").write_text(json.dumps(record))
    assert run_on(root / "images", bundle, root / "out")["phantom-01"].code == "output_foreign"


def test_an_archive_that_was_copied_is_done(place):
    root, bundle = place
    records = run_on(root / "images", bundle, root / "out")
    assert {record.status for record in records.values()} == {"skipped"}
    assert np.isfinite(records["phantom-01"].seconds["total"])
