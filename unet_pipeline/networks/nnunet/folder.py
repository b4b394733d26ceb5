"""The folder of a model that nnU-Net trained, as a bundle.

::

    <model>/plans.json                        network, spacing, normalisation, windows
    <model>/dataset.json                      what channels and labels mean
    <model>/fold_0/checkpoint_final.pth       weights; the scores of all folds are averaged

The folder of one fold may be given instead, and is then run alone. The first stage of a cascade
lies beside its second, and is read with it: the same fold, where one is given.
"""

import re
from dataclasses import replace
from typing import Any

from torch import nn

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle import (
    MOST_OF_A_NAME,
    Bundle,
    check_unchanged,
    digest_of,
    references_in,
)
from unet_pipeline.networks.bundle_config import ConfigFile
from unet_pipeline.networks.ensemble import MeanOfNetworks
from unet_pipeline.networks.nnunet.checkpoint import CHECKPOINT, Checkpoint, read_checkpoint
from unet_pipeline.networks.nnunet.label_steps import read_label_steps
from unet_pipeline.networks.nnunet.plan import OVERLAP, Plan, read_plan, unsupported
from unet_pipeline.networks.registry import build_network, network_contract
from unet_pipeline.networks.weights import check_fit, read_weights
from unet_pipeline.records import json_text
from unet_pipeline.storage.store import Store, join
from unet_pipeline.texts import shown
from unet_pipeline.volume.preprocessing import check_channels, parse_preprocessing

PLANS, DATASET = "plans.json", "dataset.json"
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_FOLD = re.compile(r"fold_(\d+|all)")
_MALFORMED = (
    AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError,
)  # fmt: skip


def is_nnunet_folder(url: str, store: Store) -> bool:
    """Say if ``url`` is the folder of a model of nnU-Net, or of one of its folds."""
    return store.exists(join(_model_of(url), PLANS))


def read_nnunet_folder(url: str, store: Store) -> Bundle:
    """Read a model's plan and take the digests of its weights.

    Raises
    ------
    RequestError
        ``bundle_invalid``, ``plan_unsupported``, ``weights_too_large``, ``weights_unsafe``,
        ``checkpoint_invalid`` or ``network_unknown``.
    """
    return _read(url, store)


def _read(url: str, store: Store, second: str = "") -> Bundle:
    """Read a model; of a cascade also its first stage, whose ``second`` is the model's name."""
    model = _model_of(url)
    plans, dataset = (_json(model, name, store) for name in (PLANS, DATASET))
    files = _checkpoints(url, model, store)
    data = read_weights(join(model, files[0]), store)
    first = read_checkpoint(join(model, files[0]), data)
    digests = [
        digest_of(data),
        *(digest_of(read_weights(join(model, f), store)) for f in files[1:]),
    ]
    try:
        plan = read_plan(model, plans, dataset, first.configuration)
        bundle = _bundle(url, plan, first, files, digests)
        if plan.previous_stage is not None:
            if second:
                raise unsupported(model, f"a first stage of {second} that has one, too", "two")
            bundle = replace(bundle, first_stage=_first_stage(bundle, plan, first.trainer, store))
        label_steps, not_done = read_label_steps(model, store)
        references = references_in(dataset)
        return replace(bundle, label_steps=label_steps, not_done=not_done, references=references)
    except RequestError:
        raise
    except _MALFORMED as error:
        found = f"entries of {PLANS} or {DATASET} that cannot be read ({error!r})"
        raise unsupported(model, found, "what nnU-Net 2 writes") from error


def _first_stage(bundle: Bundle, plan: Plan, trainer: str, store: Store) -> Bundle:
    """Return the first stage of a cascade, whose label map is taken as the network decides it."""
    model, name = _model_of(bundle.url), str(plan.previous_stage)
    beside, _, here = model.rpartition("/")
    made_by = here.rpartition("__")[0] or f"{trainer}__{plan.plans.get('plans_name')}"
    if not _NAME.fullmatch(f"{made_by}__{name}"):  # a plan leads to no other place
        raise unsupported(model, f"a first stage named {shown(name)}", "letters, digits, _ . -")
    url = join(beside, f"{made_by}__{name}")
    if not is_nnunet_folder(url, store):
        raise RequestError(
            "first_stage_missing",
            found=f"the second stage of a cascade, and no {PLANS} in {url}",
            wanted="its first stage there, with the folds that training wrote",
            remedy="Copy that folder beside this one",
            subject=model,
        )
    found = _read(f"{url}{bundle.url.rstrip('/').removeprefix(model)}", store, second=here)
    if found.in_channels != bundle.image_channels:
        images = f"{found.in_channels} channels, and {bundle.image_channels} of its second"
        raise unsupported(url, f"a first stage of {images}", "two that see the same images")
    return replace(found, name=shown(name), label_steps=(), not_done=())


