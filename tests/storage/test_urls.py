import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.storage.store import basename, join, relative_to
from unet_pipeline.storage.urls import canonical, fixed_part, has_wildcard, parent, redact

PREFIXES = ["s3://bucket", "s3://bucket/a/b", "memory://x", "/data", "/", "file:///data/x", "here"]
names = st.text(string.ascii_letters + string.digits + " _-.é", min_size=1, max_size=12).filter(
    lambda name: set(name) != {"."}
)


@given(st.sampled_from(PREFIXES), st.lists(names, min_size=1, max_size=4))
def test_relative_to_undoes_join(prefix, parts):
    url = join(prefix, *parts)
    assert relative_to(url, prefix) == "/".join(parts)
    assert basename(url) == parts[-1]
    assert parent(url) == canonical(join(prefix, *parts[:-1]))


@given(st.sampled_from(PREFIXES), st.lists(names, max_size=4))
def test_canonical_is_a_fixed_point(prefix, parts):
    url = canonical(join(prefix, *parts))
    assert canonical(url) == url
    assert canonical(url + "/") == url


@pytest.mark.parametrize(
    ("url", "parts", "joined"),
    [
        ("s3://b", ["x"], "s3://b/x"),
        ("s3://b/", ["x/", "/y"], "s3://b/x/y"),
        ("s3://b/p", ["", "x"], "s3://b/p/x"),
        ("memory://", ["x"], "memory://x"),
        ("/", ["x"], "/x"),
        ("file:///", ["x"], "file:///x"),
        ("", ["x"], "x"),
        ("s3://b/p", [], "s3://b/p"),
    ],
)
def test_join(url, parts, joined):
    assert join(url, *parts) == joined


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("s3a://b/x/", "s3://b/x"),
        ("S3://b/X", "s3://b/X"),
        ("memory:///x", "memory://x"),
        ("file:///data//x/", "/data/x"),
        ("//data/x", "/data/x"),
        ("~/x", str(Path.home() / "x")),
        ("x", str(Path.cwd() / "x")),
    ],
)
def test_canonical(url, same):
    assert canonical(url) == same


def test_relative_to_refuses_a_neighbour_whose_name_starts_alike():
    with pytest.raises(ValueError, match="does not lie below"):
        relative_to("s3://b/images2/x", "s3://b/images")


@pytest.mark.parametrize(
    ("pattern", "fixed"),
    [
        ("s3://b/a/*/x.nii", "s3://b/a"),
        ("s3://b/sub-*/x.nii", "s3://b"),
        ("/data/CT?.nii", "/data"),
        ("/data/**/[ab].nii", "/data"),
        ("/*.nii", "/"),
        ("/data/x", "/data/x"),
    ],
)
def test_fixed_part(pattern, fixed):
    assert fixed_part(pattern) == fixed
    assert not has_wildcard(fixed)


def test_redact_keeps_secrets_of_web_urls_to_itself():
    assert redact("https://me:pw@host:1/x?X-Amz-Signature=abc") == "https://host:1/x"
    assert redact("s3://bucket/what?.nii") == "s3://bucket/what?.nii"
