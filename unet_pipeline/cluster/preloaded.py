"""Imported for its effect: what workers have imported before they begin (``forking``).

So has the process that opens models for the driver (``beside``).
"""

from unet_pipeline.cluster.plugins import PACKAGE, import_calls

import_calls(f"{PACKAGE}.ensembles")
