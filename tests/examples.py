"""How many examples a property is tried on: a part of them in `make test`, all in `make soak`."""

from hypothesis import settings

ALL = "soak"  # the profile, see conftest.py and the Makefile


def examples(most: int) -> int:
    """Return how many of ``most`` examples there are in this run."""
    return most if settings.get_current_profile_name() == ALL else max(most // 4, 20)
