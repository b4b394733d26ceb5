"""What all our pages share: style and script in the page, and a policy that allows nothing else."""

import base64
import hashlib
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unet_pipeline import __version__
from unet_pipeline.report.quantities import bytes_text, duration_text, money_text
from unet_pipeline.report.table import number
from unet_pipeline.texts import shown

_NONE = "\N{EN DASH}"


def render(template: str, **values: Any) -> str:
    """Fill a template of this package; the page needs nothing but itself."""
    style, script = _asset("run.css"), _asset("run.js")
    page = _environment().get_template(template)
    return page.render(
        style=style,
        script=script,
        policy=_policy(style, script),
        version=__version__,
        **values,
    )


def data_uri(picture: bytes, kind: str = "png") -> Markup:
    """Return a picture as text that stands in the page."""
    return Markup(f"data:image/{kind};base64,") + base64.b64encode(picture).decode("ascii")  # noqa: S704


def started(run_id: str) -> str:
    """Return the time in a run identifier for people, or nothing if it holds none."""
    try:
        moment = datetime.strptime(run_id[:16], "%Y%m%dT%H%M%S%z")
    except ValueError:
        return ""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _policy(style: Markup, script: Markup) -> str:
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _asset(name: str) -> Markup:
    text = files(__package__).joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 - our own file, not input


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("unet_pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_showable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "fixed": _fixed,
        "duration": duration_text,
        "bytes": bytes_text,
        "money": money_text,
    }
    return environment


def _showable(value: Any) -> Any:
    """Make a text showable before it is escaped, which turns no line round and hides no letter."""
    return shown(value) if type(value) is str else value  # markup is ours


def _fixed(value: float | None, places: int) -> str:
    finite = number(value)
    return _NONE if finite is None else f"{finite:.{places}f}"
