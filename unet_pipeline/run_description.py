"""What is said of a run in its report: the table of its context, and the facts of its methods."""

from collections import Counter
from collections.abc import Mapping, Sequence

import unet_pipeline
from unet_pipeline.evaluation.doubts import LEAST_CASES
from unet_pipeline.model import Model
from unet_pipeline.records import CaseRecord, masks_text
from unet_pipeline.report.methods import MethodsFacts
from unet_pipeline.runs import Run
from unet_pipeline.storage.formats import is_volume_folder


def context_of(run: Run) -> dict[str, str]:
    """Return what the report says of a run, by headings."""
    settings, model = run.settings, run.model
    return {
        "Model": f"{model.bundle.name} ({model.bundle.weights_digest[:19]})",
        **({"Members": _members(model)} if model.bundle.members else {}),
        **_first_stage(model),
        "Images": settings.images,
        "Files": str(run.accounting or "not counted"),
        **({"Part": _part(run)} if run.settings.shard else {}),
        "Masks": masks_text(settings.masks, run.cases),
        "Output": settings.output,
        **({"Compared with": settings.compare_with} if settings.compare_with else {}),
        "Cluster": settings.cluster.kind,
        "Windows": _windows(model),
        "Engine": _engine(run),
        **({"Postprocessing": ", ".join(map(str, model.label_steps))} if model.label_steps else {}),
        **(
            {"Postprocessing not done": ", ".join(model.bundle.not_done)}
            if model.bundle.not_done
            else {}
        ),
        "Version": unet_pipeline.__version__,
    }


def _part(run: Run) -> str:
    mine = len(run.cases) + len(run.faults)
    return f"{run.settings.shard} of the cohort: {mine:,} cases; other runs have the others"


def _first_stage(model: Model) -> dict[str, str]:
    if model.first_stage is None:
        return {}
    first = model.first_stage.bundle
    return {"First stage": f"{first.name} ({first.weights_digest[:19]})"}


def facts_for_methods(
    run: Run, records: Sequence[CaseRecord], counts: Mapping[str, int], scheduler: str
) -> MethodsFacts:
    """Return what a paragraph of methods says."""
    model, settings = run.model, run.settings
    bundle, spec = model.bundle, model.spec
    targets = (str(one.network_def.get("_target_", "")) for one in bundle.each)
    kinds = list(dict.fromkeys(target.rpartition(".")[2] for target in targets))
    with_statistics = sum(bool(one.statistics) for one in records)
    return MethodsFacts(
        versions=run.facts.versions,
        model=bundle.name,
        weights=bundle.weights_digest[:19],
        network=kinds[0],
        other_networks=kinds[1:],
        networks=bundle.networks,
        first_stage=_first_stage(model).get("First stage", ""),
        references=bundle.references,
        transforms=[str(one["_target_"]).rpartition(".")[2] for one in bundle.preprocessing],
        roi_size=() if bundle.whole else spec.roi_size,
        overlap=model.overlap,
        blend=spec.blend,
        mirror=spec.mirror,
        depth="" if spec.depth is None else str(spec.depth),
        engine=spec.engine,
        steps=[*map(str, model.label_steps)],
        counts=counts,
        codes=Counter(one.code for one in records if one.status == "quarantined"),
        labels=[name for number, name in bundle.labels.items() if number],
        uses_dask=settings.cluster.kind != "serial",
        scheduler=scheduler,
        is_ome=any(is_volume_folder(url) for case in run.cases for url in case.images),
        has_dice=any(one.dice for one in records),
        is_reviewed=with_statistics >= LEAST_CASES,
    )


def _members(model: Model) -> str:
    return ", ".join(f"{one.name} ({one.weights_digest[:19]})" for one in model.bundle.members)


def _windows(model: Model) -> str:
    if model.bundle.whole:
        return "the whole volume, padded to the network's stride"
    size, spec = " x ".join(map(str, model.spec.roi_size)), model.spec
    return f"roi_size {size}, overlap {model.overlap:g}, {spec.blend}, batch {spec.batch}"


def _engine(run: Run) -> str:
    engine = run.model.spec.engine
    if run.engine is None:
        return engine
    timed = sorted(run.engine.seconds_per_window.items(), key=lambda item: item[1])
    times = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in timed)
    return f"{engine} (a window: {times})" if times else engine
