"""Bundles and their networks, read from where they are stored."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.networks.bundle import INFERENCE, PACKAGED, Bundle, digest_of
from unet_pipeline.networks.monai_bundle import read_monai_bundle
from unet_pipeline.networks.programs import PROGRAMS, load_program
from unet_pipeline.networks.registry import build_network
from unet_pipeline.networks.weights import check_fit, parse_weights
from unet_pipeline.storage.store import Store, join


def load_bundle(url_or_name: str, store: Store, *, trust: bool = False) -> Bundle:
    """Read a bundle's configuration and take the digest of its weights.

    Parameters
    ----------
    url_or_name
        Folder or URL of a bundle, or the name of one that comes with the package.
    trust
        Whether a network that is a program may be run.

    Raises
    ------
    RequestError
        ``bundle_missing``, ``bundle_invalid``, ``bundle_expression``, ``network_unknown``,
        ``network_invalid`` or ``program_untrusted``.
    """
    url = _url_of(url_or_name)
    with _for_all_cases():
        return read_monai_bundle(url, store, trust=trust)


def load_network(bundle: Bundle, store: Store) -> nn.Module:
    """Build the network of a bundle with its weights, in evaluation mode, on the CPU.

    Raises
    ------
    RequestError
        ``weights_changed`` if the file is no longer the one that ``load_bundle`` saw,
        ``weights_unsafe`` if loading it would run code, ``bundle_invalid`` if it cannot be read,
        ``weights_mismatch`` if its tensors are not those of ``network_def``.
    """
    url = join(bundle.url, bundle.weights_file)
    data = store.read(url)
    if digest_of(data) != bundle.weights_digest:
        raise RequestError(
            "weights_changed",
            found=f"weights with digest {digest_of(data)}",
            wanted=f"{bundle.weights_digest}, as at the start of the run",
            remedy="Run again; write a new bundle to a new folder instead of changing one in use",
            subject=url,
        )
    if bundle.weights_file in PROGRAMS:
        return load_program(url, data)
    weights = parse_weights(url, data)
    network = build_network(bundle.network_def)
    check_fit(url, weights, network.state_dict())
    network.load_state_dict(weights)
    return network.eval()


@contextmanager
def _for_all_cases() -> Iterator[None]:
    """Without its bundle no case can run: raise a store's fault in one file as a wrong request."""
    try:
        yield
    except CaseError as error:
        raise RequestError(
            error.code,
            found=error.found,
            wanted=error.wanted,
            remedy=error.remedy,
            subject=error.subject,
        ) from error


def _url_of(url_or_name: str) -> str:
    packaged = PACKAGED / url_or_name
    is_name = "/" not in url_or_name and (packaged / INFERENCE).is_file()
    return str(packaged) if is_name else url_or_name
