"""Where the numbers of a run are to be found: at a port, in a file, at both or nowhere.

These are no settings of a request: who fills a form must not open a port of a worker's machine, nor
write a file there. They are said by whoever starts the command or the worker.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.errors import RequestError

PORT = "UNET_PIPELINE_METRICS_PORT"
FILE = "UNET_PIPELINE_METRICS_FILE"
ENDING = ".prom"  # node_exporter reads no others
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Places:
    """Where numbers are shown.

    Attributes
    ----------
    address
        Host and port; None for no port.
    file
        A file that ends with ``.prom``, or the folder in which it gets the name of the run's
        deployment; None for no file.
    """

    address: tuple[str, int] | None = None
    file: Path | None = None

    def file_of(self, name: str) -> Path | None:
        """Return the file of runs of that name."""
        if self.file is None or self.file.suffix == ENDING:
            return self.file
        return self.file / f"{name}{ENDING}"


def places_of(port: str | None, file: str | None) -> Places:
    """Return the places that two texts name; an empty one, and port 0, stand for none.

    Raises
    ------
    RequestError
        ``setting_invalid`` for what is no port.

    >>> places_of("9464", "").address, places_of("10.0.0.7:9464", None).address
    (('127.0.0.1', 9464), ('10.0.0.7', 9464))
    """
    host, _, number = (port or "0").rpartition(":")
    if not (number.isascii() and number.isdigit() and int(number) < 2**16):
        raise RequestError(
            "setting_invalid",
            subject=f"--metrics-port, {PORT}",
            found=repr(port),
            wanted="a port such as 9464, or an address with one such as 10.0.0.7:9464",
            remedy="Give a number below 65536, or leave it out",
        )
    address = (host.strip("[]") or _LOOPBACK, int(number)) if int(number) else None
    return Places(address, Path(file) if file else None)


def places_of_environment() -> Places:
    """Return the places that the environment of this process names.

    Raises
    ------
    RequestError
        As ``places_of``.
    """
    return places_of(os.environ.get(PORT), os.environ.get(FILE))
