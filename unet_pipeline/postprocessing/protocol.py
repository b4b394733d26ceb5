"""What a step after the decision has to offer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from unet_pipeline.storage.sidecar import LabelChange
from unet_pipeline.tiling.decision import Labels

_LONGEST_LIST = 8  # labels of a bundle that a sentence names


class LabelStep(Protocol):
    """A change of label maps. Its text is what is in the digest of a run's settings."""

    def __str__(self) -> str:
        """Return it as it can be asked for, with numbers for labels."""
        ...

    def leaves(self, labels: frozenset[int]) -> frozenset[int]:
        """Return the labels that a map of these can have afterwards."""
        ...

    def apply(self, labels_XYZ: Labels, voxel_ml: float) -> Iterable[LabelChange]:
        """Change a label map in place, and return what became of each label that changed."""
        ...


@dataclass(frozen=True)
class LabelNumbers:
    """Reads labels that a user names, by number or by the bundle's name."""

    names: Mapping[int, str]

    def read(self, text: str) -> tuple[int, ...]:
        """Return the labels of ``1,liver``, each once.

        Raises
        ------
        ValueError
            For a label that the bundle does not give, and for background.
        """
        return tuple(dict.fromkeys(self._one(part.strip()) for part in text.split(",")))

    def _one(self, text: str) -> int:
        by_name = {name: number for number, name in self.names.items()}
        number = by_name.get(text, int(text) if text.isdecimal() else -1)
        if number < 1 or number not in self.names:
            known = [f"{number} ({name})" for number, name in self.names.items() if number]
            rest = len(known) - _LONGEST_LIST
            more = f" and {rest} more" if rest > 0 else ""
            raise ValueError(
                f"a label {text!r}, and the model has {', '.join(known[:_LONGEST_LIST])}{more}"
            )
        return number


@dataclass(frozen=True)
class StepKind:
    """What a step says of itself.

    Attributes
    ----------
    usage
        How it is asked for.
    read
        Makes it of what stands behind its name, parted at colons. Raises ``ValueError``.
    """

    usage: str
    read: Callable[[Sequence[str], LabelNumbers], LabelStep]


def named(
    name: str, *arguments: str, labels: Sequence[int], options: Mapping[str, bool] | None = None
) -> str:
    """Return a step as it can be asked for; without labels it is for all.

    Parameters
    ----------
    options
        What only a model's own postprocessing can ask for, and whether it does.
    """
    more = [option for option, is_set in (options or {}).items() if is_set]
    return ":".join([name, *arguments, *([",".join(map(str, labels))] if labels else []), *more])
