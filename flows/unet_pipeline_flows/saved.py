"""Settings that are saved under a name: variables of Prefect's page, which are JSON."""

from collections.abc import Mapping
from typing import Any

from prefect.variables import Variable

from unet_pipeline.errors import RequestError


def saved(name: str) -> Mapping[str, Any]:
    """Return the settings that a variable holds.

    Raises
    ------
    RequestError
        ``settings_unreadable``, where there is none of this name, or it holds something else.
    """
    found = Variable.get(name)
    if isinstance(found, dict):
        return found
    raise RequestError(
        "settings_unreadable",
        subject=f"the variable {name}",
        found="no such variable" if found is None else f"a variable that is {type(found).__name__}",
        wanted="an object with keys of a settings file",
        remedy="Look at Variables on Prefect's page, and write its name as it stands there",
    )
