"""Settings of a call: those of the command of its name, by the names of its options."""

from typing import Any, TypeVar

from unet_pipeline.config import Settings
from unet_pipeline.config.options import settings_in
from unet_pipeline.config.sources import Sources, unknown

S = TypeVar("S", bound=Settings)


def settings_of(kind: type[S], given: dict[str, Any]) -> S:
    """Return the settings of a call; ``None`` stands for the default.

    Raises
    ------
    RequestError
        ``setting_unknown`` for a name that is none of the job's settings, with the nearest;
        ``setting_invalid``.
    """
    known = {setting.option.replace("-", "_"): setting for setting in settings_in(kind)}
    sources = Sources((), [*known.values()])
    for name, value in given.items():
        if name not in known:
            raise unknown("a call", name, [*known])
        if value is not None:
            sources.say(known[name], value, name)
    return sources.filled(kind)
