"""Site files: what a worker's job or pod looks like at one place, written once by its operator."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from unet_pipeline.cluster.places import place_of
from unet_pipeline.errors import RequestError


def read_site(kind: str, path: str | None) -> Any:
    """Return the site of a place whose workers are an operator's, checked; None for the others.

    Raises
    ------
    RequestError
        ``site_unreadable`` for a file that is no YAML mapping, ``site_invalid`` for one that says
        what no site has, ``site_unused`` where the place takes none.
    """
    site = None if kind == "serial" else place_of(kind).site
    if site is None:
        if path is not None:
            raise RequestError(
                "site_unused", subject=path, found=f"a site file, and --cluster {kind}",
                wanted="a site file only for jobs and pods, as of --cluster slurm and kubernetes",
                remedy="Leave --site out",
            )  # fmt: skip
        return None
    values = {} if path is None else _mapping(path)
    try:
        return TypeAdapter(site).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "the file"
        raise RequestError(
            "site_invalid", subject=path or kind, found=f"{name}: {first['msg']}",
            wanted=f"the settings of a {kind} site",
            remedy=f"Compare it with the file to copy in deploy/{kind}",
        ) from error  # fmt: skip


def _mapping(path: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise _unreadable(path, f"a file that cannot be read ({type(error).__name__})") from error
    if not isinstance(values, dict):
        raise _unreadable(path, "a file that is no mapping of names to values")
    return values


def _unreadable(path: str, found: str) -> RequestError:
    return RequestError(
        "site_unreadable", subject=path, found=found, wanted="a site file in YAML",
        remedy="Copy one of deploy/slurm or deploy/kubernetes and change it",
    )  # fmt: skip
