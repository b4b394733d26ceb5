"""A file of models is the command line that it stands for, and nothing more than that."""

import re
from pathlib import Path

import pytest
from bundles import random_bundle
from command_line import cli

from unet_pipeline.config import SegmentSettings
from unet_pipeline.config.allowed import Allowed
from unet_pipeline.config.model_sets import with_models
from unet_pipeline.config.permission import check_allowed
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.plan import open_plan
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.store import Store, join
from unet_pipeline_flows.lifecycle import run_checked

STORE = Store()
FINE = {"images": "s3://scans/in", "output": "s3://results/night", "postprocess": ("fill-holes",)}


def asked(text: str, folder: str = "memory://sets", **more) -> SegmentSettings:
    """A request with a file of models that says ``text``."""
    file = join(folder, "organs.yaml")
    STORE.write(file, text.encode())
    return SegmentSettings(**FINE, model=file, **more)


def refusal(text: str) -> str:
    with pytest.raises(RequestError) as caught:
        with_models(asked(text), STORE)
    return f"{caught.value.code}: {caught.value}"


def test_it_is_the_request_that_the_command_line_makes():
    text = "models: [../organs, s3://m/ribs, hippocampus, /m/skin]\nwithin: liver:20\ncombine: true"
    typed = SegmentSettings(
        **FINE, model="memory://organs", also=("s3://m/ribs", "hippocampus", "/m/skin"),
        within="liver:20", combine=True,
    )  # fmt: skip
    assert with_models(asked(text), STORE) == typed
    assert with_models(typed, STORE) is typed


def test_one_model_is_no_more_than_one_model():
    alone = with_models(asked("models: [vessels]"), STORE)
    assert alone == SegmentSettings(**FINE, model="memory://sets/vessels", also=())


def test_a_local_file_names_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = with_models(asked("models: [a, ./b]", "sets"), STORE)
    assert [Path(one) for one in (found.model, *found.also)] == [
        tmp_path / "sets/a", tmp_path / "sets/b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b", "models_unreadable: memory://sets/organs.yaml: found a file that is no map"),
        ("models: [a", "models_unreadable"),
        ("model: [a]", "setting_unknown: .*'model'.*Did you mean models"),
        ("models: []", "setting_invalid: models in memory://sets/organs.yaml"),
        ("combine: true", "setting_invalid: models in memory://sets/organs.yaml: found no model"),
        ("models: [a, [b]]", "setting_invalid: models in memory"),
        ("models: [a, other.yml]", "setting_invalid: models in .*no further file of models"),
        ("models: ['s3://me:pw@b/a']", "setting_invalid: models in .*takes no password"),
        ("models: [a, b]\nwithin: 20", "setting_invalid: within in memory://sets/organs.yaml"),
        ("models: [a, b]\nwithin: liver", "setting_invalid: within in memory://sets/organs.yaml"),
        ("models: [a]\ncombine: true", "setting_invalid: .*combine only with also"),
        ("!!python/object/apply:os.system [ls]", "models_unreadable"),
        (f"models: [{'a, ' * 30000}b]", "file_too_large"),
    ],
)
def test_what_is_wrong_with_it_is_named_by_its_key(text, said):
    assert re.match(said, refusal(text)), refusal(text)


def test_a_file_that_is_not_there_is_a_wrong_request():
    with pytest.raises(RequestError, match=r"memory://sets/none\.yaml"):
        with_models(SegmentSettings(**FINE, model="memory://sets/none.yaml"), STORE)


@pytest.mark.parametrize(
    "more", [{"also": ("b",)}, {"within": "liver:20"}, {"combine": True}], ids=str
)
def test_nothing_stands_beside_it(more):
    with pytest.raises(ValueError, match="from the file of models, and not beside it"):
        SegmentSettings(**FINE, model="s3://m/organs.yaml", **more)
    with pytest.raises(ValueError, match="a file of models as model"):
        SegmentSettings(**FINE, model="a", also=("s3://m/organs.yaml",))


@pytest.mark.parametrize(
    "model", ["../other/a", "{tmp}/other/a", "a.b/../../other/a", "s3://other/a", "link/a"]
)
def test_a_site_is_asked_about_each_model_in_it(tmp_path, model):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "link").symlink_to(tmp_path / "other")
    site = Allowed(prefixes=("s3://scans", "s3://results", str(tmp_path / "site")))
    text = f"models: [a, phantom, '{model.format(tmp=tmp_path)}']"
    if model == "s3://other/a":
        text = f"ensemble: [a, {model}]"
    with pytest.raises(RequestError, match="names a place") as caught:
        check_allowed(asked(text, str(tmp_path / "site")), site)
    assert caught.value.code == "prefix_not_allowed"
    with pytest.raises(RequestError, match="names a place"):
        check_allowed(asked("models: [phantom]", str(tmp_path / "other")), site)


def test_a_flow_goes_on_with_the_models_that_it_asked_about(tmp_path, monkeypatch):
    """The file is not read again: who changes it meanwhile changes nothing."""
    monkeypatch.setenv("UNET_PIPELINE_ALLOW_PREFIXES", f"s3://scans,s3://results,{tmp_path}")
    seen = []
    run_checked(
        asked("models: [a, b]", str(tmp_path)),
        lambda settings: seen.append(settings),
        SegmentSettings,
    )
    (request,) = seen
    assert (request.model, request.also) == (f"{tmp_path}/a", (f"{tmp_path}/b",))
    assert with_models(request, STORE) is request


def test_each_model_in_it_needs_trust(tmp_path):
    kept = random_bundle(tmp_path / "kept", features=(4, 8))
    random_bundle(tmp_path / "other", features=(4, 8))
    request = asked("models: [kept, other]", str(tmp_path), trust=True)
    here = ("s3://", str(tmp_path))
    with pytest.raises(RequestError, match="other") as caught:
        check_allowed(request, Allowed(trust=frozenset({kept, request.model}), prefixes=here))
    assert caught.value.code == "trust_not_allowed"
    both = frozenset({kept, str(tmp_path / "other")})
    assert check_allowed(request, Allowed(trust=both, prefixes=here)).also == (
        str(tmp_path / "other"),
    )


def test_several_models_in_it_are_not_planned_together():
    with pytest.raises(RequestError, match="Plan each model alone"):
        open_plan(asked("models: [a, b]"))


def test_other_commands_say_that_they_take_a_bundle():
    with pytest.raises(RequestError, match="only segment and plan take a file of models"):
        load_bundle(asked("models: [a]").model, STORE)


def test_the_command_takes_it(tmp_path):
    file = tmp_path / "organs.yaml"
    file.write_text("models: [none]\n")
    done = cli("segment", tmp_path, "--model", file, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert f"{tmp_path}/none" in done.stderr
