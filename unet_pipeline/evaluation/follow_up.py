"""How much a label changed since the last scan of the same subject, beside how much others do.

Scans of one subject are known by BIDS names that differ in the session alone, so that a T1w is
held against a T1w. People differ in size far more than one person does from scan to scan.

Where a label lies is told by its distances from the other labels: a patient lies elsewhere in each
session, and turned. Of a label that moved most of them change; of any other label only one does.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from unet_pipeline.evaluation.doubts import MOST, Case, Doubt, log_volume, ml_text, number, robust_z

LEAST_PAIRS = 20  # of scans with a label, from which it is known how much it changes
_LEAST = 0.02  # the smallest deviation of a volume's logarithm that counts as one
_LEAST_MM = 1.0  # the same of a place
_SESSION = re.compile(r"(?:^|(?<=[/_]))ses-([A-Za-z0-9+]+)(?:[/_]|$)")
_SUBJECT = re.compile(r"(?:^|[/_])sub-[A-Za-z0-9+]+(?:[/_]|$)")


def previous_scans(cases: Iterable[str]) -> dict[str, str]:
    """Return the scan of the session before, by the name of a case that has one.

    Sessions follow each other by their names, with numbers by their value: ``ses-2``, ``ses-10``.
    """
    alike: dict[str, list[str]] = {}
    for case in cases:
        if _SUBJECT.search(case) and len(set(_SESSION.findall(case))) == 1:
            alike.setdefault(without_session(case), []).append(case)
    found: dict[str, str] = {}
    for scans in alike.values():
        ordered = sorted(scans, key=_order)
        found |= dict(zip(ordered[1:], ordered, strict=False))
    return found


def without_session(case: str) -> str:
    """Return what the names of all scans of a subject have in common."""
    return _SESSION.sub("", case)


def changed(
    label: str, cases: Sequence[Case], previous: Mapping[str, str], least: float
) -> Iterator[tuple[str, Doubt]]:
    """Yield the cases of which a label's volume changed unlike that of the others.

    Parameters
    ----------
    cases
        Those that have the label.
    previous
        Of ``previous_scans``.
    least
        Robust z from which a change is doubtful.
    """
    logs = {one.name: log for one in cases if (log := log_volume(label, one)) is not None}
    pairs = [(now, before) for now, before in previous.items() if now in logs and before in logs]
    if len(pairs) < LEAST_PAIRS:
        return
    changes = np.array([logs[now] - logs[before] for now, before in pairs])
    low, high = (_percent(end) for end in np.percentile(changes, (5, 95)).tolist())
    scores = robust_z(changes, _LEAST).tolist()
    for (now, before), change, score in zip(pairs, changes.tolist(), scores, strict=True):
        if score >= least:
            volumes = f"volume {ml_text(logs[now])}, {ml_text(logs[before])} in {_session(before)}"
            what = f"{volumes}: {_percent(change)}, usually {low} to {high}"
            yield now, Doubt(label, min(score, MOST), what)


def moved(
    cases: Sequence[Case], previous: Mapping[str, str], least: float
) -> Iterator[tuple[str, Doubt]]:
    """Yield the cases of which a label moved against the others unlike that of other cases.

    As ``changed``, for all labels.
    """
    by_name = {one.name: one for one in cases}
    of_label: dict[str, list[tuple[str, str, float]]] = {}
    for now, before in previous.items():
        if now in by_name and before in by_name:
            for label, mm in _moves_mm(by_name[now], by_name[before]).items():
                of_label.setdefault(label, []).append((now, before, mm))
    for label, moves in of_label.items():
        if len(moves) < LEAST_PAIRS:
            continue
        all_mm = np.array([mm for _, _, mm in moves])
        scores = np.where(all_mm > np.median(all_mm), robust_z(all_mm, _LEAST_MM), 0.0).tolist()
        usual = float(np.percentile(all_mm, 95))
        for (now, before, mm), score in zip(moves, scores, strict=True):
            if score >= least:
                what = f"{mm:.0f} mm nearer to the other labels or further from them than in "
                what += f"{_session(before)}, usually by at most {usual:.1f} mm"
                yield now, Doubt(label, min(score, MOST), what)


def _moves_mm(now: Case, before: Case) -> dict[str, float]:
    """Return by how much the distance of each label from another changed; the median over these.

    Of labels that are in both scans, and cut in neither.
    """
    centres = {
        label: (there, then)
        for label in now.labels
        if label in before.labels
        and (there := _centre_mm(label, now)) is not None
        and (then := _centre_mm(label, before)) is not None
    }
    if len(centres) < 2:
        return {}
    places_mm = np.array([*centres.values()])  # label, scan, axis
    apart_mm = np.linalg.norm(places_mm[:, None] - places_mm[None], axis=-1)
    changes_mm = np.abs(apart_mm[..., 0] - apart_mm[..., 1])
    count = len(centres)
    from_others = changes_mm[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    return dict(zip(centres, np.median(from_others, axis=1).tolist(), strict=True))


def _centre_mm(label: str, case: Case) -> tuple[float, float, float] | None:
    x, y, z = (number(label, case, f"centroid_{axis}_mm") for axis in "xyz")
    if x is None or y is None or z is None or case.labels[label].get("cut"):
        return None
    return x, y, z


def _session(case: str) -> str:
    return f"ses-{_SESSION.findall(case)[0]}"


def _order(case: str) -> list[tuple[bool, int, str]]:
    """Sort key by session."""
    parts = re.findall(r"[0-9]+|[^0-9]+", _session(case))
    return [(one.isdigit(), int(one) if one.isdigit() else 0, one) for one in parts]


def _percent(log: float) -> str:
    return f"{100 * np.expm1(log):+.0f} %"
