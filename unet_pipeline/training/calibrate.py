"""Find the limit of adaptive depth that keeps a promised Dice, on a cohort with masks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor

from unet_pipeline.errors import RequestError
from unet_pipeline.evaluation.metrics import dice_per_label, mean_dice
from unet_pipeline.gate.examine import Policy
from unet_pipeline.networks.adaptive import doubt, mean_depth
from unet_pipeline.networks.bundle import Bundle
from unet_pipeline.networks.costs import multiply_adds
from unet_pipeline.networks.depth import ADAPTIVE, AdaptiveRule
from unet_pipeline.networks.loading import load_network
from unet_pipeline.networks.nested import NestedUNet
from unet_pipeline.networks.pruning import check_depth, depths_of, prune
from unet_pipeline.records import Case
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.ledger import digest_json
from unet_pipeline.storage.outage import under_way, with_retries
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.decision import Highest
from unet_pipeline.training.cases import load_samples, pass_gate
from unet_pipeline.training.crops import ROI, Sample
from unet_pipeline.training.split import TO_CHOOSE_BY, first_part, part_of

LIMITS = (0.0, *(round(0.02 * 1.02**step, 4) for step in range(240)), 1e6)
_ONE_SIDED = 1.645  # standard errors of a one-sided bound of 95 %


@dataclass(frozen=True)
class _Windows:
    """The heads and doubts of all windows of one case, in the order of the sliding window."""

    sample: Sample
    heads: list[list[Tensor]]
    doubts: list[list[float]]


def calibrate(
    network: NestedUNet,
    samples: Iterable[Sample],
    *,
    roi_size: ROI,
    overlap: float,
    labels: Sequence[int],
    promised_loss: float,
) -> AdaptiveRule:
    """Return the largest limit whose loss of mean Dice is within the promise, and the curve.

    The loss is that of a case against the full depth, in the model space. Held against the promise
    is its one-sided 95 % bound over the cases, so that few cases make a careful rule.

    Raises
    ------
    RequestError
        ``calibration_impossible`` for fewer than two cases.
    """
    network = network.eval()
    per_case = [
        list(_over_limits(case, roi_size, overlap, labels))
        for case in _cases(network, samples, roi_size, overlap)
    ]
    if len(per_case) < 2:
        raise RequestError(
            "calibration_impossible",
            found=f"{len(per_case)} cases with an image and a mask",
            wanted="at least two, better twenty",
            remedy="Give a larger cohort",
        )
    share = _shares(network, roi_size)
    curve = []
    for index, limit in enumerate(LIMITS):
        dice = np.array([case[index][0] for case in per_case])
        full = np.array([case[0][0] for case in per_case])
        depths = np.sum([case[index][1] for case in per_case], axis=0)
        loss, spread = float((full - dice).mean()), float((full - dice).std(ddof=1))
        curve.append(
            {
                "limit": limit,
                "dice": round(float(dice.mean()), 5),
                "loss": round(loss, 5),
                "loss_bound": round(loss + _ONE_SIDED * spread / len(dice) ** 0.5, 5),
                "mean_depth": round(mean_depth(depths), 3),
                "multiply_adds_share": round(float(depths @ share / depths.sum()), 4),
            }
        )
    kept = [point["limit"] for point in curve if point["loss_bound"] <= promised_loss]
    distinct = {point["mean_depth"]: point for point in curve}  # the largest limit of each
    return AdaptiveRule(max(kept, default=0.0), promised_loss, tuple(distinct.values()))


def calibrate_bundle(
    bundle: Bundle,
    store: Store,
    images: str,
    masks: str | None,
    promised_loss: float,
    policy: Policy | None = None,
    mask_pattern: str | None = None,
) -> AdaptiveRule:
    """Calibrate a bundle on the sound cases of a cohort, and write the rule into its folder.

    Where a manifest names cases for validation, it is these; never those for training or a test.

    Raises
    ------
    RequestError
        What ``discover``, ``first_part`` and ``calibrate_on`` raise.
    """
    mine = OwnFiles(store, bundle.url)
    mine.check([ADAPTIVE])
    cases = discover(
        store,
        images,
        masks,
        mask_pattern=mask_pattern,
        channels=bundle.channels,
        labels=bundle.labels,
    ).cases
    part = first_part(cases, TO_CHOOSE_BY)
    chosen = [case for case in cases if part_of(case) == part]
    with under_way():
        rule = calibrate_on(bundle, store, chosen, promised_loss, policy, (images, masks))
        with_retries(lambda: mine.write({ADAPTIVE: rule.as_bytes()}))
    return rule


def calibrate_on(
    bundle: Bundle,
    store: Store,
    cases: Iterable[Case],
    promised_loss: float,
    policy: Policy | None = None,
    read: Sequence[str | None] = (),
) -> AdaptiveRule:
    """Return the rule of a bundle, calibrated on the sound ones of these cases.

    Parameters
    ----------
    policy
        What the gate holds them against. Default: its usual tolerance, and no remedies.
    read
        Prefixes that the cases lie below.

    Raises
    ------
    RequestError
        ``depth_invalid`` for a network of one depth; ``calibration_impossible``.
    RunStopped
        For a fault of the store that concerns all cases.
    """
    if bundle.whole:
        raise RequestError(
            "calibration_impossible",
            found="volumes that go through the network whole (SimpleInferer)",
            wanted="windows, each of which may end at another depth",
            remedy="Choose a fixed depth for this bundle, or write SlidingWindowInferer",
            subject=bundle.url,
        )
    if not isinstance(bundle.decision, Highest):
        raise RequestError(
            "calibration_impossible",
            found="channels that are decided one by one, and may overlap",
            wanted="channels that exclude each other: doubt is the lead of the likeliest one",
            remedy="Choose a fixed depth for this bundle",
            subject=bundle.url,
        )
    network = load_network(bundle, store)
    check_depth(network, depths_of(network) if depths_of(network) > 1 else 2)
    assert isinstance(network, NestedUNet)  # noqa: S101  it has depths
    sound, _ = pass_gate(store, cases, policy, read)
    names: list[str] = []  # of the cases that could be read

    def samples() -> Iterator[Sample]:
        for name, found in load_samples(store, sound, bundle.preprocessing, policy, read):
            if isinstance(found, Sample):
                names.append(name)
                yield found

    rule = calibrate(
        network,
        samples(),
        roi_size=bundle.roi_size,
        overlap=bundle.overlap,
        labels=bundle.foreground,
        promised_loss=promised_loss,
    )
    return replace(rule, cohort={"cases": len(names), "names": digest_json(sorted(names))})


def _cases(
    network: NestedUNet, samples: Iterable[Sample], roi_size: ROI, overlap: float
) -> Iterator[_Windows]:
    device = next(network.parameters()).device
    for sample in samples:
        heads: list[list[Tensor]] = []
        doubts: list[list[float]] = []

        def keep(
            window: Tensor, heads: list[list[Tensor]] = heads, doubts: list[list[float]] = doubts
        ) -> Tensor:
            scores = list(network.heads(window))
            heads.append([one.cpu() for one in scores])
            doubts.append([float(doubt(one)) for one in scores])
            return scores[-1]

        with torch.inference_mode():
            _slide(torch.from_numpy(sample.image_CXYZ)[None].to(device), keep, roi_size, overlap)
        yield _Windows(sample, heads, doubts)


def _slide(image: Tensor, predictor: Any, roi_size: ROI, overlap: float) -> Tensor:
    return cast(
        Tensor,
        sliding_window_inference(image, roi_size, 1, predictor, overlap=overlap, mode="gaussian"),
    )


def _over_limits(
    case: _Windows, roi_size: ROI, overlap: float, labels: Sequence[int]
) -> Iterator[tuple[float, NDArray[np.int64]]]:
    """Yield the Dice and the windows per depth at each limit; what stays the same is not redone."""
    known: dict[tuple[int, ...], float] = {}
    for limit in LIMITS:
        depths = tuple(_depth_of(doubts, limit) for doubts in case.doubts)
        if depths not in known:
            known[depths] = _dice(case, depths, roi_size, overlap, labels)
        yield known[depths], np.bincount(depths, minlength=len(case.doubts[0]))


def _depth_of(doubts: Sequence[float], limit: float) -> int:
    """Return the depth, from 0, that a window of these doubts ends at."""
    decided = [depth for depth, value in enumerate(doubts[:-1]) if value <= limit]
    return decided[0] if decided else len(doubts) - 1


def _dice(
    case: _Windows,
    depths: Sequence[int],
    roi_size: ROI,
    overlap: float,
    labels: Sequence[int],
) -> float:
    chosen = iter(heads[depth] for heads, depth in zip(case.heads, depths, strict=True))
    image = torch.from_numpy(case.sample.image_CXYZ)[None]
    with torch.inference_mode():
        scores = _slide(image, lambda _: next(chosen), roi_size, overlap)
    predicted_XYZ = scores[0].argmax(0).to(torch.uint8).numpy()
    found = mean_dice(dice_per_label(predicted_XYZ, case.sample.labels_XYZ, labels).values())
    return 1.0 if found is None else found


def _shares(network: NestedUNet, roi_size: ROI) -> NDArray[np.float64]:
    """Return the multiply-adds of a window that ends at each depth, as shares of the full ones."""
    x = torch.zeros(1, network.arguments["in_channels"], *roi_size)
    adds = [
        multiply_adds(prune(network, depth, "accurate").cpu(), x)[0]
        for depth in range(1, network.depth + 1)
    ]
    return np.array(adds) / adds[-1]
