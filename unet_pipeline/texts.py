"""Texts of strangers (names of files, labels, transforms, what a store answers), made showable.

A terminal obeys escape sequences, right-to-left marks turn a line round, a newline in a log begins
a line that nobody wrote, and zero-width marks make two names look alike. Whoever shows a text
passes it through ``shown`` at its border: errors, terminal, logs, pages, tables, Prefect's page.
"""

import re

MOST_CHARACTERS = 2000
_CUT = "..."
# Printable by Unicode's categories, and yet nothing to see: joiners, fillers, variation selectors.
_BLANK = re.compile(
    "[\N{COMBINING GRAPHEME JOINER}\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


def shown(text: str, most: int | None = MOST_CHARACTERS) -> str:
    r"""Return ``text`` on one line, with every character that is not to be seen as ``<U+XXXX>``.

    These are control characters and line breaks, marks of direction and of zero width, spaces other
    than the usual one, lone surrogates and unassigned characters. Letters of any script, and all
    that is showable already, stay as they are, so the function may be called again on its result.

    Parameters
    ----------
    most
        Length over which the text is cut; None for no limit.

    >>> shown("liver \x1b[31m")
    'liver <U+001B>[31m'
    """
    if not text.isprintable() or _BLANK.search(text):
        text = "".join(map(_visible, text))
    if most is not None and len(text) > most:
        return text[: most - len(_CUT)] + _CUT
    return text


def _visible(character: str) -> str:
    if character.isprintable() and not _BLANK.match(character):
        return character
    return f"<U+{ord(character):04X}>"
