"""Full batches for one device, filled from all the calls of a process that wait for it.

A call brings its windows and joins a queue. The first of the queue has the device to itself: its
thread runs batch after batch. Only its last batch may have room, which goes to the windows of the
calls behind it. So a batch runs short only if no call has a window left to fill it at that moment;
nobody waits for windows to come::

    batches of 4:   a a a a | a a b b | b b b c | c . . .
                    thread of a       | of b    | of c
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Condition

import torch

from unet_pipeline.clock import check_time, waiting
from unet_pipeline.errors import CaseError
from unet_pipeline.inference.transfer import Span
from unet_pipeline.volume.views import Voxels


@dataclass(eq=False)
class Call:
    """The windows of one call, and how far they are.

    Attributes
    ----------
    windows
        What the network sees of each, shape CXYZ.
    receive
        Is given the index of a window and its scores, shape CXYZ on the device, valid until it
        returns. An error that it raises ends this call and no other.
    forward, held
        When the device was in the network, and held at all, for these windows.
    """

    windows: Sequence[Voxels]
    receive: Callable[[int, torch.Tensor], None]
    forward: list[Span] = field(default_factory=list)
    held: list[Span] = field(default_factory=list)
    taken: int = 0
    served: int = 0
    error: BaseException | None = None

    @property
    def left(self) -> int:
        """Number of windows that are in no batch yet."""
        return 0 if self.error else len(self.windows) - self.taken

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be received."""
        return self.error is not None or self.served == len(self.windows)


BatchSlot = tuple[Call, int]  # a window's place in a batch: its call, and its index there


class BatchQueue:
    """Runs the windows of calls from several threads, one batch at a time.

    Parameters
    ----------
    size
        Windows of a batch.
    run
        Runs a batch of 1 to ``size`` windows and lets each call receive its own.
    """

    def __init__(self, size: int, run: Callable[[Sequence[BatchSlot]], None]) -> None:
        self.size, self._run = size, run
        self._waiting: deque[Call] = deque()  # calls that have windows left
        self._busy = False
        self._changed = Condition()

    def serve(self, call: Call) -> None:
        """Return when all windows of a call have been received; raise what went wrong with them.

        Raises
        ------
        Exception
            What ``receive`` raised, or what the network raised for a batch of this call.
        """
        with self._changed, waiting():
            if call.left:
                self._waiting.append(call)
            self._changed.wait_for(lambda: call.is_over or self._is_turn_of(call))
            if not call.is_over:
                self._busy = True
        if not call.is_over:
            self._run_batches(call)
        if call.error is not None:
            raise call.error

    def _is_turn_of(self, call: Call) -> bool:
        return not self._busy and self._waiting[0] is call

    def _run_batches(self, call: Call) -> None:
        """Run batches until no window of ``call`` is left; hand the device to the next call."""
        try:
            while slots := self._next_batch(call):
                self._run_slots(slots)
                _look_at_the_clock(call)
        finally:
            with self._changed:
                self._busy = False
                self._waiting = deque(other for other in self._waiting if other.left)
                self._changed.notify_all()

    def _next_batch(self, first: Call) -> list[BatchSlot]:
        """Take the next windows of ``first``, and fill up with those of the calls behind it."""
        slots: list[BatchSlot] = []
        with self._changed:
            for call in self._waiting if first.left else ():
                stop = call.taken + min(call.left, self.size - len(slots))
                slots += [(call, index) for index in range(call.taken, stop)]
                call.taken = stop
        return slots

    def _run_slots(self, slots: Sequence[BatchSlot]) -> None:
        try:
            self._run(slots)
        except BaseException as error:
            for call, _ in slots:
                call.error = call.error or error
            if not isinstance(error, Exception):
                raise
        with self._changed:
            for call, _ in slots:
                call.served += 1


def _look_at_the_clock(call: Call) -> None:
    """End a call that has taken its time; others go on."""
    try:
        check_time()
    except CaseError as error:
        call.error = call.error or error
