"""Open a model: read its bundle, build its network, and check that a request can run it.

This needs torch and MONAI, and runs code of a bundle that is trusted; what comes of it is data. So
the driver has it done by a process beside it (``opened.py``).
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import cast

from torch import nn

from unet_pipeline.config import Limits, RemedySettings, SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.gate.examine import Policy
from unet_pipeline.gate.workload import Layout
from unet_pipeline.inference.spec import Blend, ModelSpec
from unet_pipeline.model import Model, policy_of
from unet_pipeline.networks.bundle import WEIGHTS, Bundle
from unet_pipeline.networks.costs import feature_bytes
from unet_pipeline.networks.depth import Depth
from unet_pipeline.networks.ensemble import MeanOfNetworks
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.networks.pruning import at_depth
from unet_pipeline.networks.registry import check_smallest_window, check_window, network_contract
from unet_pipeline.networks.trusted import check_promise
from unet_pipeline.postprocessing import read_steps
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.decision import Highest
from unet_pipeline.tiling.plan import SCORE_BYTES, SUM_BYTES
from unet_pipeline.tiling.windows import in_volume
from unet_pipeline.volume.preprocessing import check_channels, parse_preprocessing
from unet_pipeline.volume.steps import Step


def policy_for(settings: RemedySettings, limits: Limits, bundle: Bundle) -> Policy:
    """Return what the gate holds cases against that are for a bundle, with windows as it says."""
    first = bundle.first_stage
    of_first = None if first is None else _layout_of(first, limits)
    return policy_of(settings, limits, bundle, _layout_of(bundle, limits), of_first)


def _layout_of(bundle: Bundle, limits: Limits) -> Layout:
    return layout_of(bundle, parse_preprocessing(bundle.preprocessing), limits)


def layout_of(
    bundle: Bundle, steps: Sequence[Step], limits: Limits, overlap: float | None = None
) -> Layout:
    """Return how a bundle lays its windows, with another overlap if one is given."""
    whole = bundle.whole
    return Layout(
        steps=tuple(steps),
        roi_size=bundle.roi_size,
        overlap=bundle.overlap if overlap is None else overlap,
        placement=bundle.placement,
        channels=bundle.image_channels,
        most_windows=limits.max_windows,
        stride=in_volume(network_contract(bundle.network_def).stride) if whole else None,
        voxel_bytes=_voxel_bytes(bundle) if whole else 0,
        memory_bytes=int(1e9 * limits.memory_gb),
    )


def _voxel_bytes(bundle: Bundle) -> int:
    """Return the bytes of a voxel of a window: scores, sums, input, and what convolutions give.

    The last two are counted twice, for norms and activations make copies. Of a network that is not
    in the registry, what its convolutions give is not known.
    """
    voxels, features = prod(bundle.in_plane_roi), 0
    if not bundle.own_network and bundle.weights_file in WEIGHTS:
        features = feature_bytes(bundle.network_def, bundle.in_plane_roi)
    scores = bundle.out_channels * (SUM_BYTES + SCORE_BYTES)
    return scores + (2 * bundle.in_channels + 1) * SCORE_BYTES + 2 * features // voxels


def open_model(settings: SegmentSettings, store: Store) -> Model:
    """Read a bundle and check that it can be run with these settings."""
    return _opened(load_bundle(settings.model, store, trust=settings.trust), settings, store)


def _opened(bundle: Bundle, settings: SegmentSettings, store: Store) -> Model:
    steps = parse_preprocessing(bundle.preprocessing)
    check_channels(steps, bundle.image_channels)
    check_window(bundle.network_def, bundle.in_plane_roi)
    _check_done(bundle, settings.ignore_postprocessing)
    _check_decision(bundle, settings.depth)
    _check_whole(bundle, steps, settings.windows.engine)
    windows, overlap = settings.windows, settings.windows.overlap
    spec = ModelSpec(
        bundle=bundle,
        store=store,
        roi_size=bundle.roi_size,
        blend="constant" if bundle.whole else cast(Blend, windows.blend or bundle.blend),
        batch=1 if bundle.whole else windows.batch,
        threads=settings.cluster.threads,
        device="cuda" if settings.cluster.kind == "cuda" else "auto",
        depth=_depth(settings.depth),
        mirror=_mirror(bundle, windows.mirror),
    )
    layout = layout_of(bundle, steps, settings.budget, overlap)
    policy = policy_of(settings.gate, settings.budget, bundle, layout)
    policy = replace(policy, needs_mask=settings.require_masks)
    label_steps = (*bundle.label_steps, *read_steps(settings.label_steps, bundle.labels))
    first = None
    if bundle.first_stage is not None:
        asked = settings.model_copy(update={"label_steps": ()})
        first = _opened(bundle.first_stage, asked, store)
        policy = replace(policy, first_layout=first.policy.layout)
    return Model(bundle, steps, spec, layout.overlap, policy, label_steps, first)


def open_network(model: Model) -> nn.Module:
    """Build the network of a model, and check that it can run its windows at the depth asked for.

    Raises
    ------
    RequestError
        What ``load_network`` raises; ``roi_size_invalid``, ``network_invalid``, ``depth_invalid``.
    """
    if model.first_stage is not None:
        open_network(model.first_stage)
    bundle, spec = model.bundle, model.spec
    network = load_network(bundle, spec.store)
    networks = cast(MeanOfNetworks, network).networks if bundle.members else [network]
    for one, of in zip(networks, bundle.each, strict=True):
        check_smallest_window(of.network_def, of.in_plane_roi)
        if of.own_network:
            check_promise(one, of)
    at_depth(network, spec.depth, bundle.adaptive)
    return network


def open_bundle(url: str, store: Store, *, trust: bool = False) -> tuple[Bundle, nn.Module]:
    """Open a bundle as a run does that sets nothing: what ``segment`` would refuse is refused."""
    nowhere = "memory://nothing"
    settings = SegmentSettings(
        images=nowhere, model=nowhere, output=nowhere, trust=trust, ignore_postprocessing=True
    )  # a bundle that can be run so is shown, with what is not done
    model = open_model(settings.model_copy(update={"model": url}), store)  # the store judges URLs
    return model.bundle, open_network(model)


def _check_whole(bundle: Bundle, steps: Sequence[Step], engine: str) -> None:
    """Refuse what cannot be done with a window for each volume."""
    if not bundle.whole:
        return
    if any(step.needs_voxels for step in steps):
        raise RequestError(
            "inferer_unsupported",
            subject=bundle.name,
            found="SimpleInferer behind a crop to what the voxels show",
            wanted="a size of the window that the header tells",
            remedy="Write SlidingWindowInferer with a roi_size as large as the volumes that the "
            "network was trained on",
        )
    if engine not in ("eager", "auto"):
        raise RequestError(
            "engine_unsupported",
            subject=bundle.name,
            found=f"the engine {engine} for a bundle with SimpleInferer",
            wanted="eager: each volume is a window of its own size, which others compile anew",
            remedy="Leave --engine away",
        )


def _check_done(bundle: Bundle, ignore: bool) -> None:
    """Refuse a bundle whose label maps would not be those that it describes."""
    if bundle.not_done and not ignore:
        raise RequestError(
            "postprocessing_unsupported",
            subject=bundle.name,
            found=f"postprocessing that is not done here: {', '.join(bundle.not_done)}",
            wanted="label maps as the network and its threshold decide them",
            remedy="Say --ignore-postprocessing to run without it; sidecars and the report say so",
        )


def _check_decision(bundle: Bundle, depth: str | None) -> None:
    """Refuse what the highest score decides wrongly, and what only it can decide."""
    if len(bundle.labels) < 2:
        raise RequestError(
            "classes_invalid",
            subject=bundle.name,
            found="a single output channel, and no threshold that decides it",
            wanted="one channel per label, background included, or sigmoid and a threshold",
            remedy="Write AsDiscreted with its threshold into the bundle's postprocessing",
        )
    if depth in ("mean", "adaptive") and not isinstance(bundle.decision, Highest):
        raise RequestError(
            "depth_invalid",
            subject=bundle.name,
            found=f"--depth {depth}, and channels that are decided one by one",
            wanted="channels that exclude each other: it is about their probabilities (softmax)",
            remedy="Give a number as --depth, or leave it out",
        )


def _mirror(bundle: Bundle, letters: str | None) -> tuple[int, ...]:
    """Return the axes that ``x,z`` names, each once, in order; those that the network learnt."""
    axes = tuple(axis for axis, letter in enumerate("xyz") if letter in (letters or ""))
    learnt = bundle.mirror_axes
    if learnt is not None and not set(axes) <= set(learnt):
        known = ",".join("xyz"[axis] for axis in learnt)
        raise RequestError(
            "mirror_invalid",
            subject=bundle.name,
            found=f"--mirror {letters}, and a network that was not trained for all of these axes",
            wanted=f"axes out of {known}" if known else "no mirroring",
            remedy=f"Say --mirror {known}" if known else "Leave --mirror out",
        )
    return axes


def _depth(setting: str | None) -> Depth | None:
    if setting in (None, "mean", "adaptive"):
        return cast(Depth | None, setting)
    return int(setting or 0)
