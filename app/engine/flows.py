"""Runs, made of steps: what each of the public run methods comes to, with no I/O. See `core` for the rules of a step."""

from collections.abc import Mapping
from typing import Any, TypeVar

from app.engine.compiled import CompiledAction
from app.engine.core import NO_INPUTS, NO_LIMITS, Limits, Run, Taken, decide, take_step
from app.engine.core_streams import StreamBegun
from app.engine.effects import CallHooks, Deliver, Flow
from app.engine.errors import NothingToRun
from app.engine.frozen import frozen
from app.engine.ports import HaltReason
from app.engine.state import State

__all__ = [
    "Ending",
    "StreamEnded",
    "iterate_flow",
    "run_flow",
    "step_flow",
    "stream_flow",
    "stream_iterate_flow",
    "with_execute_hooks",
]

T = TypeVar("T")


@frozen
class Ending:
    """How a run ended: after which action, with which result, before which action."""

    halt: HaltReason
    steps: int
    last: CompiledAction | None
    result: Any
    next: CompiledAction | None


@frozen
class StreamEnded:
    """Delivered after the items of an action when more actions may follow."""

    result: Any
    state: State[Any]


def step_flow(run: Run, inputs: Mapping[str, Any]) -> Flow[Taken | None]:
    """Take one step, with the execute-call hooks around it; None when no transition leads on."""
    if run.moments.has_execute:
        return with_execute_hooks(run, _step_later(run, inputs))
    record = run.blueprint.next_record(run.instance)
    return _step_later(run, inputs) if record is None else take_step(run, record, inputs, NO_LIMITS, 1)


def _step_later(run: Run, inputs: Mapping[str, Any]) -> Flow[Taken | None]:
    record = run.blueprint.next_record(run.instance)
    if record is None:
        return None
    return (yield from take_step(run, record, inputs, NO_LIMITS, 1))


def run_flow(run: Run, inputs: Mapping[str, Any], limits: Limits) -> Flow[Ending]:
    """Take steps until a limit is met or no transition leads on. Inputs reach the first one only."""
    instance = run.instance
    record = run.blueprint.next_record(instance)
    done, result, steps, halt = None, None, 0, HaltReason.END
    while record is not None:
        steps += 1
        done, result, verdict = yield from take_step(run, record, inputs, limits, steps)
        record, stop = verdict or decide(done, done.follower(instance.state), limits, steps)
        if stop is not None:
            halt = stop
            break
        inputs = NO_INPUTS
    return Ending(halt, steps, done, result, record)


def iterate_flow(run: Run, inputs: Mapping[str, Any], limits: Limits) -> Flow[Ending]:
    """`run_flow` that delivers the action, its result and the state after each step.

    Whether to go on is decided when the caller asks for more: they may have changed the state in between.
    """
    instance = run.instance
    record = run.blueprint.next_record(instance)
    done, result, steps, halt = None, None, 0, HaltReason.END
    while record is not None:
        steps += 1
        done, result, _ = yield from take_step(run, record, inputs, limits, steps)
        yield Deliver((done.action, result, instance.state))
        record, stop = decide(done, run.blueprint.next_record(instance), limits, steps)
        if stop is not None:
            halt = stop
            break
        inputs = NO_INPUTS
    return Ending(halt, steps, done, result, record)


def stream_flow(run: Run, inputs: Mapping[str, Any], limits: Limits) -> Flow[tuple[Any, State[Any]]]:
    """Run until one of `limits.after` is next, and stream it; its items are delivered after a StreamBegun.

    A run that ends elsewhere, or an action that does not stream, has no items. Returns the result and the state.
    """
    instance = run.instance
    record = run.blueprint.next_record(instance)
    if record is None:
        raise NothingToRun(None if instance.prior is None else instance.prior.name)
    if record.name not in limits.after:
        run.streams = False
        ending = yield from run_flow(run, inputs, Limits(before=limits.before | limits.after))
        run.streams = True
        record, inputs = ending.next, NO_INPUTS
        if record is None or record.name not in limits.after:
            shown, result = (record, None) if record is not None else (ending.last, ending.result)
            if shown is not None:
                yield Deliver(StreamBegun(shown.action))
            return result, instance.state
    done, result, _ = yield from take_step(run, record, inputs, NO_LIMITS, 1)
    if not done.is_streaming:
        yield Deliver(StreamBegun(done.action))
    return result, instance.state


def stream_iterate_flow(run: Run, inputs: Mapping[str, Any], limits: Limits) -> Flow[None]:
    """`iterate_flow` that streams each action: a StreamBegun, the items if it streams, a StreamEnded."""
    instance = run.instance
    record = run.blueprint.next_record(instance)
    steps = 0
    while record is not None:
        steps += 1
        done, result, _ = yield from take_step(run, record, inputs, limits, steps)
        if not done.is_streaming:
            yield Deliver(StreamBegun(done.action))
        yield Deliver(StreamEnded(result, instance.state))
        record, halt = decide(done, run.blueprint.next_record(instance), limits, steps)
        if halt is not None:
            break
        inputs = NO_INPUTS


def with_execute_hooks(run: Run, flow: Flow[T]) -> Flow[T]:
    """Put the execute-call hooks around `flow`: one call before everything, one after, which sees the error if there was one."""
    moments = run.moments
    if moments.pre_execute is not None:
        yield CallHooks(moments.pre_execute, _execute_arguments(run))
    try:
        result = yield from flow
    except Exception as error:
        if moments.post_execute is not None:
            yield CallHooks(moments.post_execute, {**_execute_arguments(run), "exception": error})
        raise
    if moments.post_execute is not None:
        yield CallHooks(moments.post_execute, {**_execute_arguments(run), "exception": None})
    return result


def _execute_arguments(run: Run) -> dict[str, Any]:
    instance = run.instance
    return {
        "app_id": instance.app_id,
        "partition_key": instance.partition_key,
        "state": instance.state,
        "method": run.method,
    }
