"""``view``: what its server hands on, to whom, and that a real browser shows it."""

import gzip
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import nibabel as nib
import numpy as np
import pytest
from browsing import BROWSER, SOFTWARE_GL, browser
from bundles import random_bundle
from cohorts import with_one_odd, write_tiny

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings, ViewSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import close_segment, open_segment, run_segment
from unet_pipeline.jobs.view import open_view
from unet_pipeline.storage.store import Store
from unet_pipeline.viewing.app import Viewer
from unet_pipeline.viewing.assets import NIIVUE, asset
from unet_pipeline.viewing.index import index_bytes


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two cases, segmented into both formats."""
    root = tmp_path_factory.mktemp("night")
    write_tiny(Store(), str(root), 2)
    bundle = random_bundle(root / "bundle", features=(4, 8))
    for name in ("nifti", "ome-zarr"):
        run = open_segment(
            SegmentSettings(
                images=f"{root}/images", model=bundle, output=f"{root}/{name}", output_format=name,
                confidence="map" if name == "nifti" else "numbers",
                cluster=ClusterSettings(kind="serial", threads=1),
            )
        )  # fmt: skip
        close_segment(run, list(run_segment(run, SerialExecutor())), seconds=1.0, workers=1)
    return root


def viewer(place, **changes):
    run = open_view(ViewSettings(run=str(place)))
    return Viewer(run.store, run.output, run.folder, replace(run.index, **changes), "token")


def got(one, name, method="GET", token="token"):
    answer = one.answer(method, f"/{token}/{name}")
    data = b"".join(answer.pieces())
    assert len(data) == answer.size
    return answer.status, data


def told(one, name):
    status, data = got(one, name)
    assert status == 200
    return json.loads(data)


def volume(one, name):
    status, data = got(one, name)
    assert status == 200, data
    return nib.Nifti1Image.from_stream(io.BytesIO(data))


@pytest.mark.parametrize("name", ["nifti", "ome-zarr"])
def test_image_and_label_map_come_voxel_for_voxel(made, name):
    one = viewer(made / name)
    for number, case in enumerate(told(one, "cases.json")["cases"]):
        known = told(one, f"case/{number}.json")
        assert (known["case"], known["images"]) == (case["case"], ["image0-0.nii"])
        assert [label["name"] for label in known["labels"]] == ["label 1", "label 2"]
        sent = volume(one, f"case/{number}/image0-0.nii"), volume(one, f"case/{number}/labels.nii")
        stored = (
            nib.load(made / f"images/{case['case']}.nii.gz"),
            nib.load(made / f"nifti/{case['case']}_dseg.nii.gz"),
        )
        for new, old in zip(sent, stored, strict=True):
            assert np.array_equal(np.asanyarray(new.dataobj), np.asanyarray(old.dataobj))
            assert np.allclose(new.affine, old.affine, atol=1e-5)
        voxels = np.asanyarray(sent[1].dataobj)
        assert [label["statistics"]["voxels"] for label in known["labels"]] == [
            int((voxels == label).sum()) for label in (1, 2)
        ]
        assert got(one, f"case/{number}/picture.png")[1].startswith(b"\x89PNG")


def test_the_map_of_how_sure_the_network_is_comes_where_a_case_has_one(made):
    one, without = viewer(made / "nifti"), viewer(made / "ome-zarr")
    known = told(one, "case/0.json")
    assert known["confidence"] is True
    sent = volume(one, "case/0/confidence.nii")
    stored = nib.load(made / f"nifti/{known['case']}_dseg_confidence.nii.gz")
    assert np.allclose(sent.get_fdata(), stored.get_fdata(), atol=1e-6)
    assert 0 < sent.get_fdata().max() <= 1
    assert told(without, "case/0.json")["confidence"] is False
    assert got(without, "case/0/confidence.nii")[0] == 422


def test_a_run_is_found_by_its_folder_and_by_its_output(made):
    (folder,) = (made / "nifti/runs").glob("*Z-*")
    assert open_view(ViewSettings(run=str(folder))).index.run_id == folder.name
    assert open_view(ViewSettings(run=f"{made}/nifti/")).folder == str(folder)
    with pytest.raises(RequestError) as raised:
        open_view(ViewSettings(run=str(made / "images")))
    assert raised.value.code == "run_missing"


def test_the_report_comes_as_it_was_written_and_in_a_sandbox(made):
    one = viewer(made / "nifti")
    (report,) = (made / "nifti/runs").glob("*Z-*/report.html")
    assert got(one, "report.html") == (200, report.read_bytes())
    answer = one.answer("GET", "/token/report.html")
    assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert got(one, "report.html", token="other")[0] == 404


def test_a_doubtful_case_comes_first_in_list_and_report(made, tmp_path):
    run = open_segment(
        SegmentSettings(
            images=f"{made}/images", model=str(made / "bundle"), output=str(tmp_path),
            cluster=ClusterSettings(kind="serial", threads=1),
        )
    )  # fmt: skip
    records = sorted(run_segment(run, SerialExecutor()), key=lambda one: one.case)
    summary = close_segment(run, with_one_odd(records), seconds=1.0, workers=1)
    listed = told(viewer(tmp_path), "cases.json")["cases"]
    assert [bool(one["reasons"]) for one in listed] == [True] + 31 * [False]
    assert listed[0]["case"] == records[1].case
    assert "label 1: share outside of its largest part 80%" in listed[0]["reasons"][0]
    known = told(viewer(tmp_path), "case/0.json")
    assert known["doubts"][0] == "1"
    page = Path(summary.report).read_text()
    first = page[page.index('id="review"') : page.index('id="sizes"')]
    assert first.index("largest part 80%") < first.index("data:image/webp")


def test_nothing_else_is_handed_on(made):
    one = viewer(made / "nifti")
    (made / "nifti/secret.nii.gz").write_bytes(b"secret")
    for name in (
        "secret.nii.gz", "../nifti/secret.nii.gz", "case/0/../secret.nii.gz", "case/2.json",
        "case/2/labels.nii", "case/0/image1-0.nii", "case/-1.json", "case/0/labels.nii/",
        "static/view.js", "niivue-licences.txt", "__init__.py", "case/0/image0-0.nii\n",
    ):  # fmt: skip
        assert got(one, name)[0] == 404, name
    for token in ("", "toke", "token2", "\u2603"):
        assert got(one, "cases.json", token=token) == (404, b"Nothing is here.\n")
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert got(one, "cases.json", method)[0] == 405


def test_a_list_of_a_stranger_hands_on_volumes_only(made, tmp_path):
    (tmp_path / "key").write_text("secret")
    (tmp_path / "key.nii.gz").write_text("secret " * 100)
    index = open_view(ViewSettings(run=str(made / "nifti"))).index
    case = replace(index.cases[0], images=(f"{tmp_path}/key", f"{tmp_path}/key.nii.gz"))
    one = viewer(made / "nifti", cases=(case,))
    for channel in (0, 1):
        status, data = got(one, f"case/0/image{channel}-0.nii")
        assert (status, b"secret" in data) == (422, False)
    assert told(one, "case/0.json")["images"] == ["image0-0.nii", "image1-0.nii"]


@pytest.mark.parametrize("place", ["../up.nii.gz", "/etc/x.nii.gz", "s3://b/x.nii.gz", "a/../../b"])
def test_a_list_leads_nowhere_outside_of_the_output(made, tmp_path, place):
    index = open_view(ViewSettings(run=str(made / "nifti"))).index
    said = json.loads(index_bytes(index))
    said["cases"][0]["labels"] = place
    folder = tmp_path / "runs/one"
    folder.mkdir(parents=True)
    (folder / "cases.json").write_text(json.dumps(said))
    with pytest.raises(RequestError) as raised:
        open_view(ViewSettings(run=str(tmp_path)))
    assert raised.value.code == "run_unreadable"


def test_niivue_is_the_file_that_was_looked_at():
    page = asset("niivue.js")
    assert page.packed
    assert hashlib.sha256(gzip.decompress(page.data)).hexdigest() == NIIVUE


@pytest.fixture(scope="module")
def address(made):
    """Where the command serves the run; at the end Ctrl-C ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "unet_pipeline", "view", str(made / "nifti")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+/\S+/", line):
            break
    yield found[0]
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Traceback" not in said


