"""What the viewer's page is told: the list of cases, and what is known of one."""

from collections.abc import Mapping
from typing import Any

from unet_pipeline.errors import CaseError
from unet_pipeline.report.palette import colour_of
from unet_pipeline.report.table import label_order, name_of
from unet_pipeline.storage.claims import RECORD
from unet_pipeline.storage.label_maps import CONFIDENCE_MAP, PICTURE
from unet_pipeline.storage.sidecar import MOST_BYTES, Sidecar, read_sidecar
from unet_pipeline.storage.store import Store, join
from unet_pipeline.texts import shown
from unet_pipeline.viewing.index import IndexedCase, RunIndex
from unet_pipeline.viewing.volumes import IMAGE, volumes_of


def listed(index: RunIndex) -> dict[str, Any]:
    """Return the list of cases, in the order in which they want a look; no addresses of files."""
    return {
        "run": shown(index.run_id),
        "model": shown(index.model),
        "cases": [
            {"case": shown(one.case), "dice": one.dice, "reasons": [*map(shown, one.reasons)]}
            for one in index.cases
        ],
    }


def told(store: Store, output: str, index: RunIndex, number: int) -> dict[str, Any]:
    """Return what is known of a case: its files, its labels and their statistics.

    Parameters
    ----------
    output
        URL of what the run wrote to.
    """
    case = index.cases[number]
    sidecar = _sidecar(store, output, case)
    return {
        "case": shown(case.case),
        "dice": case.dice,
        "reasons": [*map(shown, case.reasons)],
        "doubts": [*case.doubts],
        "images": [
            f"{IMAGE}{channel}-{volume}.nii"
            for channel, url in enumerate(case.images)
            for volume in range(volumes_of(store, url))
        ],
        "labels": _labels(index.names, sidecar),
        "confidence": sidecar is not None and sidecar.run.settings.get("confidence") == "map",
        "note": "" if sidecar is None else shown(sidecar.gate.message),
        "grid": {} if sidecar is None else _grid(sidecar),
    }


def confidence_of(output: str, case: IndexedCase) -> str:
    """Return the URL of the map of how sure the network is, where a case has one."""
    return join(output, case.figure.removesuffix(PICTURE) + CONFIDENCE_MAP)


def _sidecar(store: Store, output: str, case: IndexedCase) -> Sidecar | None:
    url = join(output, case.figure.removesuffix(PICTURE) + RECORD)
    try:
        return read_sidecar(store.read_at_most(url, MOST_BYTES))
    except CaseError:
        return None


def _labels(names: Mapping[str, str], sidecar: Sidecar | None) -> list[dict[str, Any]]:
    """Return each label with its name, its colour, its Dice and its statistics."""
    statistics = {} if sidecar is None else sidecar.statistics
    dice = {} if sidecar is None else sidecar.dice or {}
    names = names if sidecar is None else sidecar.run.labels
    numbers = {*names, *statistics, *dice}
    wanted = sorted((one for one in numbers if _is_label(one)), key=label_order)
    return [
        {
            "label": int(one),
            "name": name_of(one, names),
            "colour": colour_of(int(one)),
            "dice": dice.get(one),
            "statistics": dict(statistics.get(one, {})),
        }
        for one in wanted
    ]


def _is_label(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) > 0


def _grid(sidecar: Sidecar) -> dict[str, Any]:
    grid = sidecar.geometry.native
    return {"shape": grid.shape, "spacing_mm": grid.spacing_mm, "axcodes": shown(grid.axcodes)}
