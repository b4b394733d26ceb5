import pytest

from unet_pipeline.networks.expressions import NotPlainError, plain_value

VALUES = {"highres": True, "shown#overlap": 0.25, "sizes::0": 96, "text": "x" * 50}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("[1.5, 1.5, 1.5] if @highres else [3.0, 3.0, 3.0]", [1.5, 1.5, 1.5]),
        ("'model.pt' if not @highres else 'other.pt'", "other.pt"),
        ("@shown#overlap * 2", 0.5),
        ("@sizes::0 // 3 - -1", 33),
        ("[@sizes::0, (1, None), False]", [96, [1, None], False]),
        ("@sizes::0 > 90 and @highres", True),
        ("@sizes::0 == 5 or @text != 'y'", True),
    ],
)
def test_plain_expressions_are_read(expression, value):
    assert plain_value(expression, VALUES.__getitem__) == value


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')", "open('/etc/passwd').read()", "@text.upper()",
        "torch.device('cuda')", "lambda x: x", "[x for x in @sizes::0]", "{'a': 1}", "f'{1}'",
        "os", "@text * 1000000000", "[0] * 1000000000", "'a' + 'b'", "9 ** 9 ** 9", "1 << 99999",
        "1 / 0", "(", "", "1 if", "@nowhere", "a := 1", "(" * 500, "1" + "+1" * 600,
    ],
)  # fmt: skip
def test_what_could_run_is_not_plain(expression):
    with pytest.raises(NotPlainError):
        plain_value(expression, VALUES.__getitem__)
