"""Options from settings: a command takes a settings object, its users see an option a field."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

import typer

from unet_pipeline.cli.common import request_errors
from unet_pipeline.config import Settings
from unet_pipeline.config.options import Setting, settings_in
from unet_pipeline.config.sources import Sources

SettingsFile = Annotated[
    str | None,
    typer.Option(
        "--settings",
        metavar="FILE.yaml",
        help="Settings in YAML or JSON, with the keys of docs/settings.md. What is said on the "
        "command line counts most, then variables (UNET_PIPELINE_, the command, the option: "
        "UNET_PIPELINE_SEGMENT_MEMORY_GB), then this file, then defaults. --no-X takes back what "
        "a flag --X says there.",
    ),
]
Command = Callable[..., None]
_TYPED = "COMMANDLINE"


def from_settings(command: Command) -> Command:
    """Give a command the options of its settings, in the place of the parameter that takes them.

    Typer goes by the signature, so that is what changes: it finds an option for each field, and
    ``--settings``. The command is given the settings, filled from all sources.

    Raises
    ------
    ValueError
        If two options have one name.
    """
    return _generated(command, {})


def from_settings_unless(flag: str, values: Mapping[str, str]) -> Callable[[Command], Command]:
    """Do the same; with a flag of the command some settings need not be said."""
    return lambda command: _generated(command, {flag: values})


def _generated(command: Command, unless: Mapping[str, Mapping[str, str]]) -> Command:
    hints = get_type_hints(command, include_extras=True)
    ((name, kind),) = [(n, k) for n, k in hints.items() if _is_settings(k)]
    settings = settings_in(kind)
    own = [one for n, one in signature(command).parameters.items() if n != name]
    own = [one.replace(annotation=hints[one.name], kind=Parameter.KEYWORD_ONLY) for one in own]

    @wraps(command)
    def run(context: typer.Context, settings_file: str | None, **given: Any) -> None:
        with request_errors():
            mine = {one.name: given.pop(one.name) for one in own}
            sources = Sources(_words(context), settings)
            for flag in (flag for flag in unless if mine[flag]):
                for one in settings:
                    if one.key in unless[flag]:
                        sources.say(one, unless[flag][one.key], f"--{one.option}")
            file = settings_file or os.environ.get(f"{sources.prefix}SETTINGS")
            if file:
                sources.take_file(file)
            sources.take_environment(os.environ)
            _take_options(sources, context, given)
            filled = sources.filled(kind)
            command(**{name: filled}, **mine)

    seen = [
        Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(one for setting in settings for one in _parameters(setting)),
        Parameter("settings_file", Parameter.KEYWORD_ONLY, annotation=SettingsFile, default=None),
        *own,
    ]
    run.__signature__ = Signature(seen)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in seen}
    return run


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def _words(context: typer.Context) -> list[str]:
    """Return the words of a command, without the program's."""
    parent = context.parent
    return [] if parent is None else [*_words(parent), context.info_name or ""]  # type: ignore[arg-type]


def _take_options(sources: Sources, context: typer.Context, given: Mapping[str, Any]) -> None:
    """Take what was typed; what was not has a default that the settings know, too."""
    for setting in sources.settings:
        for name, value in ((_name(setting), None), (f"no_{_name(setting)}", False)):
            source = context.get_parameter_source(name) if name in given else None
            if source is not None and source.name == _TYPED:
                typed = given[name] if value is None else value
                sources.say(setting, typed, f"--{setting.option}")


def _name(setting: Setting) -> str:
    return setting.option.replace("-", "_")


def _parameters(setting: Setting) -> Iterator[Parameter]:
    """Yield the parameter of a setting; of a flag that is off, also what takes it back."""
    text = setting.help + (" [required]" if setting.is_required else "")
    if setting.argument:
        shown: Any = typer.Argument(help=text, metavar=setting.metavar, show_default=False)
        yield _parameter(setting, list[str] if setting.repeat else str, shown, None)
    elif setting.is_flag:
        names = f"--{setting.option}" + (f"/--no-{setting.option}" if setting.default else "")
        yield _parameter(setting, bool, _option(setting, text, names), setting.default)
        if not setting.default:
            name = f"no_{_name(setting)}"
            hidden = Annotated[bool, typer.Option(f"--no-{setting.option}", hidden=True)]
            yield Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=hidden)
    else:
        shown = _option(setting, text, f"--{setting.option}", metavar=setting.metavar)
        kind = list[str] if setting.repeat else str
        yield _parameter(setting, kind, shown, setting.spelled_default)


def _option(setting: Setting, text: str, names: str, **more: Any) -> Any:
    return typer.Option(names, help=text, rich_help_panel=setting.panel, **more)


def _parameter(setting: Setting, kind: Any, shown: Any, default: Any) -> Parameter:
    taken = kind if kind is bool else kind | None
    return Parameter(
        _name(setting), Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[taken, shown]
    )
