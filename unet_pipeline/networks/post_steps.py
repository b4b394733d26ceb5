"""The steps of a bundle's ``postprocessing``, as they stand in its configuration."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle_config import ConfigFile
from unet_pipeline.volume.options import brief

DECIDING = ("Activations", "AsDiscrete")
_OF_DECIDING = frozenset({"softmax", "sigmoid", "threshold", "argmax"})
OPTIONS_OF = {  # that are read, by the class of the step
    **dict.fromkeys(DECIDING, _OF_DECIDING | {"keys", "to_onehot"}),
    "KeepLargestConnectedComponent": frozenset(
        {"keys", "applied_labels", "is_onehot", "independent", "connectivity", "num_components"}
    ),
    "FillHoles": frozenset({"keys", "applied_labels", "connectivity"}),
    "LabelFilter": frozenset({"keys", "applied_labels"}),
    "RemoveSmallObjects": frozenset(
        {"keys", "min_size", "connectivity", "independent_channels", "by_measure", "pixdim"}
    ),
}
_SPELLINGS = re.compile(r"(d|D|Dict)$")
_MOST_STEPS = 64
UNREAD = "an expression"  # no value that an option has


@dataclass(frozen=True)
class PostStep:
    """One transform: its class, those of its options that matter, and names of the others."""

    name: str
    options: Mapping[str, Any]
    others: tuple[str, ...] = ()

    @property
    def is_about_labels(self) -> bool:
        """Whether it changes the scores or the labels; said of all whose keys are not plain."""
        keys = self.options.get("keys")
        return keys not in ("image", "label") and keys not in (["image"], ["label"])

    @property
    def kind(self) -> str:
        """Its class without the ending of transforms that take dictionaries."""
        return _SPELLINGS.sub("", self.name)

    def __getitem__(self, option: str) -> Any:
        """Return an option; of a list with one value per key, that of ``pred``."""
        value, keys = self.options.get(option), self.options.get("keys")
        if not isinstance(value, list):
            return value
        index = keys.index("pred") if isinstance(keys, list) and "pred" in keys else 0
        return value[min(index, len(value) - 1)] if value else None


def post_steps(config: ConfigFile) -> Iterator[PostStep]:
    """Yield the steps of a bundle's ``postprocessing`` that are not disabled, in their order."""
    path, listed = _listed(config)
    for place, step in enumerate(listed[:_MOST_STEPS]):
        if not isinstance(step, dict):
            yield PostStep(f"{brief(step)}", {}, ())
        elif config.value(f"{path}::{place}::_disabled_", False) not in (True, "true"):
            name = str(step.get("_target_", "")).rpartition(".")[2]
            options = OPTIONS_OF.get(_SPELLINGS.sub("", name), frozenset())
            read = (options - {"keys"}) & set(step)
            plain = {o: _plain(config, f"{path}::{place}::{o}", name) for o in read}
            keys = {"keys": step.get("keys"), "func": step.get("func")}
            others = (o for o, v in step.items() if o not in options and v not in (None, False))
            yield PostStep(name, {**keys, **plain}, tuple(others))


def _plain(config: ConfigFile, path: str, name: str) -> Any:
    """Return an option; of a step that decides nothing, ``UNREAD`` for what cannot be read."""
    try:
        return config.value(path)
    except RequestError:
        if _SPELLINGS.sub("", name) in DECIDING:
            raise
        return UNREAD


def _listed(config: ConfigFile) -> tuple[str, list[Any]]:
    """Return the path of the list of steps, and the list as it stands."""
    post, path = config.content.get("postprocessing"), "postprocessing"
    if not isinstance(post, list):  # a Compose, or a reference to one
        path = f"{path}::transforms"
        listed = post.get("transforms") if isinstance(post, dict) else None
        if post is None or isinstance(post, dict | str):
            post = config.value(path, []) if listed is None or isinstance(listed, str) else listed
    if not isinstance(post, list) or len(post) > _MOST_STEPS:
        found = f"postprocessing of another form ({type(post).__name__})"
        raise unsupported(config, found, f"a Compose of a list of at most {_MOST_STEPS} steps")
    return path, post


def unsupported(config: ConfigFile, found: str, wanted: str) -> RequestError:
    """Return the error of a decision that is not done here."""
    return RequestError(
        "decision_unsupported",
        found=found,
        wanted=wanted,
        remedy="Write into the bundle's postprocessing how its channels are decided",
        subject=config.url,
    )
