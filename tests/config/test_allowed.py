"""What a run may name is the site's to say; the command line's user asks nobody."""

import typing
from pathlib import Path

import pytest
from bundles import random_bundle
from pydantic import BaseModel
from strange_pages import bundle_that_leaves_a_mark

from unet_pipeline.config import (
    CheckSettings,
    CompareSettings,
    DepthsSettings,
    LayersSettings,
    SegmentSettings,
    TrainSettings,
)
from unet_pipeline.config.allowed import VARIABLE, Allowed
from unet_pipeline.config.permission import FILES, PLACES, check_allowed
from unet_pipeline.errors import RequestError
from unet_pipeline.networks.pinned import trust_digest
from unet_pipeline.storage.store import Store

REQUESTS = (
    CheckSettings, CompareSettings, DepthsSettings, LayersSettings, SegmentSettings, TrainSettings,
)  # fmt: skip
# Texts that name nothing: numbers and words of our own, checked by their own patterns, or prose.
HARMLESS = {
    "depth", "mirror", "currency", "region", "layers", "fold", "flip", "upsample", "network",
    "engine", "blend", "split", "view", "augmentation", "name", "schedule", "precision",
    "remedies", "tolerance", "postprocess", "mask_pattern", "title", "data", "licence",
    "label_names", "labels", "within", "version_name", "after", "shard",
    "at_price",
}  # fmt: skip
SITE = Allowed(prefixes=("s3://scans", "s3://results/night"))
FINE = {"images": "s3://scans/in", "model": "phantom", "output": "s3://results/night"}


def refusal(settings: BaseModel, allowed: Allowed = SITE) -> str | None:
    try:
        check_allowed(settings, allowed)
    except RequestError as error:
        return error.code
    return None


def asked(**changes) -> SegmentSettings:
    return SegmentSettings(**{**FINE, **changes})


def texts_of(model: type[BaseModel]) -> set[str]:
    """Names of the fields of a request, and of its parts, that take a text."""

    def takes_text(kind: object) -> bool:
        return kind is str or any(takes_text(part) for part in typing.get_args(kind))

    found = set()
    for name, field in model.model_fields.items():
        parts = [field.annotation, *typing.get_args(field.annotation)]
        inner = [one for one in parts if isinstance(one, type) and issubclass(one, BaseModel)]
        for one in inner:
            found |= texts_of(one)
        if not inner and takes_text(field.annotation):
            found.add(name)
    return found


def test_every_text_of_a_request_is_asked_about_or_names_nothing():
    """A field that is added later must be put on one of the lists."""
    asked_about = PLACES | FILES | {"endpoint_url", "profile", "kind"}
    found = set.union(*(texts_of(request) for request in REQUESTS))
    assert found - HARMLESS == asked_about
    assert PLACES | {"site", "endpoint_url"} <= found


@pytest.mark.parametrize(
    "changes",
    [
        {"images": "s3://other/in"}, {"images": "s3://scans-of-others/in"},
        {"images": "s3://scans/../other/in"}, {"images": "s3://private/../scans/in"},
        {"images": "s3://scan*/in"}, {"images": "s3://[s]cans/in"},
        {"images": "/etc"}, {"images": "file:///etc"}, {"images": "S3A://other/in"},
        {"images": "http://10.0.0.1/scans"}, {"images": "simplecache::s3://scans/in"},
        {"images": "memory://scans"}, {"masks": "s3://other/masks"},
        {"also": ("phantom", "s3://other/b")}, {"ensemble": ("phantom", "s3://other/b")},
        {"model": "s3://other/bundle"}, {"model": "/tmp/bundle"}, {"model": "./phantom"},
        {"model": ".."}, {"model": "~"},
        {"output": "s3://results"}, {"output": "s3://results/nightly"},
        {"output": "s3://results/morning"}, {"budget": {"scratch": "/mnt/other"}},
        {"storage": {"allow": ("s3://other",)}}, {"compare_with": "s3://other/results"},
    ],
)  # fmt: skip
def test_a_place_that_is_not_allowed_is_refused(changes):
    assert refusal(asked(**changes)) == "prefix_not_allowed"


def test_what_is_allowed_may_be_named():
    assert refusal(asked()) is None
    assert refusal(asked(images="S3A://scans/in/*/t1.nii.gz", masks="s3://scans")) is None
    everywhere = Allowed(prefixes=("s3://",))
    assert refusal(asked(images="s3://other/in"), everywhere) is None
    assert refusal(asked(images="https://other/in"), everywhere) == "prefix_not_allowed"


def test_a_name_that_is_no_bundle_is_left_to_be_called_so():
    """It is a folder of the worker's own for this run, where there is none."""
    assert refusal(asked(model="nonsense")) is None


