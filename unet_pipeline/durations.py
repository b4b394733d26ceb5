"""Times as people write them: ``6h``, ``1h 30m``, ``90 min``, ``30s``, ``90d``."""

import re

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_UNIT = r"(?:d(?:ays?)?|h(?:ours?)?|m(?:in(?:utes?)?)?|s(?:ec(?:onds?)?)?)"
_PART = rf"[0-9]{{1,9}}(?:\.[0-9]{{1,3}})?\s*{_UNIT}"
PATTERN = rf"^\s*{_PART}(?:\s*{_PART})*\s*$"  # for JSON schema (and JavaScript), too


def seconds_of(text: str) -> float:
    """Return the seconds of a time as it is written.

    Raises
    ------
    ValueError
        For a text that is no time, or none at all.

    >>> seconds_of("6h"), seconds_of("1h 30m"), seconds_of("90 min"), seconds_of("0.5 days")
    (21600.0, 5400.0, 5400.0, 43200.0)
    """
    if not re.match(PATTERN, text):
        raise ValueError("takes a time such as 6h, 90m, 1h 30m or 30s")
    seconds = sum(
        float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)\s*([dhms])", text)
    )
    if not seconds:
        raise ValueError("takes a time that is more than none, such as 6h")
    return seconds


def duration_text(seconds: float) -> str:
    """Return seconds as people write a time, to the minute where it is one.

    >>> duration_text(21750), duration_text(5400), duration_text(42.3), duration_text(7200)
    ('6 h 2 min', '1 h 30 min', '42 s', '2 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(int(seconds) // 60, 60)
    parts = [f"{hours} h"] if hours else []
    return " ".join([*parts, *([f"{minutes} min"] if minutes else [])])


def pace(done: int, total: int, known: int, seconds: float, unit: str) -> str:
    """Say how far work is, how fast it goes, and how long the rest takes at that rate.

    Parameters
    ----------
    known
        How many of ``done`` took no time, and are no measure of the rest.
    seconds
        Since the work began.

    >>> pace(52, 200, 40, 90, "cases")
    '52 of 200 cases, about 18 min left, 8 a minute'
    >>> pace(200, 200, 40, 1200, "cases")
    '200 of 200 cases in 20 min, 8 a minute'
    >>> pace(41, 200, 40, 1800, "cases"), pace(40, 200, 40, 7, "cases")
    ('41 of 200 cases, about 79 h 30 min left, 2 an hour', '40 of 200 cases')
    """
    said, worked = f"{done:,} of {total:,} {unit}", done - known
    if worked <= 0 or seconds <= 0:
        return said
    rate = 60 * worked / seconds
    fast = f"{rate:,.3g} a minute" if rate >= 1 else f"{60 * rate:,.3g} an hour"
    if done >= total:
        return f"{said} in {duration_text(seconds)}, {fast}"
    return f"{said}, about {duration_text((total - done) * seconds / worked)} left, {fast}"
