"""Folders that we write as a whole: files of another hand, or edited since, are never replaced."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import nibabel as nib
import numpy as np
import pytest
from bundles import random_bundle
from command_line import cli

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import CheckSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.check import close_check, open_check, run_check
from unet_pipeline.networks.bundle_tools import convert_bundle, prune_bundle
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.store import Store, join


@pytest.fixture(params=["local", "s3"])
def mine(request, tmp_path):
    if request.param == "local":
        return OwnFiles(Store(), str(tmp_path / "folder"))
    s3 = request.getfixturevalue("s3")
    return OwnFiles(s3.store, join(s3.bucket("folder"), "x"))


def refused(act, *arguments):
    with pytest.raises(RequestError) as caught:
        act(*arguments)
    assert caught.value.code == "output_foreign"
    return True


def test_own_files_are_replaced_and_removed(mine):
    mine.write({"a/one": b"1", "two": b"2"})
    mine.write({"a/one": b"11"})
    mine.check(["a/one", "two", "three"])
    mine.remove(["a/one", "three"])
    assert not mine.store.exists(join(mine.folder, "a/one"))
    assert mine.store.read(join(mine.folder, "two")) == b"2"


def test_files_of_another_hand_stay_and_nothing_else_is_written(mine):
    url = join(mine.folder, "two")
    mine.store.write(url, b"theirs")
    assert refused(mine.write, {"one": b"1", "two": b"2"})
    mine.remove(["two"])
    assert mine.store.read(url) == b"theirs"
    assert not mine.store.exists(join(mine.folder, "one"))


def test_a_file_that_was_edited_since_stays(mine):
    mine.write({"card": b"ours"})
    mine.store.write(join(mine.folder, "card"), b"edited")
    assert refused(mine.write, {"card": b"anew"})
    mine.remove(["card"])
    assert mine.store.read(join(mine.folder, "card")) == b"edited"


@pytest.mark.parametrize("record", [b"", b"{", b"[1]", b'{"made_by": "unet-pipeline"}', b"\xff"])
def test_a_damaged_record_calls_nothing_ours(tmp_path, record):
    mine = OwnFiles(Store(), str(tmp_path))
    mine.write({"a": b"1"})
    (tmp_path / ".unet-pipeline.json").write_bytes(record)
    assert refused(mine.write, {"a": b"2"})


def test_no_command_on_bundles_writes_over_another_bundle(tmp_path):
    store = Store()
    source = random_bundle(tmp_path / "source", network="unetpp", features=(4, 4, 8, 8, 16, 4))
    bundle = load_bundle(source, store)
    weights = tmp_path / "theirs" / "models" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights of months")
    theirs = str(tmp_path / "theirs")
    assert refused(convert_bundle, bundle, store, theirs)
    assert refused(prune_bundle, bundle, store, theirs, 1, "exact")
    assert refused(random_bundle, tmp_path / "theirs")
    assert weights.read_bytes() == b"weights of months"
    ours = tmp_path / "ours"
    convert_bundle(bundle, store, str(ours))
    convert_bundle(bundle, store, str(ours))
    (ours / "docs" / "README.md").write_text("a card that was written by hand")
    assert refused(convert_bundle, bundle, store, str(ours))
    assert (ours / "docs" / "README.md").read_text() == "a card that was written by hand"


def volume(path, affine, mask=False):
    values = np.random.default_rng(0).integers(0, 2 if mask else 99, (8, 9, 10)).astype(np.int16)
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(exist_ok=True)
    nib.save(image, path)


def checked(root, fix):
    settings = CheckSettings(
        images=str(root / "images"), masks=str(root / "masks"), fix=str(fix),
        gate={"remedies": ("resample-mask",)}, cluster={"kind": "serial"},
    )  # fmt: skip
    opened = open_check(settings)
    records = list(run_check(opened, SerialExecutor()))
    close_check(opened, records, seconds=1.0)
    return records[0]


def test_fix_replaces_only_what_it_wrote(tmp_path):
    volume(tmp_path / "images" / "a.nii.gz", np.diag([2.0, 2, 2, 1]))
    volume(tmp_path / "masks" / "a.nii.gz", np.diag([1.9, 2, 2, 1]), mask=True)
    assert checked(tmp_path, tmp_path / "fixed").verdict != "fail"
    assert checked(tmp_path, tmp_path / "fixed").verdict != "fail"  # ours
    fixed = tmp_path / "fixed" / "a_mask.nii.gz"
    fixed.write_bytes(b"edited")
    assert "output_foreign" in checked(tmp_path, tmp_path / "fixed").codes
    assert fixed.read_bytes() == b"edited"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.jsonl").write_text("{}")
    assert refused(checked, tmp_path, tmp_path / "other")


def test_those_that_begin_at_once_write_the_same_files_and_all_are_ours(tmp_path):
    files, together = {f"{name}.txt": name.encode() for name in "abcd"}, Barrier(3)

    def write(folder):
        together.wait()
        OwnFiles(Store(), folder).write_where_ours(files)

    for folder in (str(tmp_path / str(number)) for number in range(5)):
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(write, [folder] * 3))
        OwnFiles(Store(), folder).check(files)


@pytest.mark.parametrize(
    "name", ["flow.log", "phantom/phantom-03_dseg.nii.gz", "phantom/runs/demo/report.html"]
)
def test_the_demo_replaces_no_file_of_another_hand(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("theirs")
    done = cli("demo", "--output", tmp_path)
    assert (done.returncode, "output_foreign" in done.stderr) == (2, True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == "theirs"
