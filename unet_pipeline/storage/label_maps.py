"""Storing a case: label map, what lies beside it, object by object, under the claim of the case.

A label map in one file is one object; one in chunks is many, in a folder. At whatever moment a run
is killed, the record says ``begun`` and names every object that may lie there; the metadata that
make a folder a volume are away from the first chunk to the last.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

from unet_pipeline.storage.chunk_folders import digest_of_all, is_folder, version_of
from unet_pipeline.storage.claims import Claim
from unet_pipeline.storage.fingerprint import Fingerprint
from unet_pipeline.storage.formats import LABEL_MAPS
from unet_pipeline.storage.ledger import digest_bytes
from unet_pipeline.storage.objects import Data, Streamed
from unet_pipeline.storage.outage import with_retries
from unet_pipeline.storage.sidecar import OutputDigest
from unet_pipeline.storage.store import Store

PICTURE = ".png"  # beside label map and record
CONFIDENCE_MAP = "_confidence.nii.gz"  # beside them, on request
AT_ONCE = 8  # objects that are being written
Content = bytes | Iterable[bytes]  # of a large object in parts; gone through twice
Objects = Iterable[tuple[str, Content]]  # by their names below the label map; gone through twice


@dataclass(frozen=True)
class Stored:
    """What was stored, and what may be replaced there from now on.

    Attributes
    ----------
    written
        Digests of all objects: those of the label map, and the picture.
    bytes
        Of all objects.
    """

    claim: Claim
    output: OutputDigest
    written: tuple[str, ...]
    bytes: int


def endings_of(format_name: str) -> tuple[str, str]:
    """Return what the URLs of label map and picture end with."""
    return LABEL_MAPS[format_name], PICTURE


def store_case(
    store: Store,
    mine: Claim,
    format_name: str,
    objects: Objects,
    picture: bytes,
    confidence_map: Content | None = None,
) -> Stored:
    """Store label map and picture of a case, and the map of its confidence if there is one.

    Of a label map in many objects, or of a large one in parts, no more than some are in memory: it
    is encoded once for its digests, which the record names before anything is written, and once
    more to be written.

    Raises
    ------
    CaseError
        ``output_foreign``, ``output_changed`` or ``output_busy`` for what another has written
        there, and what ``Store.write`` raises.
    """
    ending = LABEL_MAPS[format_name]
    sizes, digests = {}, {}
    for name, content in objects:
        sizes[name], digests[name] = _size_and_digest(content)
    beside: dict[str, Content] = {PICTURE: picture}
    if confidence_map is not None:
        beside = {CONFIDENCE_MAP: confidence_map, **beside}
    seen = [_size_and_digest(content) for content in beside.values()]
    of_beside = [digest for _, digest in seen]
    claim = with_retries(lambda: mine.begin(store, (*digests.values(), *of_beside)))
    if is_folder(ending):
        _make_room(store, claim, ending, digests)
        fingerprints = _write_all(store, claim, ending, objects, sizes)
        whole, version = digest_of_all(digests), version_of(fingerprints)
    else:
        ((name, content),) = objects
        data = _data(content, sizes[name])
        version = with_retries(lambda: claim.write(store, ending, data))
        whole = digests[name]
    if mine.digests:
        _remove_others(store, claim, {ending, *beside})
    for (name, content), (size, _) in zip(beside.items(), seen, strict=True):
        with_retries(partial(claim.write, store, name, _data(content, size)))
    size = sum(sizes.values())
    return Stored(
        claim,
        OutputDigest(size, whole, version.etag),
        (*digests.values(), *of_beside),
        size + sum(size for size, _ in seen),
    )


def _size_and_digest(content: Content) -> tuple[int, str]:
    """Go through an object once."""
    if isinstance(content, bytes):
        return len(content), digest_bytes(content)
    size, state = 0, hashlib.sha256()
    for part in content:
        size += len(part)
        state.update(part)
    return size, f"sha256:{state.hexdigest()}"


def _data(content: Content, size: int) -> Data:
    return content if isinstance(content, bytes) else Streamed(content, size)


def _make_room(store: Store, claim: Claim, ending: str, wanted: Mapping[str, str]) -> None:
    """Remove what makes the folder a volume, and then chunks of ours that have no place in it."""
    there, last = with_retries(lambda: claim.names(store, ending)), list(wanted)[-1]
    _remove(store, claim, ending, (there - wanted.keys()) | (there & {last}))


def _remove_others(store: Store, claim: Claim, wanted: Set[str]) -> None:
    """Remove a label map of ours in another format, and the confidence of another label map."""
    for other in (*LABEL_MAPS.values(), CONFIDENCE_MAP):
        if other not in wanted and with_retries(partial(claim.owns, store, other)):
            _remove(store, claim, other, with_retries(partial(claim.names, store, other)))


def _remove(store: Store, claim: Claim, ending: str, names: Set[str]) -> None:
    """Remove objects of ours, the uppermost by itself first: it is what makes them a volume."""

    def remove(name: str) -> None:
        with_retries(lambda: claim.remove(store, f"{ending}{name}"))

    by_depth = sorted(names, key=lambda name: (name.count("/"), name))
    for name in by_depth[:1]:
        remove(name)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(remove, by_depth[1:]):
            pass
    if names:
        store.prune(f"{claim.output}{ending}")


def _write_all(
    store: Store, claim: Claim, ending: str, objects: Objects, sizes: Mapping[str, int]
) -> dict[str, Fingerprint]:
    """Write objects, some at once, and the last one when all others are there."""
    fingerprints: dict[str, Fingerprint] = {}
    pending: deque[tuple[str, Future[Fingerprint]]] = deque()

    def write(name: str, content: Content) -> Fingerprint:
        data = _data(content, sizes[name])
        return with_retries(lambda: claim.write(store, f"{ending}{name}", data))

    each = iter(objects)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, content in islice(each, len(sizes) - 1):
            if len(pending) == AT_ONCE:
                done, future = pending.popleft()
                fingerprints[done] = future.result()
            pending.append((name, pool.submit(write, name, content)))
        fingerprints |= {name: future.result() for name, future in pending}
    fingerprints |= {name: write(name, content) for name, content in each}
    return fingerprints
