"""The model card: what a network was trained on, how, and its Dice on cases it never saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unet_pipeline.config import CardSettings, TrainSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.report.table import as_code, escape_markdown
from unet_pipeline.training.command import command_line
from unet_pipeline.training.history import Spread


def check_names(card: CardSettings, classes: int) -> None:
    """Refuse more names than there are labels: ``label_names_mismatch``."""
    if len(card.label_names) > classes - 1:
        raise RequestError(
            "label_names_mismatch",
            found=f"{len(card.label_names)} label names",
            wanted=f"at most {classes - 1}, one for each label other than background",
            remedy="Leave the background out, or check that the masks hold all labels",
        )


def named_labels(card: CardSettings, count: int) -> dict[int, str]:
    """Return the names of ``count`` labels, background first; those without one are numbered."""
    given = dict(enumerate(card.label_names, start=1))
    return {n: given.get(n, f"label {n}") if n else "background" for n in range(count)}


@dataclass(frozen=True)
class CardFacts:
    """What the training itself knows.

    Attributes
    ----------
    network
        The network and its size, in words.
    best_step
        The step whose weights were kept; None if nothing was held out.
    split
        What decided which cases were held out.
    data_digest
        Of the names and the content of all cases.
    dice
        Dice per label over the held-out cases, on their native grids.
    seconds
        Wall time of the steps, without validations.
    hardware
        For example ``2 CPU threads``.
    """

    settings: TrainSettings
    network: str
    preprocessing: Sequence[str]
    roi_size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    steps: int
    best_step: int | None
    batch: int
    split: str
    data_digest: str
    training: Sequence[str]
    held_out: Sequence[str]
    left_out: Sequence[str]
    labels: Mapping[int, str]
    dice: Mapping[int, Spread]
    final_loss: float
    seconds: float
    hardware: str


def model_card(facts: CardFacts) -> str:
    """Return the card as Markdown."""
    note = facts.settings.card
    return "\n".join(
        [
            f"# {note.title}",
            "",
            "Research software. Not a medical device, and not for diagnosis.",
            "",
            *_section("Data", note.data, _counts(facts)),
            *_section("Licence", note.licence),
            *_section("Network", facts.network, _space(facts)),
            *_section("Training", _training(facts), _command(facts)),
            *_section("Dice on the held-out cases", _dice_table(facts)),
            *_section("Held-out cases", _names(facts.held_out) or "None."),
            *(_section("Cases left out", _names(facts.left_out)) if facts.left_out else []),
        ]
    )


def card_metadata(facts: CardFacts) -> dict[str, Any]:
    """Return the same facts as entries of a bundle's ``configs/metadata.json``."""
    note = facts.settings.card
    return {
        "name": note.title,
        "task": f"Segmentation of {', '.join(n for k, n in facts.labels.items() if k)}",
        "description": f"{note.title}. {facts.steps} steps on {len(facts.training)} cases.",
        "data_source": note.data,
        "copyright": note.licence,
        "intended_use": "Research. Not a medical device, and not for diagnosis.",
        "data_digest": facts.data_digest,
        "eval_metrics": {
            f"dice_{label}": None if one.mean is None else round(one.mean, 4)
            for label, one in facts.dice.items()
        },
    }


def _section(title: str, *paragraphs: str) -> list[str]:
    lines = [f"## {title}", ""]
    for paragraph in paragraphs:
        lines += [paragraph, ""]
    return lines


def _counts(facts: CardFacts) -> str:
    return (
        f"{len(facts.training)} cases were trained on, {len(facts.held_out)} were held out, and "
        f"{len(facts.left_out)} were left out because their files are at fault. "
        f"Split: {facts.split}. Digest of the data: `{facts.data_digest}`."
    )


def _space(facts: CardFacts) -> str:
    return (
        f"Windows of {_by(facts.roi_size)} voxels of {_by(facts.spacing_mm)} mm. "
        f"Preprocessing: {', '.join(facts.preprocessing)}."
    )


def _training(facts: CardFacts) -> str:
    kept = "" if facts.best_step is None else f" The weights are those after {facts.best_step}."
    return (
        f"{facts.steps} steps of {facts.batch} crops in {facts.seconds:.0f} s on {facts.hardware}; "
        f"mean loss of the last tenth {facts.final_loss:.4f}.{kept} To repeat it:"
    )


def _command(facts: CardFacts) -> str:
    return f"```\n{command_line(facts.settings)}\n```"


def _dice_table(facts: CardFacts) -> str:
    rows = [
        "| label | name | cases | mean Dice | standard deviation | lowest | highest |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for label, one in facts.dice.items():
        numbers = (one.mean, one.deviation, one.low, one.high)
        cells = [str(label), escape_markdown(facts.labels[label]), str(one.cases)]
        cells += ["absent" if value is None else f"{value:.4f}" for value in numbers]
        rows.append(f"| {' | '.join(cells)} |")
    note = (
        "At the deepest head, on the grids of the files, with windows overlapping by half: as "
        "`segment` does it. The weights were chosen by these cases, so expect a little less on "
        "others."
    )
    return "\n".join([*rows, "", note]) if facts.dice else "No case was held out."


def _names(cases: Sequence[str]) -> str:
    return ", ".join(map(as_code, cases))


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
