"""The forms of the flows: each field says what it is, and what is seldom needed is folded away."""

import re

import jsonschema
import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import preprocess_schema, validate

from unet_pipeline.config import COMMANDS, SegmentSettings
from unet_pipeline.config.form import SAVED, grouped, groups_of, request_of, ungrouped
from unet_pipeline.config.options import settings_in
from unet_pipeline.errors import RequestError
from unet_pipeline_flows.check import check
from unet_pipeline_flows.compare import compare
from unet_pipeline_flows.depths import depths
from unet_pipeline_flows.layers import layers
from unet_pipeline_flows.segment import segment
from unet_pipeline_flows.train import train

FLOWS = {flow.name: flow for flow in (check, compare, depths, layers, segment, train)}
UNIT = re.compile(
    r"mm|GB|[Mm]inutes?|[Hh]ours?|[Vv]oxels?|[Ww]indows|[Cc]ases|[Ww]orkers?|threads|[Tt]imes?|"
    r"[Tt]ries|[Ss]teps?|[Cc]rops|[Ss]hare|[Dd]ice|[Vv]olume|[Cc]hannels?|[Pp]rice|[Ww]eights?|"
    r"[Ll]evel|[Dd]epth|[Ss]eed|[Cc]ohorts|[Ll]earning rate|[Ss]lices|[Vv]alidations|intervals|"
    r"[Ww]eight decay"
)
FINE = {"images": "s3://scans", "model": "phantom", "output": "s3://results"}


def schema_of(name):
    return parameter_schema(FLOWS[name].fn).model_dump()


def parts_of(schema, found):
    """The object that a field may be, or None for a value."""
    for one in [found, *found.get("anyOf", [])]:
        at = schema["definitions"][one["$ref"].split("/")[-1]] if "$ref" in one else one
        if "properties" in at:
            return at
    return None


def fields_of(schema, place):
    """All fields with values, and the folded groups that they are in."""
    for name, one in place["properties"].items():
        if inner := parts_of(schema, one):
            yield from ((f"{name}.{at}", field) for at, field in fields_of(schema, inner))
        else:
            yield name, one


def form_of(name):
    schema = schema_of(name)
    return schema, parts_of(schema, schema["properties"]["settings"])


@pytest.mark.parametrize("name", FLOWS)
def test_every_field_has_a_title_and_a_sentence_with_its_unit(name):
    schema, form = form_of(name)
    fields = dict(fields_of(schema, form))
    assert len(fields) == len(settings_in(COMMANDS[name])) + 1  # and the saved settings
    for at, one in fields.items():
        assert re.fullmatch("[A-Z][^_]+", one["title"]), at
        assert re.fullmatch(r".{20,}\.", one["description"]), at
        kinds = {kind.get("type") for kind in [one, *one.get("anyOf", [])]}
        if kinds & {"integer", "number"}:
            assert UNIT.search(one["title"] + one["description"]), at


@pytest.mark.parametrize("name", FLOWS)
def test_a_field_shows_its_default_or_is_empty_and_says_what_is_done_then(name):
    schema, form = form_of(name)
    required = set(form["required"])
    for at, one in fields_of(schema, form):
        if at in required:
            assert "default" not in one, at
        elif one.get("default", []) in ([], None):
            assert re.search("Default: |given again", one["description"]), at
        else:
            jsonschema.validate(one["default"], one)


@pytest.mark.parametrize("name", FLOWS)
def test_what_must_be_given_stands_first_and_what_is_seldom_needed_is_folded(name):
    schema, form = form_of(name)
    order = sorted(form["properties"], key=lambda key: form["properties"][key]["position"])
    folded = [key for key in order if parts_of(schema, form["properties"][key])]
    assert order.index(SAVED) < order.index(folded[0])
    assert order[-len(folded) :] == folded
    assert set(form["required"]) <= set(order[:4])
    assert len(order) - len(folded) <= 9
    for key in folded:
        nothing, _ = form["properties"][key]["anyOf"]
        assert nothing == {"type": "null", "title": "As usual"}


@pytest.mark.parametrize("name", FLOWS)
def test_no_group_has_the_name_of_a_field(name):
    model = COMMANDS[name]
    assert not set(groups_of(model).values()) & {*model.model_fields, SAVED}


def errors(settings, name="segment"):
    return validate({"settings": settings}, preprocess_schema(schema_of(name)), preprocess=False)


def test_the_server_takes_the_form_and_requests_from_before_there_were_groups():
    """As a run.json, a settings file or the parameters of an older deployment holds them."""
    old = SegmentSettings(**FINE, trust=True, windows={"batch": 2}).model_dump(mode="json")
    assert old["masks"] is None
    assert old["windows"]["overlap"] is None
    assert errors(old) == []
    form = {**FINE, "the_network": {"trust": True}, "windows": {"batch": 2}, "budget": None}
    assert errors(form) == []
    assert grouped(SegmentSettings, old) == {
        **FINE, "the_network": {"trust": True}, "windows": {"batch": 2},
    }  # fmt: skip
    for request in (form, old, grouped(SegmentSettings, old)):
        assert request_of(SegmentSettings, request, {}.__getitem__) == SegmentSettings(**old)
    assert ungrouped(SegmentSettings, {"trust": False, **form})["trust"] is True


@pytest.mark.parametrize(
    "wrong",
    [
        {"windows": {"overlap": 2}},
        {"windows": {"batch": 0}},
        {"windows": {"engine": "warp"}},
        {"the_network": {"depth": "deepest"}},
        {"depth": "deepest"},
        {"cluster": {"kind": "moon"}},
        {"cost": {"currency": "euro"}},
        {"earlier_results": {"other_runs": "fight"}},
        {"several_models": {"within": "liver"}},
        {"the_network": {"batch": 1}},
        {"saved": "s3://a/b"},
        {"nonsense": 1},
        {"images": ""},
        {"masks": "s3://user:secret@scans"},
    ],
)
def test_the_server_refuses_what_is_wrong_where_it_is_typed(wrong):
    assert errors({**FINE, **wrong})


SAVED_ONES = {
    "night": {
        "windows": {"batch": 4, "overlap": 0.5}, "the_network": {"depth": "2"}, "resume": False,
        "masks": "s3://masks", "images": "s3://other",
    }
}  # fmt: skip


def test_saved_settings_fill_what_the_form_leaves_at_its_default():
    form = {
        **FINE, "saved": "night", "earlier_results": {"resume": True, "verify": True},
        "windows": {"batch": 1, "overlap": 0.25, "engine": "eager"}, "cluster": None,
    }  # fmt: skip
    asked = request_of(SegmentSettings, form, SAVED_ONES.__getitem__)
    assert asked == SegmentSettings(
        **FINE, masks="s3://masks", depth="2", resume=False, verify=True,
        windows={"batch": 4, "overlap": 0.25},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("form", "saved", "said"),
    [
        ({"several_models": {"within": "liver:20"}}, {}, "takes within only with also"),
        ({"windows": {"tile": [1, 2]}}, {}, r"windows\.tile in the form: found \[1, 2\]"),
        ({}, {"memory": 3}, r"the variable x: found 'memory'.*budget\.memory_gb"),
        ({}, {"budget": {"memory_gb": -1}}, r"budget\.memory_gb in the variable x: found -1"),
        ({}, {"masks": "s3://u:hunter2@b"}, "no password"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(form, saved, said):
    with pytest.raises(RequestError, match=said) as caught:
        request_of(SegmentSettings, {**FINE, **form, "saved": "x"}, lambda _: saved)
    assert "hunter2" not in str(caught.value)
