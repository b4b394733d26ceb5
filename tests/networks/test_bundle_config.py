import json

import pytest

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle_config import ConfigFile


def config(**content):
    return ConfigFile.parse("b/configs/inference.json", json.dumps(content).encode())


def test_references_are_followed_within_the_file():
    found = config(
        key="image",
        size=[32, 48, 32],
        nested={"deep": [{"a": "@key"}]},
        steps=[{"keys": "@key", "copy": "@nested::deep::0::a", "old_style": "@nested#deep#0#a"}],
        inferer="@inferers::best",
        inferers={"best": {"roi_size": "@size"}},
    )
    assert found.value("steps") == [{"keys": "image", "copy": "image", "old_style": "image"}]
    assert found.value("inferer::roi_size") == [32, 48, 32]


def test_expressions_elsewhere_do_not_matter():
    found = config(device="$torch.device('cpu')", roi=[1], dtype="$np.float32")
    assert found.value("roi") == [1]
    assert found.value("dtype") == "$np.float32"
    assert found.value("absent", 0.25) == 0.25


@pytest.mark.parametrize(
    "network_def",
    [
        "$__import__('os').system('true')",
        {"out_channels": "$int(3)"},
        {"out_channels": "@classes"},
        "%other.json::network_def",
        "$np.float32(3)",
    ],
)
def test_an_expression_is_refused_where_the_value_is_needed(network_def):
    with pytest.raises(RequestError, match="expression") as error:
        config(network_def=network_def, classes="$len([1, 2])").value("network_def")
    assert error.value.code == "bundle_expression"


@pytest.mark.parametrize(
    "content",
    [{}, {"a": "@nowhere"}, {"a": "@a"}, {"a": "@b", "b": ["@a"]}, {"a": "@b::9", "b": [1]}],
)
def test_what_leads_nowhere_is_refused(content):
    with pytest.raises(RequestError) as error:
        config(**content).value("a")
    assert error.value.code == "bundle_invalid"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe{}"])
def test_what_is_not_a_json_object_is_refused(data):
    with pytest.raises(RequestError, match="JSON") as error:
        ConfigFile.parse("b/configs/inference.json", data)
    assert error.value.code == "bundle_invalid"
