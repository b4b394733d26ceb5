"""Scratch folders: nobody else reads them, who uses them keeps them, and all of them end."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from private_folders import NOBODY, mode, needs_root, run

from unet_pipeline import scratch


def sweeping(folder: Path) -> str:
    return f"from unet_pipeline.scratch import *; print(remove_abandoned({str(folder)!r}))"


def test_a_scratch_folder_is_private_hard_to_guess_and_gone_at_the_end(tmp_path):
    with scratch.scratch_folder(tmp_path) as one, scratch.scratch_folder(tmp_path) as other:
        assert mode(one) == 0o700
        assert one != other
        assert len(one.name) >= len(scratch.PREFIX) + 32
        (one / "voxels").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_scratch_of_a_killed_process_is_removed_later_and_that_of_a_living_one_is_not(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from unet_pipeline.scratch import *\n"
        f"path = scratch_path({str(tmp_path)!r}); open_scratch(path)\n"
        "(path / 'voxels').write_bytes(b'x'); print(path, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        path = Path(child.stdout.readline().strip())
        assert scratch.remove_abandoned(tmp_path) == []
        assert (path / "voxels").exists()
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert scratch.remove_abandoned(tmp_path) == [path]
    assert list(tmp_path.iterdir()) == []


def test_who_makes_scratch_removes_first_what_a_killed_process_left_beside_it(tmp_path):
    path = scratch.scratch_path(tmp_path)
    make = f"from unet_pipeline.scratch import *; open_scratch(Path({str(path)!r}))"
    assert run(f"{make}; os._exit(9)").returncode == 9
    assert path.exists()
    go_on = f"from unet_pipeline.scratch import *; scratch_path({str(tmp_path)!r})"
    assert run(go_on).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_scratch_of_a_killed_process_is_kept_where_another_goes_on_in_it(tmp_path):
    path = scratch.scratch_path(tmp_path)
    begin = f"from unet_pipeline.scratch import *; open_scratch(Path({str(path)!r}))"
    assert run(f"{begin}; os._exit(9)").returncode == 9
    scratch.open_scratch(path)
    assert run(sweeping(tmp_path)).stdout.strip() == "[]"
    scratch.remove_scratch(path)
    assert list(tmp_path.iterdir()) == []


def test_who_reads_scratch_keeps_it_though_the_process_that_decoded_it_was_killed(tmp_path):
    voxels = np.arange(24000, dtype=np.int16).reshape(20, 30, 40)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii.gz")
    path = scratch.scratch_path(tmp_path)
    decode = (
        "import os, pickle; from unet_pipeline.storage.store import Store\n"
        "from unet_pipeline.volume.decoding import read_volume\n"
        f"url, folder = {str(tmp_path / 'a.nii.gz')!r}, {str(path)!r}\n"
        "read = read_volume(Store(), url, role='image0', budget_bytes=1, scratch=folder)\n"
        "print(pickle.dumps(read.views[0]).hex(), flush=True); os._exit(9)"
    )
    view = pickle.loads(bytes.fromhex(run(decode).stdout))
    assert view.values()[1, 2, 3] == voxels[1, 2, 3]
    assert run(sweeping(tmp_path)).stdout.strip() == "[]"
    np.testing.assert_array_equal(view.values(), voxels)
    scratch.remove_scratch(path)
    assert list(tmp_path.glob("unet*")) == []


def test_a_process_that_ends_leaves_scratch_to_those_who_still_use_it(tmp_path):
    path = scratch.scratch_path(tmp_path)
    scratch.open_scratch(path)
    use = f"from unet_pipeline.scratch import *; print(hold_scratch(Path({str(path)!r})))"
    assert run(use).stdout.strip() == "True"
    assert path.exists()
    scratch.remove_scratch(path)
    assert run(use).stdout.strip() == "False"


def test_scratch_whose_removal_was_killed_half_way_is_removed_later(tmp_path):
    path = scratch.scratch_path(tmp_path)
    code = (
        "import os; from unet_pipeline import scratch; from pathlib import Path\n"
        f"path = Path({str(path)!r}); scratch.open_scratch(path)\n"
        "for name in 'abc': (path / name).mkdir(); (path / name / 'voxels').write_bytes(b'x')\n"
        "scratch.shutil.rmtree = lambda *_, **__: os._exit(9)\n"
        "scratch.remove_scratch(path)"
    )
    assert run(code).returncode == 9
    assert scratch.remove_abandoned(tmp_path) == [path]
    assert list(tmp_path.iterdir()) == []


def test_scratch_without_a_lock_is_removed_once_nobody_can_be_about_to_make_one(tmp_path):
    path = scratch.scratch_path(tmp_path)
    path.mkdir(mode=0o700)
    (path / "voxels").write_bytes(b"x")
    assert scratch.remove_abandoned(tmp_path) == []
    an_hour_ago = path.stat().st_mtime - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    assert scratch.remove_abandoned(tmp_path) == [path]
    assert list(tmp_path.iterdir()) == []


def test_scratch_that_a_call_writes_while_its_case_is_over_goes_with_the_call(tmp_path):
    path = scratch.scratch_path(tmp_path)
    with scratch.writing_scratch(path):
        scratch.remove_scratch(path)
        (path / "voxels.zarr" / "c").mkdir(parents=True)  # as Zarr does for each chunk
    assert list(tmp_path.iterdir()) == []
    with scratch.writing_scratch(path):
        (path / "voxels").write_bytes(b"x")
    assert sorted(inner.name for inner in path.iterdir()) == [".lock", "voxels"]
    scratch.remove_scratch(path)
    assert list(tmp_path.iterdir()) == []


@needs_root
def test_scratch_of_other_users_is_left_alone(tmp_path):
    path = tmp_path / f"{scratch.PREFIX}x"
    path.mkdir()
    (path / ".lock").touch()
    os.chown(path, NOBODY, NOBODY)
    assert scratch.remove_abandoned(tmp_path) == []
    assert path.exists()


def test_scratch_ends_with_a_process_that_ends_by_itself(tmp_path):
    code = (
        "from unet_pipeline.scratch import *\n"
        f"open_scratch(scratch_path({str(tmp_path)!r})); raise SystemExit(3)"
    )
    assert run(code).returncode == 3
    assert list(tmp_path.iterdir()) == []