def test_only_its_own_name_and_its_own_pages_are_answered(address):
    parts = urlsplit(address)

    def status(path, method="GET", **headers):
        with closing(HTTPConnection(parts.hostname, parts.port, timeout=30)) as connection:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers

    code, headers = status(f"{parts.path}cases.json")
    assert code == 200
    assert headers["cache-control"] == "no-store"
    assert "script-src 'self';" in headers["content-security-policy"]
    assert status(parts.path, Host=f"rebound.example:{parts.port}")[0] == 421
    assert status(parts.path, Origin="http://evil.example")[0] == 403
    assert status(parts.path, "POST")[0] == 405
    assert status("/")[0] == status("/guess/cases.json")[0] == 404
    assert status(f"{parts.path}..%2f..%2fetc/passwd")[0] == 404


def test_a_client_reads_parts_of_a_volume(address):
    parts = urlsplit(address)
    path = f"{parts.path}case/0/image0-0.nii"

    def got_in_part(wanted, method="GET", path=path, **headers):
        with closing(HTTPConnection(parts.hostname, parts.port, timeout=30)) as connection:
            connection.request(method, path, headers={"Range": wanted, **headers})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    _, headers, whole = got_in_part("items=0-1")
    size = len(whole)
    assert headers["accept-ranges"] == "bytes"
    for wanted, first, stop in (
        ("bytes=0-347", 0, 348), ("bytes=340-4999", 340, 5000), (f"bytes={size - 1}-", -1, size),
        ("bytes=-100", -100, size), (f"bytes=0-{10**12}", 0, size),
        (f"Bytes= -{2 * size}", 0, size),
    ):  # fmt: skip
        status, headers, data = got_in_part(wanted)
        start = first % size
        assert (status, data) == (206, whole[start:stop]), wanted
        assert headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    for wanted in (f"bytes={size}-", "bytes=-0"):
        status, headers, _ = got_in_part(wanted)
        assert (status, headers["content-range"]) == (416, f"bytes */{size}")
    for wanted in ("bytes=0-1,5-6", "bytes=3-2", "bytes=-", "bytes=a-b", "bytes 0-1"):
        assert got_in_part(wanted)[::2] == (200, whole)
    assert got_in_part("bytes=0-1", **{"If-Range": '"x"'})[::2] == (200, whole)
    assert got_in_part("bytes=0-1", "HEAD")[0] == 200
    assert got_in_part("bytes=0-1", path=f"{parts.path}cases.json")[0] == 200
    with fsspec.open(f"{address}case/0/image0-0.nii", block_size=1000) as file:
        file.seek(5000)
        assert file.read(3000) == whole[5000:8000]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_a_browser_shows_one_case_after_the_other(address):
    said = []
    with browser(*SOFTWARE_GL) as chromium:
        page = chromium.new_page(viewport={"width": 900, "height": 700})
        page.on("console", lambda one: said.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        page.wait_for_selector("body[data-shown='0']", timeout=120_000)
        first = page.inner_text("#name")
        page.keyboard.press("n")
        page.wait_for_selector("body[data-shown='1']", timeout=120_000)
        assert {first, page.inner_text("#name")} == {"phantom-01", "phantom-02"}
        assert page.inner_text("#numbers thead").split("\t")[:3] == ["label", "Dice", "voxels"]
        page.keyboard.press("u")
        page.wait_for_selector("body[data-doubts='true']")
        page.keyboard.press("p")
        page.wait_for_selector("body[data-shown='0']", timeout=120_000)
        page.wait_for_selector("body[data-doubts='true']")  # it stays on
        page.click("#sure")
        page.wait_for_selector("body[data-doubts='false']")
        page.keyboard.press("l")
        assert page.inner_text("#opacity-said") == "hidden"
        assert page.inner_text("#state") == ""
        page.click("header a")
        page.wait_for_url("**/report.html")
        assert "phantom-01" in page.inner_text("body")
        assert page.evaluate("self.origin") == "null"  # a script in it reaches no volume
    assert said == []
