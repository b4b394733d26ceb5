"""Addresses for browsers: by a base of the site, and signed by a real S3 server's keys."""

import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.errors import RequestError, has_secret
from unet_pipeline.storage.filesystems import StorageOptions
from unet_pipeline.storage.links import BASE, HOURS, Links, command_for
from unet_pipeline.storage.store import Store

REPORT = "s3://results/a night/runs/1/report.html"


def links(base="", hours=""):
    return Links.from_environment({BASE: base, HOURS: hours})


@pytest.mark.parametrize(
    ("base", "place", "wanted"),
    [
        ("https://files.example.org", REPORT,
         "https://files.example.org/results/a%20night/runs/1/report.html"),
        ("s3://results=https://night.example.org/", REPORT,
         "https://night.example.org/a%20night/runs/1/report.html"),
        ("https://all.example.org, s3://results=https://night.example.org/x", REPORT,
         "https://night.example.org/x/a%20night/runs/1/report.html"),
        ("s3://result=https://night.example.org", REPORT, None),
        ("/data/out=http://node:8000", "/data/out/runs/1/report.html",
         "http://node:8000/runs/1/report.html"),
        ("https://files.example.org", "/data/out/runs/1/report.html", None),
        ("", "https://there.example.org/report.html", "https://there.example.org/report.html"),
        ("", REPORT, None),
    ],
)  # fmt: skip
def test_a_base_stands_for_what_outputs_begin_with(base, place, wanted):
    assert links(base).address(place, StorageOptions()) == wanted


@given(st.text(min_size=1).filter(lambda name: "/" not in name))
def test_no_name_leaves_its_base(name):
    address = links("https://files.example.org/out").address(f"s3://b/{name}", StorageOptions())
    parts = urlsplit(address)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == (
        "https", "files.example.org", "", ""
    )  # fmt: skip
    assert parts.path.startswith("/out/b/")


@pytest.mark.parametrize(
    "base",
    ["javascript:alert(1)", "files.example.org", "https://", "out=https://files.example.org",
     "s3://results=", "=https://a.example.org"],
)  # fmt: skip
def test_a_base_that_is_no_address_is_refused(base):
    with pytest.raises(RequestError, match="PREFIX=ADDRESS") as error:
        links(base)
    assert error.value.code == "link_base_invalid"


@pytest.mark.parametrize("hours", ["0", "-1", "168.5", "nan", "inf", "a day"])
def test_hours_that_no_signature_holds_are_refused(hours):
    with pytest.raises(RequestError, match="at most 168") as error:
        links(hours=hours)
    assert error.value.code == "link_hours_invalid"


def test_a_signed_address_opens_without_keys_what_it_names_and_nothing_else(s3_env):
    store, bucket = Store(), s3_env.bucket()
    store.write(f"{bucket}/runs/1/report of a night.html", b"<p>42</p>")
    store.write(f"{bucket}/runs/1/other.html", b"<p>secret</p>")
    address = links(hours="0.5").address(f"{bucket}/runs/1/report of a night.html", store.options)
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == b"<p>42</p>"
        assert answer.headers.get_content_type() == "text/html"
    assert "X-Amz-Expires=1800" in address
    assert has_secret(address)  # so no log and no message shows it
    for other in (
        address.replace("report%20of%20a%20night", "other"),
        address.partition("?")[0],
        address.replace("X-Amz-Expires=1800", "X-Amz-Expires=180000"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(other)
        refused.value.close()
        assert refused.value.code in (400, 403)  # rclone: 400 without any signature


def test_keys_that_cannot_sign_give_no_link_and_no_error(no_aws, caplog):
    assert links(hours="1").address("s3://results/report.html", StorageOptions()) is None
    assert "no link: s3://results/report.html: found no complete pair of S3 keys" in caplog.text


def test_local_files_are_not_signed(tmp_path):
    assert links(hours="1").address(f"{tmp_path}/report.html", StorageOptions()) is None


def test_the_command_names_the_folder_of_the_run():
    assert command_for(REPORT) == "unet-pipeline view 's3://results/a night/runs/1'"
