"""What executes a network: one file per engine, chosen by name (``docs/engines.md``).

An engine is made for one network, one device and one batch shape. ``choice`` says which is used.
"""

from unet_pipeline.inference.engines.protocol import Engine, Problem
from unet_pipeline.inference.engines.shelf import ENGINES, make_engine

__all__ = ["ENGINES", "Engine", "Problem", "make_engine"]
