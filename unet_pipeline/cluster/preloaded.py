"""Imported for its effect: what workers have imported before they begin (``forking``)."""

from unet_pipeline.cluster.plugins import import_calls

import_calls()
