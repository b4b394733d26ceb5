"""When a run begins no further case though nothing is at fault: after a time, or at a price."""

from dataclasses import dataclass, field
from time import perf_counter

from unet_pipeline.durations import duration_text
from unet_pipeline.errors import RunStopped
from unet_pipeline.records import Rate

TIME_UP, PRICE_REACHED = "time_up", "price_reached"
AS_ASKED = frozenset({TIME_UP, PRICE_REACHED})  # codes of what somebody asked for
_REMEDY = "Nothing is at fault: the next run goes on"


@dataclass(frozen=True)
class RunEnd:
    """How long a run may begin further cases, and what it may have cost by then.

    Attributes
    ----------
    seconds
        From ``begin`` on; None for no limit.
    price
        Of its workers, in the currency of the rate; None for no limit.
    begin
        Moment of ``perf_counter`` at which the run began.
    """

    seconds: float | None = None
    price: float | None = None
    rate: Rate | None = None
    begin: float = field(default_factory=perf_counter)

    def reached(self, workers: int) -> RunStopped | None:
        """Return why no further case is to be begun; None where there is time and money.

        Parameters
        ----------
        workers
            Number of worker processes, which are paid for whether they are busy or not.
        """
        seconds = perf_counter() - self.begin
        if self.seconds is not None and seconds >= self.seconds:
            return RunStopped(
                TIME_UP,
                found=f"a run of {duration_text(seconds)}",
                wanted=f"no further case after {duration_text(self.seconds)} (--stop-after)",
                remedy=_REMEDY,
            )
        if self.price is None or self.rate is None:
            return None
        spent = self.rate.hourly * seconds * workers / 3600
        if spent < self.price:
            return None
        return RunStopped(
            PRICE_REACHED,
            found=f"workers for {spent:.2f} {self.rate.currency}",
            wanted=f"no further case from {self.price:.2f} {self.rate.currency} on "
            "(--stop-at-price)",
            remedy=_REMEDY,
        )
