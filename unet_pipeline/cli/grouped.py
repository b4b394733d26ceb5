"""Options in groups: a command takes a few values, and its users see an option for each field."""

from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Options:
    """Options that fill one part of the settings; a subclass has a field for each."""

    def settings(self) -> dict[str, Any]:
        """Return the values by their names in the settings."""
        return asdict(self)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Spread the parameters of a command that are ``Options`` into their fields.

    Typer goes by the signature, so that is what changes: in the place of ``cluster:
    ClusterOptions`` it finds ``kind``, ``workers`` and so on. The command is given the group.

    Raises
    ------
    ValueError
        If two options have one name.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if _is_group(kind)}
    seen = [
        one
        for name, parameter in signature(command).parameters.items()
        for one in (_fields_of(groups[name]) if name in groups else [parameter])
    ]

    @wraps(command)
    def spread(**given: Any) -> None:
        made = {
            name: kind(**{one.name: given.pop(one.name) for one in fields(kind)})
            for name, kind in groups.items()
        }
        command(**given, **made)

    spread.__signature__ = Signature(seen)  # type: ignore[attr-defined]
    spread.__annotations__ = {one.name: one.annotation for one in seen}
    return spread


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Options)


def _fields_of(group: type[Options]) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):
        default = Parameter.empty if one.default is MISSING else one.default
        yield Parameter(
            one.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[one.name]
        )
