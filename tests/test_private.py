"""Private folders and files: nobody else reads them, nobody else made them, and all of them end."""

import os

import pytest
from private_folders import NOBODY, mode, needs_root, run

from unet_pipeline import private
from unet_pipeline.caches import cache_of
from unet_pipeline.errors import RequestError


def code_of(call) -> str:
    with pytest.raises(RequestError) as raised:
        call()
    return raised.value.code


@pytest.mark.parametrize("kind", ["link", "file", "writable"])
def test_a_folder_that_is_not_ours_alone_is_refused(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o777)
    assert code_of(lambda: private.own_folder(path)) == "folder_not_private"


@needs_root
def test_a_folder_that_another_user_made_first_is_refused(tmp_path):
    (tmp_path / "x").mkdir(mode=0o700)
    os.chown(tmp_path / "x", NOBODY, NOBODY)
    assert code_of(lambda: private.own_folder(tmp_path / "x")) == "folder_not_private"
    below = tmp_path / "x" / "y"
    assert code_of(lambda: private.own_folder(below, way=True)) == "folder_not_private"


def test_a_folder_below_one_that_others_may_write_is_refused_where_the_way_counts(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    path = tmp_path / "open" / "x"
    assert private.own_folder(path) == path
    assert code_of(lambda: private.own_folder(path, way=True)) == "folder_not_private"
    (tmp_path / "open").chmod(0o1777)  # as /tmp: who does not own a folder cannot move it
    assert private.own_folder(path, way=True) == path


def test_a_folder_of_ours_that_others_could_read_is_closed(tmp_path):
    (tmp_path / "x").mkdir(mode=0o755)
    assert mode(private.own_folder(tmp_path / "x")) == 0o700


def test_our_own_files_are_0600_and_what_the_user_asked_for_has_the_umask_of_the_user(
    tmp_path, monkeypatch
):
    monkeypatch.setenv(private.UMASK_VARIABLE, "")
    monkeypatch.delenv(private.UMASK_VARIABLE)  # so that it is taken back at the end
    os.umask(0o027)
    private.keep_to_ourselves()
    private.keep_to_ourselves()  # a second time: the user's umask is still the first
    (tmp_path / "log").touch()
    assert mode(tmp_path / "log") == 0o600
    write = (
        "import os, sys; from pathlib import Path; print(oct(os.umask(0)))\n"
        "from unet_pipeline.storage.local import write_atomically\n"
        "write_atomically(Path('results/night/a_dseg.nii.gz'), [b'x'])"
    )
    assert run(write, cwd=tmp_path).stdout.strip() == "0o77"  # a process that is started from here
    assert mode(tmp_path / "results" / "night" / "a_dseg.nii.gz") == 0o640
    assert mode(tmp_path / "results") == mode(tmp_path / "results" / "night") == 0o750


@needs_root
def test_caches_in_a_place_of_another_user_end_with_the_process(tmp_path, monkeypatch, caplog):
    theirs = tmp_path / "cache"
    theirs.mkdir(mode=0o777)
    os.chown(theirs, NOBODY, NOBODY)
    monkeypatch.setenv("UNET_PIPELINE_CACHE", str(theirs))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = cache_of("numba")
    assert theirs not in folder.parents
    assert mode(folder) == mode(folder.parent) == 0o700
    assert cache_of("numba") == folder
    assert list(theirs.iterdir()) == []
    assert "nothing is kept beyond this process" in caplog.text


def test_caches_are_private(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_PIPELINE_CACHE", str(tmp_path / "a" / "cache"))
    folder = cache_of("inductor")
    assert folder == tmp_path / "a" / "cache" / "inductor"
    assert mode(folder) == mode(folder.parent) == 0o700
