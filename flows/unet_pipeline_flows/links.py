"""Links on a run's page, and pictures: to what the run wrote, where a browser reaches it."""

import base64
from pathlib import Path

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
)

from unet_pipeline.report.table import as_code, escape_markdown
from unet_pipeline.storage.filesystems import StorageOptions
from unet_pipeline.storage.links import Links


def show_link(
    place: str, text: str, options: StorageOptions, key: str = "report", command: str = ""
) -> None:
    """Show a link to a file, or how to open it where a browser follows no link to it.

    A page of a web server may not lead to ``file://``, and ``s3://`` is no address.

    Parameters
    ----------
    place
        URL of the file, or its path on this machine.
    options
        Of the store that it lies in.
    command
        What shows it on a machine that has the keys, if there is such a command.
    """
    address = Links.from_environment().address(place, options)
    if address is not None:
        # the list of a run's artifacts shows descriptions alone, so the link stands there, too
        linked = f"[{escape_markdown(text)}](<{address}>) {as_code(place)}"
        create_link_artifact(address, link_text=text, key=key, description=linked)
        return
    create_markdown_artifact(_how_to_open(place, text, command), key=key, description=text)


def _how_to_open(place: str, text: str, command: str) -> str:
    lines = [f"# {text}", as_code(place)]
    if "://" not in place:
        uri = Path(place).resolve().as_uri()
        lines.append(f"In a browser of that machine: copy {as_code(uri)}")
    if command:
        lines.append(f"On a machine that reads the output: {as_code(command)}")
    lines.append("Who runs the worker can have links here instead (`up --link-base`).")
    return "\n\n".join(lines) + "\n"


def show_picture(data: bytes, key: str, description: str, kind: str = "png") -> None:
    """Show a picture, ``png`` or ``svg+xml``."""
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    create_image_artifact(url, key=key, description=description)
