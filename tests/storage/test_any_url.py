"""No URL of any form ends in a traceback, through any method of a store or through discovery."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from unet_pipeline.errors import PipelineError
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.store import Store

METHODS = (
    lambda store, url: store.read(url),
    lambda store, url: store.read_at_most(url, 10),
    lambda store, url: store.read_range(url, 0, 4),
    lambda store, url: store.read_tail(url, 4),
    lambda store, url: store.open(url).close(),
    lambda store, url: store.exists(url),
    lambda store, url: store.find(url),
    lambda store, url: store.fingerprint(url),
    lambda store, url: store.is_folder(url),
    lambda store, url: store.is_pattern(url),
    lambda store, url: store.check_reachable(url),
    lambda store, url: store.list_files(url),
)
parts = st.sampled_from(
    ["", "scans", "n", "a.nii.gz", "*", "**", "[", "]", "?x", "..", ".", " ", "\x00", "é", "%2F",
     "#", "~nobody-here", "\ud800", "a" * 300, "a:b", "@", "x?versionId=1", "m.csv", "\n"]
)  # fmt: skip
urls = st.builds(
    lambda head, middle: head + "/".join(middle),
    st.sampled_from(["s3://", "s3:///", "s3:////", "S3://", "s3a://", "s3:/", "memory://",
                     "file:///no-such/", "local:///no-such/", "no-such/", "://", "s3://scans//"]),
    st.lists(parts, min_size=1, max_size=4),
)  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path_factory, monkeypatch):
    """Relative URLs lead into a small folder."""
    folder = tmp_path_factory.getbasetemp() / "any-url" / "a" / "b" / "c" / "d"
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)


@pytest.fixture
def store(s3_env):
    return Store()


def holds(act):
    try:
        act()
    except PipelineError as error:
        said = str(error)
        assert said


@pytest.mark.parametrize(
    "url",
    ["s3://scans//n", "s3:///scans/n", "s3://", "s3:///", "s3:////", "s3://s", "s3://scans//",
     "s3://UPPER/x", "s3://a..b/x", "s3://scans/n?versionId=null", "memory://", "://",
     "s3://arn:aws:s3:us-west-2:123456789012:accesspoint/x/y", "s3://scans/\x00", "\x00", "s3:x"],
)  # fmt: skip
def test_odd_urls_through_every_method(store, url):
    for method in METHODS:
        holds(lambda method=method: method(store, url))
    holds(lambda: discover(store, url))
    holds(lambda: discover(store, url, url))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("s3://scans//n/a.nii.gz")
@given(urls)
def test_any_url_through_discovery(s3, url):
    holds(lambda: discover(s3.store, url))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(urls, st.sampled_from(METHODS))
def test_any_url_through_any_method(s3, url, method):
    holds(lambda: method(s3.store, url))


@pytest.mark.parametrize("prefix", ["//n", "/n//", "//"])
def test_a_key_with_empty_parts_is_listed_or_refused_by_name(s3, prefix):
    bucket = s3.bucket("slashes")
    s3.store.write(f"{bucket}/n/a.nii.gz", b"1")
    holds(lambda: discover(s3.store, f"{bucket}{prefix}"))
