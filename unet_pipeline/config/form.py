"""The run form of a request: what is always needed first, what is seldom needed folded in groups.

Prefect's pages show nested objects open, and what may be None as a choice of two. So a group is an
object or None, *As usual*, which takes two lines until somebody wants to change something in it.
Settings have no groups: those of the form go by the panels of ``--help``.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from unet_pipeline.config.options import Setting, part_of, said_of, settings_in
from unet_pipeline.config.sources import Sources

_S = TypeVar("_S", bound=BaseModel)
Schema = dict[str, Any]
SAVED, USUAL, CHANGE = "saved", "As usual", "Change"
_SAVED: Schema = {
    "title": "Saved settings",
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]{1,255}$",
    "description": "Name of a variable of this page (Variables), an object with keys of a settings "
    "file. What this form leaves at its default is taken from it. Default: none.",
}


@dataclass(frozen=True)
class AsForm:
    """Annotates a settings model, as a parameter of a flow, with the shape of its form."""

    model: type[BaseModel]

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> Schema:
        """Return the schema of the form, which takes requests without groups, too."""
        found = handler(core_schema)
        schema = handler.resolve_ref_schema(found)
        _shape(schema, self.model, None, handler.resolve_ref_schema)
        schema["properties"][SAVED] = dict(_SAVED)
        _put_in_order(schema, self.model)
        return found


def request_of(
    model: type[_S], given: Mapping[str, Any], saved: Callable[[str], Mapping[str, Any]]
) -> _S:
    """Return the settings that a form was filled with.

    What it leaves at its default is taken from the saved settings that it names.

    Parameters
    ----------
    saved
        Takes a name, and returns settings: in groups as a form has them, or without.

    Raises
    ------
    RequestError
        ``setting_invalid``, ``setting_unknown``, and what ``saved`` raises.
    """
    sources = Sources((), settings_in(model))
    form = dict(given)
    if name := form.pop(SAVED, None):
        sources.take(ungrouped(model, saved(name)), f"the variable {name}")
    mine = Sources((), sources.settings)
    mine.take(ungrouped(model, form), "the form")
    for setting in sources.settings:
        if setting.path in mine.values:
            value = mine.values[setting.path]
            if setting.path not in sources.values or not _is_default(setting, value):
                sources.say(setting, value, mine.places[setting.path])
    return sources.filled(model)


def ungrouped(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a form holds without its groups; of a field said twice, what its group says."""
    names = set(groups_of(model).values())
    flat = {key: value for key, value in values.items() if key not in names}
    for name in names:
        group = values.get(name)
        flat |= group if isinstance(group, Mapping) else {}
    return flat


def grouped(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the form shows them: in groups, which are folded where all is as usual."""
    groups, form = groups_of(model), dict[str, Any]()
    usual = {setting.path: setting for setting in settings_in(model)}
    for key, value in ungrouped(model, values).items():
        place = form.setdefault(groups[key], {}) if key in groups else form
        if isinstance(value, Mapping):
            kept = {name: one for name, one in value.items() if _is_said(usual, (key, name), one)}
            place |= {key: kept} if kept else {}
        elif _is_said(usual, (key,), value):
            place[key] = value
    return {key: value for key, value in form.items() if value != {}}


def _is_said(usual: Mapping[tuple[str, ...], Setting], at: tuple[str, ...], value: Any) -> bool:
    return at not in usual or not _is_default(usual[at], value)


def groups_of(model: type[BaseModel]) -> dict[str, str]:
    """Return the key of the group that each folded field of a form is in, by the field's name."""
    titles = {part.model_config.get("title") for _, part in _parts(model)}
    panels = {name: said_of(one).panel for name, one in model.model_fields.items()}
    return {
        name: re.sub("[^a-z]+", "_", panel.lower())
        for name, panel in panels.items()
        if panel and panel not in titles  # one that belongs to a part stands beside it
    }


def _is_default(setting: Setting, value: Any) -> bool:
    if setting.is_required:
        return False  # what a request must say is what its form says
    return _plain(value) == _plain(setting.default) or (value == "" and setting.default is None)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _parts(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, one in model.model_fields.items():
        if part := part_of(one):
            yield name, part


def _shape(
    schema: Schema, model: type[BaseModel], filled: BaseModel | None, find: Callable[..., Schema]
) -> None:
    """Give the schema of a model, in place, the shape of a form."""
    parts, defaults, shaped = dict(_parts(model)), dict[str, Any](), dict[str, Schema]()
    for name, one in model.model_fields.items():
        defaults[name] = one.default if filled is None else getattr(filled, name)
        found = schema["properties"][name]
        if name in parts:
            inner = find({"$ref": found["$ref"]})
            _shape(inner, parts[name], defaults[name], find)
            shaped[name] = _folded(found, inner, parts[name])
        else:
            shaped[name] = _plain_field(name, found, one.title, defaults[name])
    flat, schema["properties"] = schema["properties"], shaped
    if filled is None:
        _fold(schema, model)
        if names := groups_of(model):  # requests without groups, which the server lets pass, too
            schema["patternProperties"] = {f"^{name}$": flat[name] for name in names}


def _plain_field(name: str, found: Schema, title: str | None, default: Any) -> Schema:
    """Return the field of a value: what may be None is empty if it is a text or a number."""
    field = {**found, "title": title or name.replace("_", " ").capitalize()}
    if "default" in field:
        field["default"] = _plain(default)
    kinds = [one for one in field.get("anyOf", []) if one.get("type") != "null"]
    if len(kinds) != 1:
        return field
    (kind,) = kinds
    del field["anyOf"], field["default"]
    if kind.get("type") in ("string", "number", "integer") and "enum" not in kind:
        return {**kind, **field}  # the server takes null, too, where no default is named
    return {**field, "anyOf": [{"type": "null", "title": USUAL}, {**kind, "title": CHANGE}]}


def _folded(found: Schema, inner: Schema, part: type[BaseModel]) -> Schema:
    title = part.model_config.get("title") or ""
    inner["title"] = CHANGE
    about = f"{found.get('description') or inner.get('description', '')} {_contents(inner)}"
    return _choice(title, about.strip(), {"$ref": found["$ref"]})


def _choice(title: str, about: str, change: Schema) -> Schema:
    nothing = {"type": "null", "title": USUAL}
    return {"title": title, "description": about, "anyOf": [nothing, change]}


def _contents(schema: Schema) -> str:
    titles = [one["title"] for one in schema["properties"].values()]
    return f"({'; '.join(titles)})"


def _fold(schema: Schema, model: type[BaseModel]) -> None:
    """Put the fields of each panel into a group."""
    groups, properties = groups_of(model), schema["properties"]
    for key in dict.fromkeys(groups.values()):
        names = [name for name in properties if groups.get(name) == key]
        title = said_of(model.model_fields[names[0]]).panel or ""
        inside = {name: {**properties[name], "position": n} for n, name in enumerate(names)}
        group: Schema = {"type": "object", "title": CHANGE, "properties": inside}
        group["additionalProperties"] = False
        properties[key] = _choice(title, _contents(group), group)
    for name in groups:
        del properties[name]


def _put_in_order(schema: Schema, model: type[BaseModel]) -> None:
    """Let what is always needed stand first, then saved settings, then groups and parts."""
    parts, groups = dict(_parts(model)), dict.fromkeys(groups_of(model).values())
    seldom = [*groups, *parts]
    first = [name for name in schema["properties"] if name not in (*seldom, SAVED)]
    for position, name in enumerate([*first, SAVED, *seldom]):
        if name in schema["properties"]:
            schema["properties"][name]["position"] = position
