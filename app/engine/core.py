"""The rules of a run, with no I/O: generators that decide what happens next and yield it as an effect.

A driver performs each effect and sends the answer, or throws the error, back in. The generator's return value is the result.
Nothing here awaits, blocks, logs or calls an action; nothing yields in `finally`, and nothing catches BaseException: a run
that is cancelled or dropped simply stops between two effects, and has committed what it has committed.

This file knows one step; `flows` makes runs of steps, and `core_streams` reads streams.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from app.engine.compiled import CONTEXT, TRACER, CompiledAction
from app.engine.context import ApplicationContext, tracer_of
from app.engine.core_streams import is_streamed, step_arguments, stream_arguments, stream_call
from app.engine.effects import ActionCall, CallHooks, Commit, Emit, Flow, FlushSpans, RecordFailure, Sleep
from app.engine.errors import AsyncActionInSyncRun, RunAbandoned
from app.engine.hooks import ExecuteMethod
from app.engine.perform import Completed, complete
from app.engine.ports import HaltReason, Step, StepBegun, StepFailure
from app.engine.state import State, make_state
from app.engine.view import operations_of, settle

if TYPE_CHECKING:
    from app.engine.blueprint import Blueprint, Moments

__all__ = ["NO_INPUTS", "NO_LIMITS", "Instance", "Limits", "Run", "Verdict", "decide", "prepare", "take_step"]

NO_INPUTS: Final[Mapping[str, Any]] = {}


@dataclass(slots=True, eq=False)
class Instance:
    """What a run moves: the state of one application and its position in the graph."""

    app_id: str
    partition_key: str | None
    state: State[Any]
    seq: int
    prior: CompiledAction | None


@dataclass(slots=True, eq=False)
class Run:
    """One call of a run method: on what, and who listens.

    `emits` and `commits` say whether a host takes events and steps; without one these effects are left out. `streams` says
    whether items go to the caller. `call_hook` is for tracers, whose hooks are called from within actions.
    """

    blueprint: "Blueprint"
    instance: Instance
    method: ExecuteMethod
    moments: "Moments"
    is_async: bool
    emits: bool = False
    commits: bool = False
    streams: bool = False
    run_id: str | None = None
    call_hook: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run stops: names of actions, tags expanded, and the number of steps."""

    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    max_steps: int | None = None


NO_LIMITS: Final = Limits()


Verdict: TypeAlias = tuple[CompiledAction | None, HaltReason | None]
Taken: TypeAlias = tuple[CompiledAction, Any, Verdict | None]
"""A finished step: its action, the result, and what comes next if that had to be decided already."""


def take_step(run: Run, record: CompiledAction, inputs: Mapping[str, Any], limits: Limits, number: int) -> Flow[Taken]:
    """Take one step, beginning with `record`: until an action is committed, or an error is left that no transition handles."""
    taken_rescues: dict[tuple[str, int], int] = {}
    while True:
        call, given = prepare(run, record, inputs)
        try:
            return (yield from _attempt(run, call, given, limits, number))
        except RunAbandoned:
            raise
        except Exception as error:
            target = _rescue(record, error, run.instance.state, taken_rescues) if record.rescues else None
            if target is None:
                raise
            record, inputs = target, NO_INPUTS


def prepare(run: Run, record: CompiledAction, inputs: Mapping[str, Any]) -> tuple[ActionCall, Mapping[str, Any]]:
    """Return the call of `record` as it is now, and its inputs as hooks see them.

    Raises InvalidInputs, and AsyncActionInSyncRun: nothing of the step has begun then.
    """
    if record.is_async and not run.is_async:
        raise AsyncActionInSyncRun(record.name)
    if inputs or record.required:
        record.check_inputs(inputs)
    instance = run.instance
    call = ActionCall(record, record.view(instance.state), inputs, run, instance.seq + 1)
    if record.wants_tracer or run.blueprint.has_span_hooks:
        call.tracer = tracer_of(call)
    if record.wants_context or record.wants_tracer:
        inputs = dict(inputs)
        if record.wants_context:
            inputs[CONTEXT] = ApplicationContext.of(call)
        if record.wants_tracer:
            inputs[TRACER] = call.tracer
        call.inputs = {record.renamed.get(name, name): value for name, value in inputs.items()}
    return call, inputs


