"""A password or a signature in a URL is refused wherever a URL is taken, and never shown."""

import json
import logging
from urllib.parse import quote

import jsonschema
import pytest
from bundles import random_bundle
from cohorts import write_tiny
from command_line import cli
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from unet_pipeline.config import (
    CheckSettings,
    CompareSettings,
    DepthsSettings,
    LayersSettings,
    SegmentSettings,
    TrainSettings,
)
from unet_pipeline.config.sources import settings_of
from unet_pipeline.errors import CaseError, RequestError, has_secret, without_secrets
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.store import StorageOptions, Store
from unet_pipeline.storage.urls import redact

CANARY = "canaryPASSWORDcanary"
SECRET_URLS = [
    f"https://me:{CANARY}@store.example.org/scans/x.nii.gz",
    f"https://{CANARY}@store.example.org/scans/x.nii.gz",
    f"s3://AKIAKEY:{CANARY}/with+slash@scans/x.nii.gz",
    f"https://store.example.org/x.nii.gz?X-Amz-Credential=me&X-Amz-Signature={CANARY}",
    f"https://acc.blob.example.org/x.nii.gz?sv=1&sig={CANARY}",
    f"s3://scans/x.nii.gz?X-Amz-Security-Token={CANARY}",
    f"sftp://me:{CANARY}@host:22/x.nii.gz",
    f"s3://me:9000/{CANARY}@scans/x.nii.gz",
    f"https://me:9000/{CANARY}@store.example.org/x.nii.gz",
    f"hf://{CANARY}@models/x.nii.gz",
    f"s3://{CANARY}@scans/x.nii.gz",
    f"gs://me%3A{CANARY}%40scans/x.nii.gz",
    f"s3%3A%2F%2Fme%3A{CANARY}%40scans/x.nii.gz",
    f"s3://scans/x.nii.gz?token={CANARY}",
    f"s3://scans/x.nii.gz?versionId=1&Api_Key={CANARY}",
    f"https://store.example.org/x.nii.gz#access_token={CANARY}",
    f"s3://me:with spaces {CANARY}@scans/x.nii.gz",
]
PLAIN_URLS = [
    "s3://scans/a:b@c/x.nii.gz", "s3://scans/x?.nii.gz", "https://host:9000/a-b.nii.gz",
    "file:///data/me:x@y/x.nii.gz", "/data/me:x@y/x.nii.gz", "memory://x", "tcp://host:8786",
    "s3://scans/tokens/signature=1/x.nii.gz", "s3://scans/x.nii.gz?versionId=abc",
]  # fmt: skip
REQUIRED = {
    SegmentSettings: {"images": "-", "model": "-", "output": "-"},
    CheckSettings: {"images": "-"},
    DepthsSettings: {"images": "-", "model": "-", "output": "-"},
    CompareSettings: {"images": "-", "models": ["a", "b"], "output": "-"},
    LayersSettings: {"images": "-", "model": "-", "output": "-"},
    TrainSettings: {"images": "-", "output": "-"},
}
FIELDS = {"images", "masks", "model", "models", "output", "fix"}


@pytest.mark.parametrize("url", SECRET_URLS)
def test_secrets_are_seen_and_left_out(url):
    assert has_secret(url)
    assert not has_secret(without_secrets(url, one_url=True))
    assert CANARY not in redact(url)
    url = redact(url) if " " in url else url  # a text does not say where a URL with spaces ends
    error = CaseError("code", subject=url, found=f"a file {url} that", wanted=url, remedy=url)
    assert CANARY not in f"{error} {error!r} {error.found}"
    assert "x.nii.gz" in str(error) or "@" in url


_USER = st.from_regex("[a-z]*", fullmatch=True)
_SECRET = st.text(min_size=1, max_size=12).map(lambda text: f"{CANARY}{text}{CANARY}")
_PROTOCOL = st.sampled_from(["s3", "https", "ftp", "hf", "gs", "webhdfs", "memory", "x+y"])
_PLANTED = st.one_of(
    st.builds(lambda p, user, s: f"{p}://{user}:{s}@b/x", _PROTOCOL, _USER, _SECRET),
    st.builds(lambda p, s: f"{p}://{s}@b/x", _PROTOCOL, _SECRET.filter(lambda s: "/" not in s)),
    st.builds(
        lambda p, key, s: f"{p}://b/x?{key}={s}", _PROTOCOL,
        st.sampled_from(["token", "X-Amz-Signature", "sig", "AWSAccessKeyId", "a=1&pwd"]), _SECRET,
    ),
)  # fmt: skip


