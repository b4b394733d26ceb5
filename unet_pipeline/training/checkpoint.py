"""Checkpoints: everything that the next step depends on, in one object that is written at once.

A training that was killed goes on from its last checkpoint and ends with the same weights, bit for
bit, as if it had been left alone (same machine, same number of threads).
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import torch

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.pickles import load_tensors
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.outage import with_retries
from unet_pipeline.storage.store import Store, join

FOLDER = "training"
NAME = "checkpoint.pt"
_FORMAT = 1


@dataclass(frozen=True)
class Checkpoints:
    """Where the checkpoint of a training lies.

    Attributes
    ----------
    output
        Folder of the bundle that is being trained.
    identity
        What must be the same for a training to be gone on with: settings and digest of the data,
        as plain JSON types.
    """

    store: Store
    output: str
    identity: Mapping[str, Any]

    @property
    def url(self) -> str:
        """The checkpoint."""
        return join(self.output, FOLDER, NAME)

    def load(self) -> dict[str, Any] | None:
        """Return the state of the last checkpoint, or None if there is none.

        Raises
        ------
        RequestError
            ``checkpoint_other`` for one of another training; ``checkpoint_invalid``.
        """
        if not self.store.exists(self.url):
            return None
        kept = self._parse(self.store.read(self.url))
        changes = _changes(kept["identity"], self.identity)
        if changes:
            raise RequestError(
                "checkpoint_other",
                subject=self.url,
                found=f"a training under way with other settings: {'; '.join(changes)}",
                wanted="the same settings and data, to go on with it",
                remedy="Take these settings again, choose another output, or say --no-resume to "
                "begin anew",
            )
        state: dict[str, Any] = kept["state"]
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint in one step."""
        data = io.BytesIO()
        content = {"format": _FORMAT, "identity": dict(self.identity), "state": dict(state)}
        torch.save(content, data)
        with_retries(lambda: self._mine.write({NAME: data.getbuffer()}))

    def remove(self) -> None:
        """Remove the checkpoint, if there is one of ours."""
        self._mine.remove([NAME])

    @property
    def _mine(self) -> OwnFiles:
        return OwnFiles(self.store, join(self.output, FOLDER))

    def _parse(self, data: bytes) -> dict[str, Any]:
        try:
            kept = load_tensors(data)
            if isinstance(kept, dict) and kept.get("format") == _FORMAT:
                return {"identity": kept["identity"], "state": kept["state"]}
        except (RuntimeError, BadZipFile, UnpicklingError, KeyError, EOFError, ValueError):
            pass
        raise RequestError(
            "checkpoint_invalid",
            subject=self.url,
            found="a file that is no checkpoint of this version",
            wanted="a checkpoint, to go on from",
            remedy="Move it away to begin anew",
        )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = sorted({*before, *now})
    return [
        f"{name} {before.get(name)}, now {now.get(name)}"
        for name in names
        if before.get(name) != now.get(name)
    ]