def load_folds(bundle: Bundle, store: Store) -> nn.Module:
    """Build the network of a model with the weights of its folds, in evaluation mode, on the CPU.

    Raises
    ------
    RequestError
        As ``load_network``.
    """
    digests, networks = [], []
    for file in (bundle.weights_file, *bundle.further_weights):
        url = join(_model_of(bundle.url), file)
        data = read_weights(url, store)
        digests.append(digest_of(data))
        weights = read_checkpoint(url, data).weights
        network = build_network(bundle.network_def, file_bytes=len(data))
        check_fit(url, weights, network.state_dict())
        network.load_state_dict(weights)
        networks.append(network.eval())
    check_unchanged(bundle, _digest(digests))
    return networks[0] if len(networks) == 1 else MeanOfNetworks(networks)


def _bundle(
    url: str, plan: Plan, checkpoint: Checkpoint, files: list[str], digests: list[str]
) -> Bundle:
    network_def, preprocessing = plan.network_def(), plan.preprocessing()
    contract, decision = network_contract(network_def), plan.decision()
    check_channels(parse_preprocessing(preprocessing), len(plan.channel_names))
    labels = [list(plan.label_channels)] if plan.label_channels else []
    said = json_text([network_def, preprocessing, plan.roi_size, *labels], sort_keys=True)
    shift = 0 if plan.slice_axis is None else 1
    return Bundle(
        name=shown(_name(url)),
        url=url,
        network_def=network_def,
        preprocessing=preprocessing,
        roi_size=plan.roi_size,
        slice_axis=plan.slice_axis,
        overlap=OVERLAP,
        blend="gaussian_nnunet",
        placement="evenly",
        decision=decision,
        labels=decision.label_names([shown(n, MOST_OF_A_NAME) for n in plan.channel_labels()]),
        in_channels=contract.in_channels,
        channel_names=tuple(plan.channel_names),
        out_channels=contract.out_channels,
        weights_digest=_digest(digests),
        config_digest=digest_of(said.encode()),
        weights_file=files[0],
        further_weights=tuple(files[1:]),
        label_channels=plan.label_channels,
        mirror_axes=tuple(axis + shift for axis in checkpoint.mirror_axes),
    )


def _digest(digests: list[str]) -> str:
    return digests[0] if len(digests) == 1 else digest_of("".join(digests).encode())


def _name(url: str) -> str:
    """Return the dataset's name, which is the folder above that of the trainer."""
    parts = _model_of(url).rstrip("/").split("/")
    return parts[-2] if "__" in parts[-1] and len(parts) > 1 else parts[-1]


def _model_of(url: str) -> str:
    folder, _, last = url.rstrip("/").rpartition("/")
    return folder if folder and _FOLD.fullmatch(last) else url.rstrip("/")


def _json(model: str, name: str, store: Store) -> dict[str, Any]:
    if not store.exists(join(model, name)):
        raise _missing(model, name)
    return dict(ConfigFile.read(join(model, name), store).content)


def _checkpoints(url: str, model: str, store: Store) -> list[str]:
    """Return the paths of the checkpoints within the model, in order of the folds' names.

    As in nnU-Net, ``fold_all`` (trained on all cases) is not one of several folds: it is run where
    it is alone, or asked for.
    """
    pattern = re.compile(rf".*/(({_FOLD.pattern})/{re.escape(CHECKPOINT)})")
    only = "" if url.rstrip("/") == model else url.rstrip("/").rpartition("/")[2]
    matches = [pattern.fullmatch(file) for file in store.list_files(model)]
    found = sorted(match[1] for match in matches if match and only in ("", match[2]))
    if not found:
        raise _missing(model, f"{only or 'fold_*'}/{CHECKPOINT}")
    return [file for file in found if not file.startswith("fold_all/")] or found


def _missing(model: str, name: str) -> RequestError:
    return RequestError(
        "bundle_invalid",
        found=f"no {name}",
        wanted=f"{PLANS}, {DATASET} and fold_*/{CHECKPOINT}, as nnU-Net's training writes them",
        remedy="Copy the whole folder of the model (<trainer>__<plans>__<configuration>)",
        subject=model,
    )