def decide(done: CompiledAction, following: CompiledAction | None, limits: Limits, steps: int) -> Verdict:
    """Return `following`, and why the run stops between `done` and it, if it does. `before` beats `after`."""
    if following is not None and following.name in limits.before:
        return following, HaltReason.HALT_BEFORE
    if done.name in limits.after:
        return following, HaltReason.HALT_AFTER
    if following is None:
        return None, HaltReason.END
    return following, HaltReason.MAX_STEPS if steps == limits.max_steps else None


def _attempt(run: Run, call: ActionCall, given: Mapping[str, Any], limits: Limits, number: int) -> Flow[Taken]:
    """Call the action once (more often if it has a retry policy), and commit what it gives."""
    record, instance, moments = call.record, run.instance, run.moments
    if moments.pre_step is not None:
        yield CallHooks(moments.pre_step, {**step_arguments(call), "state": instance.state, "inputs": dict(given)})
    if run.emits:
        yield Emit(StepBegun(call.seq, record.name))
    started_at_s = run.clock() if run.commits else 0.0
    verdict: Verdict | None = None
    is_committing = False
    try:
        if record.is_streaming:
            completed = yield from stream_call(call)
        elif record.retry is None:
            completed = complete(record, call.view, (yield call))
        else:
            completed = complete(record, call.view, (yield from _retried(call)))
        result, log, after = completed
        old = instance.state
        state = make_state(settle(record.declared, old._values, log, after), old._typing_system, (record.name, call.seq))
        if run.commits:
            verdict = decide(record, record.follower(state), limits, number)
            is_committing = True
            yield Commit(_step(call, completed, state, verdict, started_at_s, run.clock()))
    except Exception as error:
        if run.commits and not is_committing:
            yield RecordFailure(StepFailure(call.seq, record.name, error, started_at_s, run.clock()))
        yield from _end_hooks(call, instance.state, None, error)
        raise
    instance.state, instance.seq, instance.prior = state, call.seq, record
    if moments.post_step is not None or record.is_streaming or call.tracer is not None:
        yield from _end_hooks(call, state, result, None)
    return record, result, verdict


def _retried(call: ActionCall) -> Flow[Any]:
    """Call the action again while its policy says so; the error of the last call leaves."""
    policy = call.record.retry
    attempt = 1
    while True:
        try:
            return (yield call)
        except Exception as error:
            delay_s = policy.delay_s(error, attempt) if policy is not None else None
            if delay_s is None:
                raise
        yield Sleep(delay_s)
        attempt += 1


def _step(
    call: ActionCall, completed: Completed, state: State[Any], verdict: Verdict, started_at_s: float, finished_at_s: float
) -> Step:
    following, halt = verdict
    result, log, _ = completed
    return Step(
        seq=call.seq,
        action=call.record.name,
        operations=operations_of(log),
        result=result,
        state=state,
        next_action=None if following is None else following.name,
        halt=halt,
        started_at_s=started_at_s,
        finished_at_s=finished_at_s,
    )


def _rescue(
    record: CompiledAction, error: Exception, state: State[Any], taken: dict[tuple[str, int], int]
) -> CompiledAction | None:
    """Return the action that a transition on this error leads to, and count the transition; None when none holds."""
    for index, (condition, target) in enumerate(record.rescues):
        edge = (record.name, index)
        if condition.handles(error, taken.get(edge, 0), state):
            taken[edge] = taken.get(edge, 0) + 1
            return target
    return None


def _end_hooks(call: ActionCall, state: State[Any], result: Any, error: Exception | None) -> Flow[None]:
    moments = call.run.moments
    if call.tracer is not None and call.run.is_async:
        yield FlushSpans(call.tracer)
    if moments.post_step is not None:
        arguments = {**step_arguments(call), "state": state, "result": result, "exception": error}
        yield CallHooks(moments.post_step, arguments)
    if moments.end_stream is not None and is_streamed(call):
        yield CallHooks(moments.end_stream, stream_arguments(call))
