"""When a run is to stop though cases are left: after a time, or at a price."""

import re
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from unet_pipeline.config.fields import Settings
from unet_pipeline.config.options import Option
from unet_pipeline.config.parts import CostSettings
from unet_pipeline.durations import PATTERN, seconds_of

_PRICE = r"^\s*[0-9]{1,12}(\.[0-9]{1,6})?\s*([A-Z]{3})?\s*$"


def _a_time(value: str) -> str:
    seconds_of(value)
    return value


def _a_price(value: str) -> str:
    if not re.match(_PRICE, value) or not _amount(value):
        raise ValueError("takes a price above 0, such as 20 or '20 EUR'")
    return value


def _amount(text: str) -> float:
    return float(text.strip().rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


# Sentences are ours, and Prefect's server holds texts against the patterns first.
Duration = Annotated[
    str, AfterValidator(_a_time), Field(max_length=100, json_schema_extra={"pattern": PATTERN})
]


class StopSettings(Settings):
    """When no further case is begun. Cases under way are finished, and the next run goes on."""

    model_config = ConfigDict(title="When to stop")

    after: Annotated[Duration | None, Option("stop-after", metavar="6h|90m|30s")] = Field(
        None,
        title="After a time",
        description="Begin no further case when the run has gone on for so long: 6h, 90m, 1h 30m. "
        "Those under way are finished, the report says what is left, and the next run goes on. "
        "Default: all cases.",
    )
    at_price: Annotated[
        Annotated[
            str,
            AfterValidator(_a_price),
            Field(max_length=100, json_schema_extra={"pattern": _PRICE}),
        ]
        | None,
        Option("stop-at-price", metavar="PRICE"),
    ] = Field(
        None,
        title="At a price",
        description="Begin no further case when the workers have cost so much: 20, or '20 EUR'. "
        "Reckoned as wall time x workers x --hourly-rate, in --currency. Default: at any price.",
    )

    @property
    def seconds(self) -> float | None:
        """How long further cases are begun, in seconds; None for no limit."""
        return None if self.after is None else seconds_of(self.after)

    @property
    def price(self) -> float | None:
        """What the workers may cost; None for no limit."""
        return None if self.at_price is None else _amount(self.at_price)

    def check_cost(self, cost: CostSettings) -> None:
        """Refuse a price that cannot be reckoned.

        Raises
        ------
        ValueError
        """
        if self.at_price is None:
            return
        if not cost.hourly_rate:
            raise ValueError("takes stop_at_price only with hourly_rate: what a worker costs")
        currency = self.at_price.strip()[-3:]
        if currency.isalpha() and currency != cost.currency:
            raise ValueError(
                f"takes stop_at_price in the currency of hourly_rate, which is {cost.currency}; "
                f"say currency {currency} if that is in {currency}, too"
            )
