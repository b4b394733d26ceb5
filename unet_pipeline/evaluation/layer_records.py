"""What a look inside a network found, as plain records."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class LayerRecord:
    """One layer of a network, and what an inspection found of it.

    Attributes
    ----------
    layer, kind
        Name of the module in the network, and its class.
    block
        Whether it is a stage or a node of the network, not a part of one.
    shape, scale
        Channels and voxels of its output for one window, (C, X, Y, Z) or (C, X, Y); the share of
        the window's voxels along each axis.
    multiply_adds
        For one window.
    side
        ``encoder``, ``decoder`` (has seen a coarser scale), ``output``, or empty if not known.
    place
        Column and row in the picture of the network.
    feeds
        Blocks that use its output without another block between them.
    probe_dice, probe_iou
        Dice and intersection over union per label (number as text) of a linear probe on its
        output, mean over the scored cases; None for a label that no case has.
    lost
        Mean Dice lost over the scored cases if its output is replaced by its mean.
    lost_cases
        The same for each scored case.
    lost_labels
        The same per label.
    lost_groups
        Mean Dice lost for each of its channel groups, replaced one at a time.
    figures
        URLs of its feature-map pictures.
    """

    layer: str
    kind: str
    block: bool
    shape: tuple[int, ...]
    scale: tuple[float, ...]
    parameters: int
    multiply_adds: int
    side: str = ""
    place: tuple[float, float] | None = None
    feeds: tuple[str, ...] = ()
    probe_dice: Mapping[str, float | None] = field(default_factory=dict)
    probe_iou: Mapping[str, float | None] = field(default_factory=dict)
    lost: float | None = None
    lost_cases: tuple[float, ...] = ()
    lost_labels: Mapping[str, float | None] = field(default_factory=dict)
    lost_groups: tuple[float, ...] = ()
    figures: tuple[str, ...] = ()

    @property
    def mean_probe_dice(self) -> float | None:
        """Mean Dice of the probe over the labels, or None without one."""
        values = [value for value in self.probe_dice.values() if value is not None]
        return sum(values) / len(values) if values else None

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class SideRecord:
    """One side of a network: all of its encoder blocks, or all of its decoder blocks.

    Attributes
    ----------
    lost
        Mean Dice lost if one channel group of every block of the side is replaced by its mean at
        once; over the groups and the scored cases.
    lost_cases
        The same for each scored case, over the groups.
    """

    side: str
    blocks: int
    parameters: int
    multiply_adds: int
    lost: float | None = None
    lost_cases: tuple[float, ...] = ()


@dataclass(frozen=True)
class LayersSummary:
    """One inspection of a network's layers, at its end.

    Attributes
    ----------
    fitted, scored
        Names of the cases that means and probes were fitted on, and of those scored.
    faults
        Cases that were left out: ``case``, ``code``, ``message``.
    dice
        Mean Dice per label of the network as it is, on the same voxels as all other numbers.
    groups
        Channel groups that each layer was divided into; 0 for none.
    advice
        Which side could be made smaller, and what speaks for it.
    table, report, picture
        URLs of the CSV file, of the page and of the picture of the network.
    stopped
        Why the report could not be written to its own folder; empty if it was.
    names
        Name of each label, by its number as text.
    """

    run_id: str
    model: str
    fitted: tuple[str, ...]
    scored: tuple[str, ...]
    faults: tuple[Mapping[str, str], ...]
    dice: Mapping[str, float | None]
    groups: int
    sides: tuple[SideRecord, ...]
    advice: str
    seconds: float
    table: str
    report: str
    picture: str
    stopped: str = ""
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice of the network over the labels."""
        values = [value for value in self.dice.values() if value is not None]
        return sum(values) / len(values) if values else None

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON types."""
        return asdict(self)
