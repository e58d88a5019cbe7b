"""What happens in the other process: load the machine, carry the action out, pack what it gave. Used by worker processes
and by Dask's workers alike.
"""

import importlib
import pickle
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import lru_cache
from typing import Any

from app.engine.actions import Action
from app.engine.perform import perform_sync, stream_sync
from app.engine.ports import ActionOutcome
from app.executors.errors import CannotTravel
from app.executors.jobs import fit_for_a_future
from app.executors.travel import Errand, MachineSource, Reply, describe_failure, pack_item, pack_outcome

__all__ = ["carry_out", "carry_out_on_dask", "preload"]


def carry_out(errand: Errand, send_item: Callable[[bytes], None]) -> Reply:
    """Return how `errand` ended; `send_item` gets each packed item of a streaming action. Never raises."""
    outcome = failure = None
    items = 0

    def send(payload: bytes) -> None:
        nonlocal items
        send_item(payload)
        items += 1

    began_s, cpu_before_s = time.perf_counter(), time.thread_time()
    try:
        outcome = pack_outcome(_perform(errand, send), errand.action)
    except BaseException as exc:  # the border: whatever user code raises goes home
        failure = describe_failure(fit_for_a_future(exc))
    return Reply(outcome, failure, items, time.perf_counter() - began_s, time.thread_time() - cpu_before_s)


def carry_out_on_dask(errand: Errand, topic: str, number: int) -> Reply:
    """`carry_out` as a Dask task: items go over the scheduler, under `topic`, with the `number` of their call."""
    distributed: Any = importlib.import_module("distributed")
    worker = distributed.get_worker()
    key = worker.get_current_task()

    def send(payload: bytes) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise ReaderLeft
        worker.log_event(topic, (number, payload))

    return carry_out(errand, send)


class ReaderLeft(Exception):
    """Nobody waits for the items of this stream any more."""


def preload(source: MachineSource) -> None:
    """Import the machine while there is nothing else to do; an error is left to the first errand."""
    with suppress(Exception):
        _actions(source)


def _perform(errand: Errand, send_item: Callable[[bytes], None]) -> ActionOutcome:
    actions = _actions(errand.source)  # imports the machine, also for what is carried: its function may be there
    action = actions.get(errand.action) if errand.carried is None else _carried(errand.carried)
    if action is None:
        raise CannotTravel(
            f"machine {errand.source.spec!r} has no action {errand.action!r} in the other process",
            where="machine",
            key=errand.action,
        )
    # the machine is imported before its values are read: their classes may be its own
    view, inputs, context = pickle.loads(errand.payload)  # noqa: S301 - packed by the service
    with context or nullcontext():
        if not errand.is_streaming:
            return perform_sync(action, view, inputs)
        items = stream_sync(action, view, inputs)
        for index, item in enumerate(items):
            if isinstance(item, ActionOutcome):
                return item
            send_item(pack_item(item, errand.action, index))
    raise AssertionError("a stream ends with its outcome")


@lru_cache(maxsize=256)
def _carried(payload: bytes) -> Action:
    action: Action = pickle.loads(payload)  # noqa: S301 - packed by the service
    return action


@lru_cache(maxsize=64)
def _actions(source: MachineSource) -> dict[str, Action]:
    module, _, function = source.loader.partition(":")
    load: Callable[[str], Any] = getattr(importlib.import_module(module), function)
    return {action.name: action for action in load(source.spec).blueprint.graph.actions}
