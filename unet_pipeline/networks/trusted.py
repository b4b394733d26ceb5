"""The code of a bundle that the user trusts: expressions and network classes, run by MONAI itself.

Without trust nothing here is called. With it, MONAI's ``ConfigParser`` evaluates the entries that
cannot be read as data, with the bundle's ``imports`` and its ``scripts`` package, as
``python -m monai.bundle run`` does from the bundle's folder. The files are fetched into a folder of
their own, and are importable only while the parser works: no other bundle sees them, nor do we.
"""

import hashlib
import importlib
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

import numpy as np
import torch
from monai.bundle.config_item import ConfigItem
from monai.bundle.config_parser import ConfigParser
from torch import Tensor, nn

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.bundle import INFERENCE, METADATA, Bundle
from unet_pipeline.networks.bundle_config import NOT_OURS, invalid
from unet_pipeline.networks.registry import final_scores
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.storage.names import is_safe
from unet_pipeline.storage.store import Store, join, relative_to

log = logging.getLogger(__name__)

_FOLDERS, _SUFFIXES = ("configs", "scripts"), (".json", ".py")
_MOST_FILES, _MOST_BYTES = 500, 16 * 2**20
_importing = RLock()  # sys.path and sys.modules are the process's


@dataclass(frozen=True)
class BundleCode:
    """The files that a bundle's code consists of: JSON and Python, of ``configs`` and ``scripts``.

    Attributes
    ----------
    url
        The bundle's folder.
    files
        Content of each file, by its path within the bundle.
    """

    url: str
    files: Mapping[str, bytes]

    @classmethod
    def fetch(cls, url: str, store: Store) -> "BundleCode":
        """Read the files; none is run.

        Raises
        ------
        RequestError
            ``bundle_invalid`` if they are more than code can be: 500 files, or 16 MiB in all.
        """
        paths = [path for folder in _FOLDERS for path in _listed(url, folder, store)]
        files: dict[str, bytes] = {}
        left = _MOST_BYTES
        for path in paths[: _MOST_FILES + 1]:
            files[path] = store.read_range(join(url, path), 0, left + 1)
            left -= len(files[path])
            if len(files) > _MOST_FILES or left < 0:
                found = f"more than {_MOST_FILES} files or {_MOST_BYTES // 2**20} MiB of code"
                raise invalid(url, found, "the code of one network in configs/ and scripts/")
        return cls(url, files)

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of the names and contents of all files."""
        state = hashlib.sha256()
        for path, data in sorted(self.files.items()):
            state.update(f"{path}\0{len(data)}\0".encode())
            state.update(data)
        return f"sha256:{state.hexdigest()}"

    def parsed(self, entry: str, *, instantiate: bool = True) -> Any:
        """Return what MONAI makes of an entry of ``inference.json``; this runs the bundle's code.

        Parameters
        ----------
        entry
            Path of the entry, its parts separated by ``::``.
        instantiate
            Whether components (``_target_``) are built, or stay definitions.

        Raises
        ------
        RequestError
            ``bundle_code_failed`` for whatever the code raises.
        """
        log.info("running code of %s for %s", self.url, entry)
        try:
            with self._importable() as folder:
                return _parser(folder).get_parsed_content(entry, instantiate=instantiate)
        except Exception as error:  # the code is the bundle's: it may raise anything
            raise RequestError(
                "bundle_code_failed",
                found=f"{_innermost(error)} from the bundle's own code for {entry!r}",
                wanted="code that MONAI can run with the packages that are installed here",
                remedy="Install what the bundle requires, or choose another bundle",
                subject=self.url,
            ) from error

    @contextmanager
    def _importable(self) -> Iterator[Path]:
        """Put the files into a folder from which they, and nobody else's, are imported."""
        with _importing, scratch_folder() as name:
            folder = name.resolve()
            for path, data in self.files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
            with _modules_of(folder):
                yield folder


class TrustedConfig:
    """What MONAI makes of entries of a bundle; its code is fetched and run at the first use."""

    def __init__(self, url: str, store: Store) -> None:
        self._url, self._store = url, store
        self._code: BundleCode | None = None

    @property
    def digest(self) -> str | None:
        """Digest of the bundle's code if some of it was needed, else None."""
        return None if self._code is None else self._code.digest

    def fetch(self) -> BundleCode:
        """Return the bundle's code."""
        if self._code is None:
            self._code = BundleCode.fetch(self._url, self._store)
        return self._code

    def value(self, entry: str) -> Any:
        """Return the plain value of an entry; definitions of transforms stay definitions.

        Raises
        ------
        RequestError
            ``bundle_code_failed``; ``bundle_expression`` if it is no plain value.
        """
        try:
            return _plain(self.fetch().parsed(entry))
        except (RequestError, TypeError):
            # transforms may be lists that are added up: as definitions we can translate them
            found = self.fetch().parsed(entry, instantiate=False)
        try:
            return _plain(found)
        except TypeError as error:
            raise RequestError(
                "bundle_expression",
                found=f"an expression in {entry} that gives {error}",
                wanted="numbers, texts, lists of them, or definitions of MONAI components",
                remedy="Write the value itself into the bundle's JSON file",
                subject=join(self._url, INFERENCE),
            ) from error


