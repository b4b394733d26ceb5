"""What a run need not look at: the finished cases of an output, known by their marks alone.

Two listings, of the images and of the output, and one index (``finished_index.py``) answer for all
cases at once. A case whose marks, weights, settings and rules of the gate are those of its line is
done; of any other the record is read, and then decides. A line is written only for what was held
against the record by this run, of files that were the same before and after.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

from unet_pipeline.records import Case, CaseRecord
from unet_pipeline.storage.fingerprint import Fingerprint
from unet_pipeline.storage.finished_index import Line, change_index, read_index
from unet_pipeline.storage.marks import Marks, is_mark_of, marks_below, marks_of
from unet_pipeline.storage.sidecar import MaskFault, Sidecar
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.urls import canonical, is_below

_NAMED = 5  # cases that a sentence names


@dataclass(frozen=True)
class Place:
    """The results of a run: where they go, and all that decides whether one is done.

    Attributes
    ----------
    images
        Folder that was asked for; empty for a glob, a manifest, a file.
    ending
        Of all label maps, also of cases that are not asked for.
    label_map, record, picture
        URLs of a case.
    """

    store: Store
    output: str
    images: str
    made_with: str
    ending: str
    label_map: Callable[[Case], str]
    record: Callable[[Case], str]
    picture: Callable[[Case], str]


@dataclass
class Night:
    """What is known of the cases of one run, and what it finds out.

    Attributes
    ----------
    known
        Records of the cases that are done.
    again
        Cases that have a record, but must be looked at.
    failed
        Cases that were quarantined by the run before.
    gone
        Cases with a label map, whose image is no longer there.
    """

    place: Place
    known: Mapping[str, CaseRecord] = field(default_factory=dict)
    again: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    gone: tuple[str, ...] = ()
    _inputs: Marks = field(default_factory=dict)
    _outputs: Marks = field(default_factory=dict)
    _seen: dict[str, Sidecar] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def expected(self, cases: Sequence[Case]) -> str:
        """Say how many cases are known to be done, and what of the others is known."""
        names = {case.name for case in cases}
        done, failed, again = names & self.known.keys(), names & self.failed, self.again
        counts = {
            "done": len(done),
            "new": len(names - done - failed - again),
            "to look at again": len(again - failed),
            "that failed before": len(failed),
        }
        said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        if not self.gone:
            return f"{len(names):,} cases: {said}"
        some = ", ".join(self.gone[:_NAMED]) + (" ..." if len(self.gone) > _NAMED else "")
        return (
            f"{len(names):,} cases: {said}; "
            f"{len(self.gone):,} label maps without their images: {some}"
        )

    def expect(self, case: Case, inputs: Marks, outputs: Marks) -> None:
        """Keep the marks of a case that must be looked at."""
        urls = [canonical(url) for url in case.by_role.values()]
        self._inputs |= {url: inputs[url] for url in urls if url in inputs}
        label_map = canonical(self.place.label_map(case))
        if label_map in outputs:
            self._outputs[label_map] = outputs[label_map]

    def saw(
        self,
        case: str,
        versions: Mapping[str, Fingerprint],
        sidecar: Sidecar,
        why: MaskFault | None,
    ) -> None:
        """Take note of a sound record, and of the versions of the inputs that it was held against.

        Parameters
        ----------
        why
            Why there is no Dice, but for what the listing says.
        """
        same = all(
            is_mark_of(self._inputs.get(canonical(url), ""), version)
            for url, version in versions.items()
        )
        if same:
            with self._lock:
                self._seen[case] = sidecar.without_statistics(why)

    def close(self, run_id: str, cases: Iterable[Case], records: Iterable[CaseRecord]) -> None:
        """Write the index, if this run looked at any case; lines of other cases stay.

        Raises
        ------
        CaseError
            As ``Store.write``.
        """
        by_name = {case.name: case for case in cases}
        looked_at = {one.case: one for one in records if one.case not in self.known}
        if not looked_at:
            return
        new = [*self._finished(run_id, by_name)]
        new += [
            Line(one.case, _image(by_name.get(one.case)), code=one.code)
            for one in looked_at.values()
            if one.status == "quarantined"
        ]
        store, output = self.place.store, self.place.output
        change_index(store, output, looked_at, new)

    def _finished(self, run_id: str, cases: Mapping[str, Case]) -> Iterable[Line]:
        place = self.place
        seen = [cases[name] for name in self._seen if name in cases]
        label_maps = {case.name: canonical(place.label_map(case)) for case in seen}
        written = {case.name: canonical(place.record(case)) for case in seen}
        wanted = {*label_maps.values(), *written.values()}
        expected = [canonical(place.record(case)) for case in cases.values()] if seen else []
        now = marks_of(place.store, wanted, [place.output], expected)
        for case in seen:
            sidecar, urls = self._seen[case.name], case.by_role
            marks = {role: self._inputs.get(canonical(url), "") for role, url in urls.items()}
            label_map, record = now.get(label_maps[case.name]), now.get(written[case.name])
            if label_map is None or record is None or not all(marks.values()):
                continue
            before = self._outputs.get(label_maps[case.name])
            is_plain = {one.role for one in sidecar.inputs} <= set(urls)  # one object a role
            if is_plain and (label_map == before or _is_as_written(label_map, record, sidecar)):
                yield _line_of(case, sidecar, place.made_with, marks, label_map, record, run_id)


def open_night(
    place: Place,
    cases: Sequence[Case],
    inputs: Marks,
    counted: Container[str],
    elsewhere: Container[str] = (),
) -> Night:
    """Hold the cases of a run against the index of its output.

    Parameters
    ----------
    inputs
        Marks of the files of all cases.
    counted
        Runs whose tables of statistics are there, which know more of their cases than the index.
    elsewhere
        Cases that are none of this run's, though their images are there.
    """
    records = {canonical(place.record(case)): case.name for case in cases}
    wanted = {*records, *(canonical(place.label_map(case)) for case in cases)}
    outputs = marks_below(
        place.store, place.output, lambda url: url in wanted or url.endswith(place.ending), records
    )
    by_name = {case.name: case for case in cases}
    known, failed, gone = dict[str, CaseRecord](), set[str](), list[str]()
    for line, _ in read_index(place.store, place.output):
        case = by_name.get(line.case)
        if case is None:
            is_gone = line.case not in elsewhere and _is_gone(line, place, outputs)
            gone += [line.case] if is_gone else []
        elif not line.made_with:
            failed.add(line.case)
        elif line.run_id in counted and _holds(line, case, place, inputs, outputs):
            known[line.case] = _record_of(line, place, case)
    again = frozenset(name for url, name in records.items() if url in outputs and name not in known)
    night = Night(place, known, again, frozenset(failed), tuple(gone))
    for case in cases:
        if case.name not in known:
            night.expect(case, inputs, outputs)
    return night


def _is_gone(line: Line, place: Place, outputs: Marks) -> bool:
    """Say whether a case of the folder that was asked for has a label map and no image any more."""
    if not (place.images and line.made_with and line.image and is_below(line.image, place.images)):
        return False
    return canonical(place.label_map(Case(line.case, (line.image,)))) in outputs


def _holds(line: Line, case: Case, place: Place, inputs: Marks, outputs: Marks) -> bool:
    now = {role: inputs.get(canonical(url), "") for role, url in case.by_role.items()}
    return (
        line.made_with == place.made_with
        and all(now.values())
        and now == line.inputs
        and outputs.get(canonical(place.record(case))) == line.record != ""
        and outputs.get(canonical(place.label_map(case))) == line.label_map != ""
    )


def _is_as_written(label_map: str, record: str, sidecar: Sidecar) -> bool:
    """Say whether a label map that this run wrote is still the one that it wrote.

    By its etag; a local one has not changed since its record was written, which comes last.
    """
    if sidecar.output.etag is not None:
        return label_map == f"{sidecar.output.bytes}:{sidecar.output.etag}"
    changed = [mark.rpartition(":")[2] for mark in (label_map, record)]
    return all(one.isdecimal() for one in changed) and int(changed[0]) <= int(changed[1])


def _line_of(
    case: Case,
    sidecar: Sidecar,
    made_with: str,
    inputs: Marks,
    label_map: str,
    record: str,
    run_id: str,
) -> Line:
    said = sidecar.record("skipped", "", "")
    return Line(
        case.name,
        _image(case),
        made_with,
        inputs,
        label_map,
        record,
        run_id,
        said.code,
        said.message,
        said.windows,
        said.dice,
        said.seconds,
        said.mask_code,
        said.mask_message,
    )


def _record_of(line: Line, place: Place, case: Case) -> CaseRecord:
    return CaseRecord(
        line.case,
        "skipped",
        code=line.code,
        message=line.message,
        output=place.label_map(case).rstrip("/"),
        windows=line.windows,
        dice=line.dice,
        seconds=line.seconds,
        figure=place.picture(case),
        mask_code=line.mask_code,
        mask_message=line.mask_message,
    )


def _image(case: Case | None) -> str:
    return case.images[0] if case is not None and case.images else ""
