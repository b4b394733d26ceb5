"""The places where Dask workers can be: a module for each, of its name in ``choices.ClusterName``.

It has a ``PLACE``, and nobody else knows what it needs. ``serial`` has no workers, and no place.
"""

from importlib import import_module

from unet_pipeline.cluster.places.protocol import RUNNING, Place

__all__ = ["Place", "place_of"]


def place_of(kind: str) -> Place:
    """Return the place of a name in ``choices.ClusterName``, or of a scheduler's address."""
    if "://" in kind:
        return RUNNING
    place: Place = import_module(f"{__name__}.{kind}").PLACE
    return place
