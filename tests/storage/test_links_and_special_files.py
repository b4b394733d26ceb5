import os
import socket
import sys
import threading

import pytest

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.records import Case
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.filesystems import StorageOptions
from unet_pipeline.storage.ledger import digest_object
from unet_pipeline.storage.local import NotRegularError, open_regular
from unet_pipeline.storage.manifest import read_manifest
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.survey import survey

STORE = Store()


@pytest.fixture
def tree(tmp_path):
    """Images, and a scan that the request does not name."""
    for file in ("in/a.nii", "in/real/b.nii", "secret/x.nii"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    return tmp_path


def names(found, tree):
    return [file.removeprefix(f"{tree}/") for file in found.files]


def reasons(found, tree):
    return {url.removeprefix(f"{tree}/"): reason for url, reason in found.passed_over}


def test_a_link_out_of_the_prefix_is_not_read_and_says_what_to_allow(tree):
    (tree / "in/file.nii").symlink_to("../secret/x.nii")
    (tree / "in/folder").symlink_to("../secret")
    for url in (f"{tree}/in", f"{tree}/in/*.nii", f"{tree}/in/**/*.nii"):
        found = survey(STORE, url)
        assert not [name for name in names(found, tree) if "x.nii" in name or "file" in name]
        assert f"--allow {tree}/secret" in reasons(found, tree)["in/file.nii"]
    assert f"--allow {tree}" in reasons(survey(STORE, f"{tree}/in"), tree)["in/folder"]
    allowing = Store(StorageOptions(allowed=(f"{tree}/secret",)))
    assert names(survey(allowing, f"{tree}/in"), tree) == [
        "in/a.nii",
        "in/file.nii",
        "in/folder/x.nii",
        "in/real/b.nii",
    ]


def test_real_names_come_before_those_of_links_and_each_folder_is_listed_once(tree):
    (tree / "in/aaa").symlink_to("real")
    (tree / "in/zzz").symlink_to("real")
    (tree / "in/loop").symlink_to(".")
    (tree / "in/other.nii").symlink_to("a.nii")
    found = survey(STORE, f"{tree}/in")
    assert names(found, tree) == ["in/a.nii", "in/other.nii", "in/real/b.nii"]
    assert reasons(found, tree) == {
        f"in/{link}": f"a link to a folder that is listed anyway (as {tree}/in{real})"
        for link, real in (("aaa", "/real"), ("zzz", "/real"), ("loop", ""))
    }


def test_a_link_into_a_hidden_folder_gives_its_files_the_names_that_can_be_seen(tree):
    (tree / "in/real").rename(tree / "in/.store")
    (tree / "in/.store/self").symlink_to(".")
    (tree / "in/seen").symlink_to(".store")
    assert [case.name for case in discover(STORE, f"{tree}/in").cases] == ["a", "seen/b"]


def test_whoever_names_a_link_means_its_file(tree):
    (tree / "in/file.nii").symlink_to("../secret/x.nii")
    (tree / "link").symlink_to("secret")
    assert names(survey(STORE, f"{tree}/in/file.nii"), tree) == ["in/file.nii"]
    assert names(survey(STORE, f"{tree}/link"), tree) == ["link/x.nii"]


@pytest.mark.parametrize("through", ["file.nii", "folder/x.nii", "real/../../secret/x.nii"])
def test_links_do_not_lead_a_manifest_out_of_what_it_may_name(tree, through):
    (tree / "in/file.nii").symlink_to("../secret/x.nii")
    (tree / "in/folder").symlink_to("../secret")
    (tree / "in/cohort.csv").write_text(f"case,image\na,a.nii\nb,{tree}/in/{through}\n")
    with pytest.raises(RequestError) as caught:
        read_manifest(STORE, f"{tree}/in/cohort.csv")
    assert caught.value.code == "manifest_outside"
    assert "case b" in caught.value.subject
    allowing = Store(StorageOptions(allowed=(f"{tree}/secret",)))
    assert len(read_manifest(allowing, f"{tree}/in/cohort.csv")) == 2


def test_a_manifest_behind_a_link_may_name_what_lies_beside_it(tree):
    (tree / "in/cohort.csv").write_text("case,image\na,a.nii\n")
    (tree / "link").symlink_to("in")
    assert read_manifest(STORE, f"{tree}/link/cohort.csv") == (Case("a", (f"{tree}/link/a.nii",)),)


@pytest.fixture(params=["pipe", "socket", "device", "link to a device"])
def special(request, tree):
    """A file that is none, and what it is called."""
    path = tree / "in/special.nii"
    if request.param == "pipe":
        os.mkfifo(path)
        yield path, "a named pipe"
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
            yield path, "a socket"
    elif request.param == "link to a device":
        path.symlink_to("/dev/zero")
        yield path, "a device"
    else:
        try:
            os.mknod(path, 0o20644, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root makes devices")
        yield path, "a device"


@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_refused_by_name_and_never_read(special, tree):
    path, kind = special
    found = survey(STORE, f"{tree}/in")
    assert names(found, tree) == ["in/a.nii", "in/real/b.nii"]
    assert reasons(found, tree)["in/special.nii"].startswith(kind)
    for reading in (
        STORE.read,
        STORE.open,
        lambda url: STORE.read_range(url, 0, 10),
        lambda url: STORE.read_tail(url, 4),
        lambda url: digest_object(STORE, url),
    ):
        with pytest.raises(CaseError, match=kind) as caught:
            reading(str(path))
        assert caught.value.code == "file_special"


@pytest.mark.timeout(20)
def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tree):
    """Between the look and the opening: what was looked at is not what is opened."""
    path = tree / "in/a.nii"
    looked = threading.Event()

    def swap(event, arguments):
        if event == "open" and arguments[0] == str(path) and not looked.is_set():
            looked.set()
            path.unlink()
            os.mkfifo(path)

    sys.addaudithook(swap)
    with pytest.raises(NotRegularError, match="a named pipe"):
        open_regular(str(path))
    assert looked.is_set()


@pytest.mark.timeout(20)
def test_a_manifest_that_is_a_pipe_is_refused(tree):
    os.mkfifo(tree / "in/cohort.csv")
    with pytest.raises(RequestError, match="a named pipe") as caught:
        read_manifest(STORE, f"{tree}/in/cohort.csv")
    assert caught.value.code == "manifest_missing"
