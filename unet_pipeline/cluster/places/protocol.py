"""What a place has to say of itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unet_pipeline.cluster.spec import ClusterSpec

if TYPE_CHECKING:  # settings are read without Dask, which takes most of a second
    from distributed import Security

Start = Callable[[ClusterSpec, "Security | None"], Any]


@dataclass(frozen=True)
class Place:
    """A place where Dask workers can be.

    Attributes
    ----------
    start
        Starts a cluster that ends with the run; None where a scheduler is there already.
    advice
        What to do where there is no worker.
    wait_seconds
        How long to wait where there is none, unless a request says otherwise: for the first, and
        for another where all are lost.
    adapts
        Whether workers come and go with the work.
    starts_empty
        Whether ``start`` asks for no workers. They are asked for at once, and start while the
        request is checked; a run waits for all of them.
    site
        What a worker's job or pod looks like there: a type that is read from an operator's file.
    """

    start: Start | None
    advice: str
    wait_seconds: float = 180.0
    adapts: bool = False
    starts_empty: bool = False
    site: type | None = None


RUNNING = Place(
    None,
    advice="Look at the logs of its workers, and start one with `dask worker ADDRESS`",
    wait_seconds=60.0,
)
