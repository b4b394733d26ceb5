"""Bytes and seconds as people read them."""


def bytes_text(count: float) -> str:
    """Return a number of bytes: ``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def duration_text(seconds: float) -> str:
    """Return a time: ``8.2 s``, ``3 min 20 s``, ``41 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def money_text(amount: float, currency: str) -> str:
    """Return an amount of money, of which small ones keep two figures: ``0.0023 USD``."""
    return f"{amount:,.2f} {currency}" if not 0 < amount < 0.1 else f"{amount:.2g} {currency}"
