"""What a run cost, in words and as tables."""

from collections.abc import Sequence
from typing import NamedTuple

from unet_pipeline.records import RunCost
from unet_pipeline.report.quantities import bytes_text, duration_text, money_text
from unet_pipeline.report.table import STAGES
from unet_pipeline.texts import shown


class Share(NamedTuple):
    """Seconds of a part of the work, and their share of all of it."""

    name: str
    seconds: float
    share: float


_NAMES = {
    "gate": "Gate: headers",
    "read": "Read and decode",
    "preprocess": "Preprocess",
    "look": "Gate: voxels",
    "load": "Load the network",
    "forward": "Network",
    "infer": "Around the network",
    "merge": "Merge and decide",
    "postprocess": "Postprocess",
    "evaluate": "Score against masks",
    "draw": "Draw",
    "write": "Encode and write",
}


def shares_of(cost: RunCost) -> list[Share]:
    """Return where the seconds of a run went, in the order of the pipeline; nothing twice."""
    seconds = dict(cost.stage_seconds)
    seconds["infer"] = max(0.0, seconds.get("infer", 0.0) - seconds.get("forward", 0.0))

    names = [*STAGES, *sorted(seconds.keys() - {*STAGES, "wait", "total"})]
    whole = sum(seconds.get(name, 0.0) for name in names)
    return [
        Share(shown(_NAMES.get(name, name)), seconds[name], seconds[name] / whole if whole else 0.0)
        for name in names
        if name in seconds
    ]


def cost_sentence(cost: RunCost) -> str:
    """Return what a run cost in a sentence or two."""
    text = (
        f"{duration_text(cost.device_seconds)} in the network of "
        f"{duration_text(cost.worker_seconds)} of workers' time: devices were busy "
        f"{cost.busy_share:.0%}; {cost.cases_per_hour:,.0f} cases per hour; "
        f"{bytes_text(cost.bytes_read)} read, {bytes_text(cost.bytes_written)} written."
    )
    return " ".join(filter(None, (text, price_sentence(cost))))


def price_sentence(cost: RunCost) -> str:
    """Return the price of a run in a sentence; nothing without a rate."""
    if cost.rate is None or cost.price is None:
        return ""
    currency = cost.rate.currency
    each = cost.price_per_case
    per_case = "" if each is None else f", {money_text(each, currency)} a case"
    hourly = money_text(cost.rate.hourly, currency)
    return f"Price {money_text(cost.price, currency)}{per_case}, at {hourly} an hour of a worker."


def cost_markdown(cost: RunCost) -> str:
    """Return the cost of a run as Markdown: the sentence, and a table of stages."""
    lines = ["# Cost", "", cost_sentence(cost), ""]
    return "\n".join([*lines, *_table(shares_of(cost)), "", _waited(cost)]).rstrip() + "\n"


def _table(shares: Sequence[Share]) -> list[str]:
    rows = [f"| {one.name} | {one.seconds:.1f} | {one.share:.0%} |" for one in shares]
    return ["| Stage | Seconds | Share |", "| --- | ---: | ---: |", *rows] if rows else []


def _waited(cost: RunCost) -> str:
    waited = cost.stage_seconds.get("wait", 0.0)
    return f"Cases waited {duration_text(waited)} in all for a worker, its device or data."
