"""Where a command's settings come from: command line, environment, settings file, defaults."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from unet_pipeline.config.options import Setting, settings_in
from unet_pipeline.errors import RequestError, without_secrets

_S = TypeVar("_S", bound=BaseModel)
_At = tuple[str, ...]


@dataclass
class Sources:
    """What was said of the settings of a command, and where.

    Attributes
    ----------
    command
        Words of the command, such as ``("bundle", "make")``.
    values, places
        By the path of each setting: its value, and what a message calls the place that it is from.
    """

    command: Sequence[str]
    settings: Sequence[Setting]
    values: dict[_At, Any] = field(default_factory=dict)
    places: dict[_At, str] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """What the names of its variables begin with."""
        return prefix_of(self.command)

    def say(self, setting: Setting, value: Any, place: str) -> None:
        """Take a value from a place that counts more than those before."""
        taken = setting.taken(value)
        if (
            setting.length is not None
            and isinstance(taken, list | tuple)
            and len(taken) != setting.length
        ):
            raise _invalid(place, value, f"{setting.length} numbers, {setting.metavar}")
        self.values[setting.path], self.places[setting.path] = taken, place

    def take_file(self, path: str) -> None:
        """Take what a settings file says, YAML or JSON, in the form's own parts and names."""
        self.take(_mapping(path), path)

    def take(self, values: Mapping[Any, Any], where: str) -> None:
        """Take values in the parts and by the names of the settings, from a place of this name."""
        known = {setting.path: setting for setting in self.settings}
        parts = {path[:n] for path in known for n in range(len(path))}
        for at, value in _leaves(values, parts):
            if at not in known and at not in parts:
                raise unknown(where, ".".join(at), [one.key for one in self.settings])
            place = f"{'.'.join(at)} in {where}"
            if at in parts:
                raise _invalid(place, value, "a mapping of names to values")
            self.say(known[at], value, place)

    def take_environment(self, environment: Mapping[str, str]) -> None:
        """Take what the command's variables say; empty ones say nothing."""
        known = {variable_of(self.command, one): one for one in self.settings}
        known_names = [*known, self.prefix + "SETTINGS"]
        for name in sorted(environment):
            if name.startswith(self.prefix) and name not in known_names:
                raise unknown("the environment", name, known_names)
            if name in known and environment[name]:
                setting, text = known[name], environment[name]
                self.say(setting, text.split(",") if setting.repeat else text, name)

    def filled(self, kind: type[_S]) -> _S:
        """Return the settings; what is wrong with a value becomes one sentence."""
        nested: dict[str, Any] = {}
        for path, value in self.values.items():
            part = nested
            for name in path[:-1]:
                part = part.setdefault(name, {})
            part[path[-1]] = value
        return settings_of(kind, self.places, **nested)


def prefix_of(command: Sequence[str]) -> str:
    """Return what the names of a command's variables begin with."""
    return "_".join(["UNET_PIPELINE", *(word.upper() for word in command), ""])


def variable_of(command: Sequence[str], setting: Setting) -> str:
    """Return the variable that fills a setting of a command."""
    return prefix_of(command) + setting.option.upper().replace("-", "_")


def settings_of(kind: type[_S], places: Mapping[_At, str] | None = None, /, **values: Any) -> _S:
    """Fill a settings object; what is wrong with a value becomes one sentence."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        at = tuple(part for part in first["loc"] if isinstance(part, str))  # no places in lists
        place = (places or {}).get(at) or _option(kind, at)
        if first["type"] == "missing":
            raise RequestError(
                "setting_invalid", subject=place, found="nothing", wanted="a value",
                remedy="See --help",
            ) from error  # fmt: skip
        wanted = first["msg"][0].lower() + first["msg"][1:]
        if not at:  # what the whole of it says: no value is to be named
            raise RequestError(
                "setting_invalid", subject="the settings", found="values that do not go together",
                wanted=wanted.removeprefix("value error, "), remedy="See --help",
            ) from error  # fmt: skip
        raise _invalid(place, first["input"], wanted) from error


def _option(kind: type[BaseModel], at: _At) -> str:
    names = {setting.path: setting.option for setting in settings_in(kind)}
    return "--" + names.get(at, "".join(at[-1:]).replace("_", "-"))


def _invalid(place: str, value: Any, wanted: str) -> RequestError:
    found = without_secrets(repr(value), one_url=True)
    return RequestError(
        "setting_invalid", subject=place, found=found, wanted=wanted, remedy="See --help"
    )


def unknown(where: str, name: str, known: Sequence[str]) -> RequestError:
    """Say that a name is none of a command's settings, and which is nearest."""
    last = {one.rpartition(".")[2]: one for one in known}
    near = get_close_matches(name, known, 1) or [
        last[one] for one in get_close_matches(name.rpartition(".")[2], last, 1)
    ]
    return RequestError(
        "setting_unknown",
        subject=where,
        found=without_secrets(repr(name), one_url=True),
        wanted="a setting of this command",
        remedy=f"Did you mean {near[0]}?" if near else "See --help",
    )


def _leaves(mapping: Mapping[Any, Any], parts: set[_At], at: _At = ()) -> Iterator[tuple[_At, Any]]:
    """Yield the values of a file with the names that lead to each; an empty part says nothing."""
    for name, value in mapping.items():
        here = (*at, str(name))
        if here in parts and (isinstance(value, dict) or value is None):
            yield from _leaves(value or {}, parts, here)
        else:
            yield here, value


def _mapping(path: str) -> dict[Any, Any]:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
        values = json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise _unreadable(path, f"a file that cannot be read ({type(error).__name__})") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise _unreadable(path, "a file that is no mapping of names to values")
    return values


def _unreadable(path: str, found: str) -> RequestError:
    return RequestError(
        "settings_unreadable",
        subject=path,
        found=found,
        wanted="settings in YAML or JSON",
        remedy="Compare it with docs/settings.md",
    )