@given(_PLANTED, st.sampled_from([str, quote, lambda url: quote(url, safe="")]))
def test_no_planted_secret_comes_out(url, spelled):
    url = spelled(url)
    assert has_secret(url)
    assert CANARY not in redact(url)
    with pytest.raises(RequestError) as caught:
        Store().read(url if "://" in url else f"s3://b/{url}")
    assert CANARY not in f"{caught.value} {caught.value!r} {caught.value.args}"
    with pytest.raises(RequestError) as caught:
        settings_of(SegmentSettings, images=url, model="m", output="o")
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("url", PLAIN_URLS)
def test_other_urls_stay_as_they_are(url):
    assert not has_secret(url)
    assert without_secrets(f"{url} and {url}") == f"{url} and {url}"


@pytest.mark.parametrize("kind", REQUIRED)
@pytest.mark.parametrize("url", SECRET_URLS)
def test_every_setting_that_takes_a_url_refuses_them(kind, url):
    names = FIELDS & set(kind.model_fields)
    assert {"images", "output"} <= names
    for name in names:
        value = [url, "b"] if name == "models" else url
        with pytest.raises(ValidationError, match="no password") as caught:
            kind(**{**REQUIRED[kind], name: value})
        assert CANARY not in str(caught.value)
    for name, value in (("endpoint_url", url), ("allow", [url])):
        with pytest.raises(ValidationError, match="no password") as caught:
            kind(**REQUIRED[kind], storage={name: value})
        assert CANARY not in str(caught.value)


@pytest.mark.parametrize("url", [*SECRET_URLS, *PLAIN_URLS])
def test_the_form_refuses_them_before_prefect_stores_them(url):
    """Prefect's server holds parameters against the schema: it must say what the settings say."""
    for kind, required in REQUIRED.items():
        schema = kind.model_json_schema()
        jsonschema.validate(required, schema)
        for name in FIELDS & set(kind.model_fields):
            request = {**required, name: [url, "b"] if name == "models" else url}
            assert jsonschema.Draft202012Validator(schema).is_valid(request) != has_secret(url)


@pytest.mark.parametrize("url", SECRET_URLS)
@pytest.mark.parametrize(
    "words",
    [
        ["segment", "URL", "--model", "phantom", "--output", "OUT"],
        ["segment", "IN", "--model", "URL", "--output", "OUT"],
        ["segment", "IN", "--model", "phantom", "--output", "URL"],
        ["segment", "IN", "--model", "phantom", "--output", "OUT", "--endpoint-url", "URL"],
        ["segment", "IN", "--model", "phantom", "--output", "OUT", "--allow", "URL"],
        ["check", "IN", "--masks", "URL"],
        ["plan", "URL", "--model", "phantom"],
        ["bundle", "inspect", "URL"],
    ],
    ids=lambda words: " ".join(words),
)
def test_no_command_takes_or_shows_them(words, url, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    places = {"URL": url, "IN": str(tmp_path), "OUT": str(tmp_path / "out")}
    done = cli("-v", *(places.get(word, word) for word in words))
    assert done.returncode == 2
    assert "[setting_invalid]" in done.stderr or "[url_secret]" in done.stderr
    assert CANARY not in done.stdout + done.stderr + caplog.text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("url", SECRET_URLS)
def test_a_manifest_with_one_is_refused_by_its_line(tmp_path, url):
    lines = [{"case": "a", "image": "a.nii.gz"}, {"case": "b", "image": f"b.nii.gz;{url}"}]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    store = Store(StorageOptions(allowed=(url,)))
    with pytest.raises(RequestError) as caught:
        discover(store, str(manifest))
    assert caught.value.code == "manifest_invalid"
    assert "line 2, column image" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("url", SECRET_URLS)
def test_the_store_itself_refuses_them(url):
    store = Store()
    uses = (
        store.read,
        store.exists,
        store.list_files,
        store.check_writable,
        lambda url: store.write(url, b"x"),
        lambda url: load_bundle(url, store),
    )
    for use in uses:
        with pytest.raises(RequestError) as caught:
            use(url)
        assert caught.value.code == "url_secret"
        assert CANARY not in str(caught.value)


def test_plain_urls_are_still_taken(tmp_path):
    write_tiny(Store(), str(tmp_path), 1)
    random_bundle(tmp_path / "bundle@x:1", features=(4, 8))
    SegmentSettings(images=f"{tmp_path}/images", model=f"{tmp_path}/bundle@x:1", output="out@here")
    assert discover(Store(), f"{tmp_path}/images/*.nii.gz").cases
    assert load_bundle(f"{tmp_path}/bundle@x:1", Store()).in_channels == 1
