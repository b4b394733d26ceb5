"""Bundles and their networks, read from where they are stored."""

from dataclasses import replace

from torch import nn

from unet_pipeline.errors import of_request
from unet_pipeline.evaluation.prediction import CALIBRATION, DiceCalibration
from unet_pipeline.networks.bundle import Bundle, bundle_url, check_unchanged, digest_of
from unet_pipeline.networks.bundle_config import MOST_BYTES, invalid
from unet_pipeline.networks.ensemble import MeanOfNetworks
from unet_pipeline.networks.monai_bundle import read_monai_bundle
from unet_pipeline.networks.nnunet.checkpoint import CHECKPOINT
from unet_pipeline.networks.nnunet.folder import is_nnunet_folder, load_folds, read_nnunet_folder
from unet_pipeline.networks.programs import PROGRAMS, load_program
from unet_pipeline.networks.registry import build_network
from unet_pipeline.networks.trusted import build_trusted
from unet_pipeline.networks.weights import fitted, parse_weights, read_weights
from unet_pipeline.storage.store import Store, join


def load_bundle(url_or_name: str, store: Store, *, trust: bool = False) -> Bundle:
    """Read a bundle's configuration and take the digest of its weights.

    Parameters
    ----------
    url_or_name
        Folder or URL of a bundle or of a model of nnU-Net, or the name of a bundle that comes with
        the package.
    trust
        Whether a network that is a program, and code of the bundle, may be run.

    Raises
    ------
    RequestError
        ``bundle_missing``, ``bundle_invalid``, ``bundle_expression``, ``network_unknown``,
        ``network_invalid``, ``weights_too_large`` or ``program_untrusted``; for nnU-Net
        ``plan_unsupported``, ``weights_unsafe`` or ``checkpoint_invalid``; with trust
        ``bundle_code_failed``.
    """
    url = bundle_url(url_or_name)
    with of_request():
        if is_nnunet_folder(url, store):
            bundle = read_nnunet_folder(url, store)
        else:
            bundle = read_monai_bundle(url, store, trust=trust)
        return replace(bundle, dice_calibration=_dice_calibration(url, store))


def load_network(bundle: Bundle, store: Store) -> nn.Module:
    """Build the network of a bundle with its weights, in evaluation mode, on the CPU.

    Raises
    ------
    RequestError
        ``weights_changed`` if the file is no longer the one that ``load_bundle`` saw,
        ``weights_too_large``, ``weights_unsafe`` if loading it would run code,
        ``bundle_invalid`` if it cannot be read, ``network_invalid`` for a ``network_def`` that is
        larger, ``weights_mismatch`` or ``weights_ambiguous`` if its tensors are not those of
        ``network_def``; what
        ``build_trusted`` raises.
    """
    if bundle.members:
        return MeanOfNetworks([load_network(one, store) for one in bundle.members])
    if bundle.weights_file.endswith(CHECKPOINT):
        return load_folds(bundle, store)
    url = join(bundle.url, bundle.weights_file)
    data = read_weights(url, store)
    check_unchanged(bundle, digest_of(data))
    if bundle.weights_file in PROGRAMS:
        return load_program(url, data)
    weights = parse_weights(url, data)
    if bundle.own_network:
        network = build_trusted(bundle, store)
    else:
        network = build_network(bundle.network_def, file_bytes=len(data))
    network.load_state_dict(fitted(url, weights, network.state_dict()))
    return network.eval()


def _dice_calibration(url: str, store: Store) -> DiceCalibration | None:
    where = join(url, CALIBRATION)
    if not store.exists(where):
        return None
    try:
        return DiceCalibration.parse(store.read_at_most(where, MOST_BYTES))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        found = f"{CALIBRATION} that is no calibration ({error})"
        raise invalid(url, found, "one as bundle confidence writes it") from error
