"""A bundle whose texts a terminal, a page, a spreadsheet or a log would obey."""

import json
import unicodedata
from pathlib import Path
from typing import Any

from bundles import random_bundle

from unet_pipeline.storage.store import Store

HOSTILE = "\x1b[31mred\u202egnp\u200b\nnext \x07"
MARKUP = "[red]x[link=y] <img src=x> `$(id)` [a](javascript:1)"
_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def hostile_bundle(folder: Path) -> str:
    """Write a bundle whose labels and title say all of it."""
    url = random_bundle(folder, features=(4, 8), roi_size=(16, 16, 16))
    where = f"{url}/configs/metadata.json"
    metadata = json.loads(Path(where).read_text())
    names = {"0": "background", "1": f"{HOSTILE}{MARKUP}", "2": f"=cmd|' /C calc'!A0 {'x' * 9999}"}
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = names
    metadata |= {"name": HOSTILE, "task": MARKUP}
    Store().write(where, json.dumps(metadata).encode())
    return url


def obeyed(text: Any) -> list[str]:
    """Return the characters that something would obey, ends of lines not among them."""
    return [c for c in str(text) if c not in "\r\n" and unicodedata.category(c) in _OBEYED]
