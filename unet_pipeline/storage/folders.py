"""Folders that we write as a whole: bundles, trainings, fixed cohorts. What is ours is recorded.

The record ``.unet-pipeline.json`` names the digests of our files. It is written before them, with
the digests of what is about to be written and of what may be replaced, so that whatever a killed
command leaves is known as ours. The rule is that of ``storage/claims.py``.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from unet_pipeline.errors import PipelineError, RequestError
from unet_pipeline.storage.claims import foreign
from unet_pipeline.storage.ledger import digest_bytes, digest_object, read_record
from unet_pipeline.storage.objects import Whole
from unet_pipeline.storage.sidecar import MADE_BY, stamped
from unet_pipeline.storage.store import Store, join

RECORD = ".unet-pipeline.json"
_TRIES = 5  # where others write, too


@dataclass(frozen=True)
class OwnFiles:
    """Our files in a folder, which others may use, too."""

    store: Store
    folder: str

    def check(self, paths: Iterable[str]) -> None:
        """Refuse to write where a file lies that is not ours, or was changed since.

        Raises
        ------
        RequestError
            ``output_foreign``.
        """
        known = self._known()
        for path in paths:
            if self._is_foreign(path, known):
                url = join(self.folder, path)
                raise foreign(url, recorded=path in known, kind=RequestError)

    def write(self, files: Mapping[str, Whole]) -> None:
        """Write files by their paths, in this order, where nothing lies or a file of ours.

        Raises
        ------
        RequestError
            ``output_foreign``, before anything is written.
        CaseError
            ``output_changed`` for a file that came meanwhile.
        """
        self.check(files)
        known = self._known()
        new = {path: [digest_bytes(data)] for path, data in files.items()}
        before = {path: known.get(path, []) + digests for path, digests in new.items()}
        self._record(known | before)
        for path, data in files.items():
            url = join(self.folder, path)
            self.store.write(url, data, over=self.store.find(url))
        self._record(known | new)

    def write_where_ours(self, files: Mapping[str, Whole]) -> None:
        """Write those of the files that change and have nothing of another hand in their place.

        Runs that begin at once write the same: what one has written, the other finds.
        """
        for _ in range(_TRIES):
            try:
                return self._write_where_ours(files)
            except PipelineError as error:
                if error.code not in {"output_changed", "output_foreign"}:
                    raise
        return self._write_where_ours(files)

    def _write_where_ours(self, files: Mapping[str, Whole]) -> None:
        known = self._known()
        new = {
            path: data
            for path, data in files.items()
            if not self._is_foreign(path, known) and not self._holds(path, data)
        }
        if new:
            self.write(new)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove those of the files that are ours; others stay."""
        known = self._known()
        removed = [path for path in paths if path in known and not self._is_foreign(path, known)]
        for path in removed:
            self.store.remove(join(self.folder, path))
        left = {path: digests for path, digests in known.items() if path not in removed}
        if removed and left:
            self._record(left)
        elif removed:
            self.store.remove(join(self.folder, RECORD))

    def _is_foreign(self, path: str, known: Mapping[str, list[str]]) -> bool:
        url = join(self.folder, path)
        if self.store.find(url) is None:
            return False
        return path not in known or digest_object(self.store, url) not in known[path]

    def _holds(self, path: str, data: Whole) -> bool:
        url = join(self.folder, path)
        return self.store.find(url) is not None and self.store.read(url) == data

    def _known(self) -> dict[str, list[str]]:
        try:
            value: Any = json.loads(read_record(self.store, join(self.folder, RECORD)) or b"{}")
            written = value["written"] if value["made_by"] == MADE_BY else {}
            return {str(path): [str(one) for one in digests] for path, digests in written.items()}
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            return {}

    def _record(self, written: Mapping[str, list[str]]) -> None:
        data = stamped(written=dict(sorted(written.items())))
        self.store.put(join(self.folder, RECORD), data, "anything")  # of others, too, at any time
