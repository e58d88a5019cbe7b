"""How the core reads a stream: item by item, each shown to hooks, host and caller before the next one is asked for.

What an item means is decided in `perform`. No I/O here.
"""

import datetime
from dataclasses import dataclass
from typing import Any

from app.engine.actions import Action
from app.engine.effects import END, ActionCall, CallHooks, Deliver, Emit, Flow, NextItem, OpenStream, Sleep
from app.engine.perform import NOTHING, Completed, OutcomeReader, Reader, StreamReader, first_index
from app.engine.ports import ItemStreamed
from app.engine.working_copies import lend

__all__ = ["StreamBegun", "is_streamed", "step_arguments", "stream_arguments", "stream_call"]


@dataclass(frozen=True, slots=True)
class StreamBegun:
    """Delivered before the items of an action, or instead of them if the action does not stream."""

    action: Action


def is_streamed(call: ActionCall) -> bool:
    """Whether items of the call go somewhere: to the caller, or to a host."""
    return call.record.is_streaming and (call.run.streams or call.run.is_hosted)


def step_arguments(call: ActionCall) -> dict[str, Any]:
    """Return what every hook about a step is told."""
    instance = call.run.instance
    return {
        "action": call.record.action,
        "sequence_id": call.seq,
        "app_id": instance.app_id,
        "partition_key": instance.partition_key,
    }


def stream_arguments(call: ActionCall) -> dict[str, Any]:
    """Return what every hook about a stream is told: the action by its name alone."""
    return {**step_arguments(call), "action": call.record.name}


def stream_call(call: ActionCall) -> Flow[Completed]:
    """Call a streaming action and pass its items on. Returns what it came to when it has no more."""
    run, record = call.run, call.record
    if is_streamed(call) and run.moments.start_stream is not None:
        yield CallHooks(run.moments.start_stream, stream_arguments(call))
    if run.streams:
        yield Deliver(StreamBegun(record.action))
    is_elsewhere = run.is_async and not record.is_async
    reader: Reader = OutcomeReader(record) if is_elsewhere else StreamReader(record, call.view)
    begun_at = first_at = _now()
    index = 0
    yield OpenStream(call)
    raw = yield from _first_item(call)
    while raw is not END:
        item = reader.feed(raw)
        if item is not NOTHING:
            first_at = _now() if index == 0 else first_at
            yield from _pass_on(call, item, index, begun_at, first_at)
            index += 1
        try:
            raw = yield NextItem(call)
        except Exception as error:
            if not reader.survives(error):
                raise
            break
    return reader.finish()


def _first_item(call: ActionCall) -> Flow[Any]:
    """Take the first item; a retry policy opens the stream anew as long as there is none."""
    policy, attempt = call.record.retry, 1
    while True:
        try:
            return (yield NextItem(call))
        except Exception as error:
            delay_s = policy.delay_s(error, attempt) if policy is not None else None
            if delay_s is None:
                raise
        yield Sleep(delay_s)
        call.view = call.record.view(call.run.instance.state)  # what the failed attempt has changed is gone
        yield OpenStream(call)
        attempt += 1


def _pass_on(call: ActionCall, item: Any, index: int, begun_at: datetime.datetime, first_at: datetime.datetime) -> Flow[None]:
    run = call.run
    if is_streamed(call) and run.moments.item is not None:
        arguments = {
            **stream_arguments(call),
            "item": lend(item),
            "item_index": index + first_index(call.record),
            "stream_initialize_time": begun_at,
            "first_stream_item_start_time": first_at,
        }
        yield CallHooks(run.moments.item, arguments)
    if run.is_hosted:
        yield Emit(ItemStreamed(call.seq, call.record.name, index, item))
    if run.streams:
        yield Deliver(lend(item))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
