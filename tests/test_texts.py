"""One function makes a text showable; what is showable stays as it is."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.errors import CaseError
from unet_pipeline.texts import MOST_CHARACTERS, shown


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("\x1b[31mred", "<U+001B>[31mred"),
        ("two\nlines\r", "two<U+000A>lines<U+000D>"),
        ("gnp\u202egpj", "gnp<U+202E>gpj"),
        ("a\u200bb\u2028c\ufeff", "a<U+200B>b<U+2028>c<U+FEFF>"),
        ("\u2066x\u2069", "<U+2066>x<U+2069>"),
        ("a\u3164b\ufe0f", "a<U+3164>b<U+FE0F>"),
        ("\udc80", "<U+DC80>"),
        ("a\u00a0b", "a<U+00A0>b"),
        ("Leber, печень, 肝臓, כבד <b>", "Leber, печень, 肝臓, כבד <b>"),
    ],
)
def test_what_is_not_to_be_seen_is_written_out(text, wanted):
    assert shown(text) == wanted


@given(st.text())
def test_what_is_shown_is_one_line_that_nothing_obeys_and_stays(text):
    found = shown(text)
    assert found == shown(found)
    assert not [c for c in found if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert len(found) <= MOST_CHARACTERS
    found.encode()


def test_a_text_without_end_is_cut():
    assert shown("x" * 10**6) == "x" * (MOST_CHARACTERS - 3) + "..."
    assert shown("x" * 10**6, None) == "x" * 10**6


def test_all_parts_of_an_error_are_showable():
    error = CaseError("c", subject="a\x1b", found="b\u202e", wanted="c\n", remedy="d\ud800")
    assert str(error) == "a<U+001B>: found b<U+202E>; wanted c<U+000A>. d<U+D800>."
