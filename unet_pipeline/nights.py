"""What a run of ``segment`` knows of its cases before it looks at them."""

from collections.abc import Container, Sequence
from dataclasses import asdict, replace
from typing import Any

import unet_pipeline
from unet_pipeline.archive import Mark, counted_runs
from unet_pipeline.config import SegmentSettings
from unet_pipeline.gate.examine import Policy
from unet_pipeline.layouts import Layout
from unet_pipeline.records import Case
from unet_pipeline.storage.cases import Cohort
from unet_pipeline.storage.claims import RECORD
from unet_pipeline.storage.label_maps import endings_of
from unet_pipeline.storage.ledger import digest_json
from unet_pipeline.storage.manifest import is_manifest
from unet_pipeline.storage.marks import Marks, marks_of
from unet_pipeline.storage.night import Night, Place, open_night
from unet_pipeline.storage.sidecar import RunFacts
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import canonical, fixed_part, has_wildcard, parent

_MOST_FOLDERS = 64  # of a manifest, that are listed


def night_of(
    settings: SegmentSettings,
    store: Store,
    facts: RunFacts,
    policy: Policy,
    layout: Layout,
    cases: Sequence[Case],
    inputs: Marks,
    elsewhere: Container[str] = (),
) -> Night:
    """Hold the cases of a run against the index of its output.

    Parameters
    ----------
    inputs
        As of ``marks_of_inputs``.
    elsewhere
        Cases whose images are there, and that other runs are asked for.
    """
    label_map, picture = endings_of(settings.output_format)
    runs = join(settings.output, "runs")

    def ending(text: str) -> Any:
        return lambda case: f"{join(settings.output, layout.name_of(case))}{text}"

    place = Place(
        store,
        settings.output,
        settings.images if store.is_folder(settings.images) else "",
        _made_with(facts, policy),
        label_map,
        ending(label_map),
        ending(RECORD),
        ending(picture),
    )
    if not settings.resume or settings.verify:
        return open_night(place, cases, inputs, frozenset(), elsewhere)
    counted = counted_runs(store, runs, Mark(facts.weights, facts.labels))
    return open_night(place, cases, inputs, counted, elsewhere)


def marks_of_inputs(settings: SegmentSettings, store: Store, cohort: Cohort) -> Marks:
    """Return the marks of the images and masks of a cohort.

    They are listed, unless the listing that the cohort comes of has them all.
    """
    urls = {canonical(url) for case in cohort.cases for url in case.by_role.values()}
    known = {url: cohort.marks[url] for url in urls if cohort.marks.get(url)}
    if len(known) == len(urls):
        return known
    return marks_of(store, urls, _folders(settings, cohort.cases))


def _folders(settings: SegmentSettings, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return what is listed to know all inputs; nothing where a manifest names too many places."""
    if is_manifest(settings.images):
        urls = (url for case in cases for url in case.by_role.values())
        folders = {parent(url) for url in urls}
        return tuple(sorted(folders)) if len(folders) <= _MOST_FOLDERS else ()
    named = [settings.images, *([settings.masks] if settings.masks else [])]
    return tuple(fixed_part(url) if has_wildcard(url) else url for url in named)


def _made_with(facts: RunFacts, policy: Policy) -> str:
    """Return the digest of all that decides whether a case passes the gate, and is done."""
    rules = replace(policy, memory_bytes=0)
    plain = {key: sorted(value) if isinstance(value, frozenset) else value
             for key, value in asdict(rules).items()}  # fmt: skip
    version = unet_pipeline.__version__
    return digest_json([facts.weights, facts.settings_digest, version, repr(plain)])
