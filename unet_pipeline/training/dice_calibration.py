"""What Dice to expect of how sure a network is, learned from the records of scored label maps."""

from collections import Counter
from collections.abc import Iterator

from unet_pipeline.errors import RequestError
from unet_pipeline.evaluation.calibration import calibrate
from unet_pipeline.evaluation.prediction import CALIBRATION, LEAST_CASES, DiceCalibration, relevant
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.records import json_text
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.outage import under_way, with_retries
from unet_pipeline.storage.sidecar import Sidecar, read_sidecar
from unet_pipeline.storage.store import Store

_RECORD = "_dseg.json"


def calibrate_dice(bundle: Bundle, store: Store, labels: str) -> DiceCalibration:
    """Calibrate a bundle on the scored label maps below an output, and write that into its folder.

    Of label maps that were made with several settings, those of the most frequent ones count.

    Raises
    ------
    RequestError
        ``calibration_impossible`` where no label has ``LEAST_CASES`` cases.
    """
    mine = OwnFiles(store, bundle.url)
    mine.check([CALIBRATION])
    with under_way():
        scored = list(_scored(bundle, store, labels))
        made = Counter(_made_with(one) for one in scored)
        if made:
            usual = made.most_common(1)[0][0]
            scored = [one for one in scored if _made_with(one) == usual]
        curves = calibrate((one.statistics, one.dice or {}) for one in scored)
        if not curves:
            raise RequestError(
                "calibration_impossible",
                found=f"{len(scored)} label maps of {bundle.name} with a Dice and a confidence",
                wanted=f"at least {LEAST_CASES} cases that have the same label",
                remedy="Segment more cases with --masks, all with the same windows and steps",
                subject=labels,
            )
        names = (one.case for one in scored)
        settings = scored[0].run.settings
        found = DiceCalibration.of(bundle.weights_digest, settings, curves, names)
        with_retries(lambda: mine.write({CALIBRATION: found.as_bytes()}))
    return found


def described(found: DiceCalibration, bundle: Bundle) -> dict[str, object]:
    """Return a calibration for people: a line for each label."""
    lines: dict[str, object] = {}
    for label, curve in found.labels.items():
        ends = (curve.predict(curve.least), curve.predict(curve.confidence[-1]))
        low, high = (f"{end[0]:.2f} ({end[1]:.2f} to {end[2]:.2f})" for end in ends if end)
        lines[bundle.labels.get(int(label), label)] = f"{curve.cases} cases, from {low} to {high}"
    return lines


def _scored(bundle: Bundle, store: Store, labels: str) -> Iterator[Sidecar]:
    """Yield the records of the bundle's label maps that have a Dice."""
    for url in store.list_files(labels):
        sidecar = read_sidecar(store.read(url)) if url.endswith(_RECORD) else None
        if sidecar and sidecar.dice and sidecar.run.weights == bundle.weights_digest:
            yield sidecar


def _made_with(one: Sidecar) -> str:
    return json_text(relevant(one.run.settings), sort_keys=True)
