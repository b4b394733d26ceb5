"""The windows of a call in their order; those of a value that is known do not go to the network."""

from collections import Counter, deque
from collections.abc import Callable, Iterable

import torch

from unet_pipeline.clock import check_time
from unet_pipeline.inference.constant import Key, ScoreCache, constant_value
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.views import Voxels


class WindowQueue:
    """Adds the scores of all windows in their order, as those of the network come in.

    Parameters
    ----------
    windows
        Where each lies, and its values, shape CXYZ.
    known
        Scores of windows of one value; new ones are put there. None if they are not reused.
    add
        Is given the scores of a window and its box, window after window.

    Attributes
    ----------
    to_run
        Values of the windows that must go through the network, in order.
    reused
        Number of windows that need not.
    """

    def __init__(
        self,
        windows: Iterable[tuple[Box, Voxels]],
        known: ScoreCache | None,
        add: Callable[[torch.Tensor, Box], None],
    ) -> None:
        self.to_run: list[Voxels] = []
        self._known, self._add = known, add
        self._waiting: deque[tuple[Box, Key | None]] = deque()
        self._ahead: Counter[Key] = Counter()  # windows of each value that wait
        self._scores: dict[Key, torch.Tensor] = {}  # of those values, as far as they are known
        for box, values_CXYZ in windows:
            check_time()
            key = constant_value(values_CXYZ) if known is not None else None
            if key is None or not (key in self._ahead or self._recall(key)):
                self.to_run.append(values_CXYZ)
            if key is not None:
                self._ahead[key] += 1
            self._waiting.append((box, key))
        self.reused = len(self._waiting) - len(self.to_run)

    def advance(self) -> None:
        """Add the next windows for as long as their scores are known."""
        while self._waiting:
            key = self._waiting[0][1]
            if key is None or key not in self._scores:
                return
            self._add_next(self._scores[key])

    def receive(self, _index: int, scores_CXYZ: torch.Tensor) -> None:
        """Add the scores of the next window that went through the network, and what follows."""
        key = self._waiting[0][1]
        if key is not None and self._known is not None:
            scores_CXYZ = self._scores[key] = scores_CXYZ.clone()
            self._known.put(key, scores_CXYZ)
        self._add_next(scores_CXYZ)
        self.advance()

    def _add_next(self, scores_CXYZ: torch.Tensor) -> None:
        box, key = self._waiting.popleft()
        if key is not None:
            self._ahead[key] -= 1
            if not self._ahead[key]:
                del self._scores[key]
        self._add(scores_CXYZ, box)

    def _recall(self, key: Key) -> bool:
        """Return whether the scores of a value are known from another call; get them."""
        scores_CXYZ = self._known.get(key) if self._known is not None else None
        if scores_CXYZ is not None:
            self._scores[key] = scores_CXYZ
        return scores_CXYZ is not None
