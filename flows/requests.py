"""What all flows ask of a request before they hand it to the package, and links to its output."""

from pathlib import Path

from prefect.runtime import deployment

from unet_pipeline.errors import RequestError


def absolute_output(output: str) -> None:
    """Refuse what a worker would remove: it runs a deployment in a temporary folder."""
    if deployment.id and "://" not in output and not Path(output).is_absolute():
        raise RequestError(
            "output_relative",
            subject=output,
            found="a relative path, in the worker's temporary folder",
            wanted="a URL or an absolute path",
            remedy="Give the whole path of the output",
        )


def link_to(place: str) -> str:
    """Return what a browser opens: the URL itself, or that of a local file."""
    return place if "://" in place else Path(place).resolve().as_uri()