def test_local_folders_are_followed_to_where_they_are(tmp_path):
    """A link out of the folder, and what is hidden in it, are not allowed with it."""
    (tmp_path / "site/scans").mkdir(parents=True)
    (tmp_path / "site/.ssh").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "site/link").symlink_to(tmp_path / "secret")
    site = Allowed(prefixes=("s3://", str(tmp_path / "site")))
    assert refusal(asked(images=str(tmp_path / "site/scans")), site) is None
    for place in ("secret", "site/link", "site/scans/../../secret", "site/.ssh", "site/.ssh/*"):
        assert refusal(asked(images=str(tmp_path / place)), site) == "prefix_not_allowed", place
    (tmp_path / "alias").symlink_to(tmp_path / "site")  # the site's own folder may be a link
    alias = Allowed(prefixes=("s3://", str(tmp_path / "alias")))
    assert refusal(asked(images=str(tmp_path / "alias/scans")), alias) is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"storage": {"endpoint_url": "https://s3.stranger.example"}}, "endpoint_not_allowed"),
        ({"storage": {"profile": "admin"}}, "profile_not_allowed"),
        ({"cluster": {"kind": "tcp://stranger.example:8786"}}, "cluster_not_allowed"),
        ({"cluster": {"kind": "tls://stranger.example:8786"}}, "cluster_not_allowed"),
        ({"cluster": {"kind": "slurm", "site": "/tmp/site.yaml"}}, "file_not_allowed"),
        ({"cluster": {"kind": "local", "tls": "/tmp/tls"}}, "file_not_allowed"),
    ],
)
def test_who_is_believed_is_the_sites_to_say(changes, code):
    assert refusal(asked(**changes)) == code
    theirs = Allowed(
        endpoints=frozenset({"https://s3.stranger.example/"}), prefixes=SITE.prefixes,
        clusters=frozenset({"tcp://stranger.example:8786", "tls://stranger.example:8786"}),
        files=frozenset({"/tmp/site.yaml", "/tmp/tls"}), profiles=frozenset({"admin"}),
    )  # fmt: skip
    assert refusal(asked(**changes), theirs) is None


def test_every_bundle_of_a_comparison_is_asked_about():
    fine = {"images": "s3://scans/in", "output": "s3://results/night"}
    for models in (["phantom", "a=s3://other/a"], ["phantom", "s3://other/a=b"], ["a=b=s3://x/a"]):
        assert refusal(CompareSettings(models=models, **fine)) == "prefix_not_allowed", models
    assert refusal(CompareSettings(models=["phantom", "a=s3://scans/a"], **fine)) is None


def test_trust_is_allowed_by_name_or_by_digest_of_what_is_in_the_bundle(tmp_path):
    mark = tmp_path / "code-ran"
    model = bundle_that_leaves_a_mark(tmp_path / "bundle", mark)
    settings = asked(model=model, trust=True)
    here = ("s3://", str(tmp_path))
    digest = trust_digest(model, Store())
    with pytest.raises(RequestError, match=digest) as caught:
        check_allowed(settings, Allowed(prefixes=here))
    assert caught.value.code == "trust_not_allowed"
    for trust in ({model}, {f"{model}/"}, {digest}, {"s3://other", digest}):
        assert refusal(settings, Allowed(frozenset(trust), prefixes=here)) is None
    for trust in ({"bundle"}, {f"{model}2"}, {str(tmp_path)}, {"sha256:0"}, {"*"}):
        code = refusal(settings, Allowed(frozenset(trust), prefixes=here))
        assert code == "trust_not_allowed", trust
    assert not mark.exists()


@pytest.mark.parametrize("file", ["configs/inference.json", "scripts/own.py", "models/model.ts",
                                  "models/model.safetensors"])  # fmt: skip
def test_a_digest_holds_for_all_that_can_run(tmp_path, file):
    model = Path(random_bundle(tmp_path / "bundle", features=(4, 8)))
    before = trust_digest(str(model), Store())
    (model / file).parent.mkdir(exist_ok=True)
    old = (model / file).read_bytes() if (model / file).exists() else b""
    (model / file).write_bytes(old + b" ")
    assert trust_digest(str(model), Store()) != before


def test_every_bundle_of_a_comparison_needs_trust(tmp_path):
    one = bundle_that_leaves_a_mark(tmp_path / "one", tmp_path / "mark")
    two = bundle_that_leaves_a_mark(tmp_path / "two", tmp_path / "mark")
    settings = CompareSettings(
        images="s3://scans", output="s3://scans", models=[f"a={one}", two], trust=True
    )
    here = ("s3://", str(tmp_path))
    assert refusal(settings, Allowed(frozenset({one}), prefixes=here)) == "trust_not_allowed"
    assert refusal(settings, Allowed(frozenset({one, two}), prefixes=here)) is None


def test_without_a_word_a_worker_allows_its_own_places_and_trusts_nothing():
    default = Allowed.from_environment({"AWS_ENDPOINT_URL": "https://s3.here"})
    assert default == Allowed(
        endpoints=frozenset({"https://s3.here"}), prefixes=("s3://", str(Path.home()))
    )
    said = Allowed.from_environment({
        VARIABLE["trust"]: "s3://models/own, sha256:12", VARIABLE["prefix"]: "s3://scans",
        "UNET_PIPELINE_OUTPUT": "s3://results/night", "UNET_PIPELINE_MODEL": "hippocampus",
        "UNET_PIPELINE_CLUSTER": "tcp://dask-scheduler:8786", "UNET_PIPELINE_SITE": "/etc/s.yaml",
    })  # fmt: skip
    assert said.trust == {"s3://models/own", "sha256:12"}
    assert said.prefixes == ("s3://scans", "s3://results/night")
    assert said.clusters == {"tcp://dask-scheduler:8786"}
    assert said.files == {"/etc/s.yaml"}
