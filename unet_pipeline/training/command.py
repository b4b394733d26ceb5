"""The command line that repeats a training."""

import shlex

from unet_pipeline.config import TrainSettings
from unet_pipeline.config.options import settings_in

_ALWAYS = {"network", "features", "roi-size", "steps", "batch", "seed", "output"}
_NOT_OF_IT = {"resume"}  # whoever repeats it has no checkpoint of it


def command_line(settings: TrainSettings) -> str:
    """Return the command that repeats a training: what is not as by default, and the essentials."""
    words, options = ["unet-pipeline train"], []
    for one in settings_in(TrainSettings):
        value = one.of(settings)
        if value is None or one.option in _NOT_OF_IT:
            continue
        if one.argument:
            words.append(shlex.quote(value))
        elif one.option in _ALWAYS or value != one.default:
            options += one.typed(value)
    return " \\\n    ".join([" ".join(words), *options])
