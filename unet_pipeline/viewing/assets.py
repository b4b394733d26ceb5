"""What the viewer's page is made of; NiiVue as npm has it (``deploy/niivue``), held by a digest."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

NIIVUE = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"  # SHA-256, unpacked
HTML, STYLE, SCRIPT = "text/html", "text/css", "text/javascript"
_FILES = {"": ("view.html", HTML), "view.css": ("view.css", STYLE), "view.js": ("view.js", SCRIPT),
          "panel.js": ("panel.js", SCRIPT), "niivue.js": ("niivue.umd.js.gz", SCRIPT)}  # fmt: skip


@dataclass(frozen=True)
class Asset:
    """A file of the page, as it is sent."""

    data: bytes
    kind: str
    packed: bool = False


@cache
def asset(name: str) -> Asset | None:
    """Return a file of the page by its name in the address; None if there is none.

    Raises
    ------
    ValueError
        If NiiVue is not the file that was looked at.
    """
    if name not in _FILES:
        return None
    file, kind = _FILES[name]
    data = files(__package__).joinpath("static", file).read_bytes()
    if not file.endswith(".gz"):
        return Asset(data, f"{kind}; charset=utf-8")
    if hashlib.sha256(gzip.decompress(data)).hexdigest() != NIIVUE:
        raise ValueError(f"{file} is not the version that deploy/niivue names")
    return Asset(data, f"{kind}; charset=utf-8", packed=True)
