"""A linear axis of a picture, and the round numbers on it."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high``, drawn on pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def pixel(self, value: float) -> float:
        """Return where a value is drawn."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def tick_step(self, most: int) -> float:
        """Return the distance of at most ``most`` + 1 ticks: 1, 2 or 5 times a power of ten."""
        least = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(least))
        return next(f * power for f in (1, 2, 5, 10) if f * power >= least * (1 - 1e-9))

    def ticks(self, most: int) -> list[float]:
        """Return the round values on the axis, at most ``most`` + 1."""
        step = self.tick_step(most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]
