"""Scalars as TensorBoard event files, as bytes, so that they can be stored at any URL."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

_VERSION = "brain.Event:2"


@dataclass(frozen=True)
class Scalars:
    """Numbers of one step, by tag, and when they were seen, in seconds since 1970."""

    step: int
    wall_time: float
    values: Mapping[str, float]


def event_file(events: Iterable[Scalars]) -> bytes:
    """Return an event file of these scalars.

    TensorBoard goes through the files of a folder in the order of their names, which must hold
    ``tfevents``.
    """
    listed, buffer = list(events), io.BytesIO()
    begin = listed[0].wall_time if listed else 0.0
    writer = RecordWriter(buffer)
    for event in (Event(wall_time=begin, file_version=_VERSION), *map(_event, listed)):
        writer.write(event.SerializeToString())
    return buffer.getvalue()


def _event(scalars: Scalars) -> Event:
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.values.items()]
    return Event(wall_time=scalars.wall_time, step=scalars.step, summary=Summary(value=values))