def build_trusted(bundle: Bundle, store: Store) -> nn.Module:
    """Build the network of a bundle by its own code, with random weights, on the CPU.

    Raises
    ------
    RequestError
        ``bundle_changed`` if the code is no longer what ``load_bundle`` saw, ``bundle_code_failed``
        if it raises, ``bundle_invalid`` if it makes no network.
    """
    code = BundleCode.fetch(bundle.url, store)
    if code.digest != bundle.code_digest:
        raise RequestError(
            "bundle_changed",
            found=f"configs and scripts with digest {code.digest}",
            wanted=f"{bundle.code_digest}, as at the start of the run",
            remedy="Run again; write a new bundle to a new folder instead of changing one in use",
            subject=bundle.url,
        )
    with torch.random.fork_rng(devices=[]):
        network = code.parsed("network_def")
    if not isinstance(network, nn.Module):
        found = f"a network_def that makes a {type(network).__name__}"
        raise invalid(bundle.url, found, "a torch.nn.Module")
    return network.cpu()


def check_promise(network: nn.Module, bundle: Bundle) -> None:
    """Run one window of zeros: a network of foreign code must give what the metadata promise.

    Raises
    ------
    RequestError
        ``network_invalid`` if it raises, or gives scores of another shape.
    """
    shape = (1, bundle.in_channels, *bundle.in_plane_roi)
    wanted = (1, bundle.out_channels, *bundle.in_plane_roi)
    try:
        with torch.inference_mode():
            scores: Any = final_scores(network(torch.zeros(shape)))
        found = f"{tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
    except Exception as error:  # the code is the bundle's: it may raise anything
        found = _innermost(error)
    if found != f"{wanted}":
        raise RequestError(
            "network_invalid",
            found=f"{found} from the bundle's own network for an input of shape {shape}",
            wanted=f"scores of shape {wanted}, as configs/metadata.json and the window say",
            remedy="Correct num_channels in configs/metadata.json, or inferer::roi_size",
            subject=bundle.url,
        )


def _listed(url: str, folder: str, store: Store) -> list[str]:
    where = join(url, folder)
    if not store.is_folder(where):
        return []
    paths = [f"{folder}/{relative_to(file, where)}" for file in store.list_files(where)]
    return sorted(path for path in paths if path.endswith(_SUFFIXES) and is_safe(path))


def _parser(folder: Path) -> ConfigParser:
    """Return MONAI's parser of the bundle in ``folder``, set up as its command line does."""
    parser = ConfigParser()
    parser.read_config(str(folder / INFERENCE))
    parser.read_meta(str(folder / METADATA))
    ours = {"bundle_root": str(folder), "device": "$torch.device('cpu')"}
    parser.update({entry: value for entry, value in ours.items() if entry in parser})
    return parser


@contextmanager
def _modules_of(folder: Path) -> Iterator[None]:
    """Import from ``folder`` first, and leave ``sys.path`` and ``sys.modules`` as they were."""
    path, others = list(sys.path), _take_out(None)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        _take_out(folder)
        sys.path[:] = path
        sys.path_importer_cache.pop(str(folder), None)
        sys.modules.update(others)


def _take_out(folder: Path | None) -> dict[str, ModuleType]:
    """Remove the modules named ``scripts``, and those that lie in ``folder``; return them."""
    found = {
        name: module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "scripts"
        or (folder and str(getattr(module, "__file__", "")).startswith(f"{folder}/"))
    }
    for name in found:
        del sys.modules[name]
    return found


def _plain(value: Any) -> Any:
    """Return a value as JSON types; ``TypeError`` names the type of what cannot be."""
    match value:
        case np.ndarray() | np.generic() | Tensor():
            return _plain(value.tolist())
        case None | bool() | int() | float() | str():
            return value
        case ConfigItem():
            return _plain(value.config)
        case Mapping():
            return {str(k): _plain(v) for k, v in value.items() if k not in NOT_OURS}
        case list() | tuple() | range():
            return [_plain(item) for item in value]
        case set() | frozenset():
            return [_plain(item) for item in sorted(value)]
        case torch.dtype():
            return f"${value}"
        case type() if issubclass(value, np.generic):
            return f"$np.{value.__name__}"
    raise TypeError(f"a {type(value).__name__}")


def _innermost(error: BaseException) -> str:
    """Name the first cause of an error, which MONAI wraps."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__} ({text[:200]})" if text else type(error).__name__
