"""The rules of a run, with no I/O: generators that decide what happens next and yield it as an effect.

A driver performs each effect and sends the answer, or throws the error, back in. The generator's return value is the result.
Nothing here awaits, blocks, logs or calls an action; nothing yields in `finally`, and nothing catches BaseException: a run
that is cancelled or dropped simply stops between two effects, and has committed what it has committed.

This file knows one step; `flows` makes runs of steps, and `core_streams` reads streams.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from app.engine.compiled import CONTEXT, TRACER, CompiledAction
from app.engine.context import ApplicationContext, tracer_of
from app.engine.core_streams import is_streamed, stream_arguments, stream_call
from app.engine.effects import ActionCall, AfterStep, BeforeStep, CallHooks, Commit, Emit, Flow, FlushSpans, RecordFailure, Sleep
from app.engine.errors import AsyncActionInSyncRun, RunAbandoned
from app.engine.frozen import frozen
from app.engine.hooks import ExecuteMethod
from app.engine.perform import Completed, complete
from app.engine.ports import HaltReason, RunPorts, Step, StepBegun, StepFailure
from app.engine.serde_codec import UnserializableValue
from app.engine.state import State, make_state
from app.engine.view import operations_of, settle, show
from app.engine.working_copies import lend

if TYPE_CHECKING:
    from app.engine.blueprint import Blueprint
    from app.engine.moments import Moments

__all__ = ["NO_INPUTS", "NO_LIMITS", "Instance", "Limits", "Run", "Taken", "Verdict", "decide", "prepare", "take_step"]

NO_INPUTS: Final[Mapping[str, Any]] = {}


@dataclass(slots=True, eq=False, repr=False)
class Instance:
    """What a run moves: the state of one application and its position in the graph."""

    app_id: str
    partition_key: str | None
    state: State[Any]
    seq: int
    prior: CompiledAction | None


@dataclass(slots=True, eq=False, repr=False)
class Run:
    """One call of a run method: on what, and who listens.

    `is_hosted` says whether a host takes events and steps; without one these effects are left out. `streams` says whether items
    go to the caller. An async run has `ports`, for what is called from within actions: hooks of spans, and runs inside of this
    one. They belong to the event loop of the thread `thread_id`.
    """

    blueprint: "Blueprint"
    instance: Instance
    method: ExecuteMethod
    moments: "Moments"
    is_async: bool
    is_hosted: bool = False
    streams: bool = False
    run_id: str | None = None
    ports: RunPorts | None = None
    thread_id: int | None = None
    clock: Callable[[], float] = time.time


@frozen
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
    if record.rescues:
        return _take_step_with_rescues(run, record, inputs, limits, number)
    return _attempt(run, record, inputs, limits, number, None)  # type: ignore[return-value]  # without rescues none is returned


def _take_step_with_rescues(
    run: Run, record: CompiledAction, inputs: Mapping[str, Any], limits: Limits, number: int
) -> Flow[Taken]:
    rescues_taken: dict[tuple[str, int], int] = {}
    while True:
        taken = yield from _attempt(run, record, inputs, limits, number, rescues_taken)
        if not isinstance(taken, CompiledAction):
            return taken
        record, inputs = taken, NO_INPUTS


_new = object.__new__


def prepare(run: Run, record: CompiledAction, inputs: Mapping[str, Any]) -> ActionCall:
    """Return the call of `record` as it is now.

    Raises InvalidInputs, and AsyncActionInSyncRun: nothing of the step has begun then.
    """
    if record.is_async and not run.is_async:
        raise AsyncActionInSyncRun(record.name)
    instance = run.instance
    call = _new(ActionCall)
    call.record = record
    call.view = show(instance.state, record.declared, record.reads)
    call.inputs = inputs
    call.run = run
    call.seq = instance.seq + 1
    call.tracer = None
    if record.is_plain and not inputs and not run.blueprint.has_span_hooks:
        return call  # nothing to check, nothing to inject
    record.check_inputs(inputs)
    if run.is_hosted and inputs:
        record.check_input_types(inputs)
    if record.wants_tracer or run.blueprint.has_span_hooks:
        call.tracer = tracer_of(call)
    if record.wants_context or record.wants_tracer:
        inputs = dict(inputs)
        if record.wants_context:
            inputs[CONTEXT] = ApplicationContext.of(call)
        if record.wants_tracer:
            inputs[TRACER] = call.tracer
        call.inputs = {record.renamed.get(name, name): value for name, value in inputs.items()}
    return call


def decide(done: CompiledAction, following: CompiledAction | None, limits: Limits, steps: int) -> Verdict:
    """Return `following`, and why the run stops between `done` and it, if it does. `before` beats `after`."""
    if following is not None and following.name in limits.before:
        return following, HaltReason.HALT_BEFORE
    if done.name in limits.after:
        return following, HaltReason.HALT_AFTER
    if following is None:
        return None, HaltReason.END
    return following, HaltReason.MAX_STEPS if steps == limits.max_steps else None


def _attempt(
    run: Run,
    record: CompiledAction,
    inputs: Mapping[str, Any],
    limits: Limits,
    number: int,
    rescues_taken: dict[tuple[str, int], int] | None,
) -> Flow[Taken | CompiledAction]:
    """Call the action once (more often if it has a retry policy), and commit what it gives.

    Returns the action to go on with if this one failed and a transition handles that.
    """
    call = prepare(run, record, inputs)
    instance, moments = run.instance, run.moments
    if moments.pre_step is not None:
        yield BeforeStep(moments.pre_step, call)
    started_at_s = 0.0
    if run.is_hosted:
        yield Emit(StepBegun(call.seq, record.name))
        started_at_s = run.clock()
    verdict: Verdict | None = None
    is_committing = False
    try:
        if record.is_streaming and (is_streamed(call) or record.is_async or not run.is_async):
            completed = yield from stream_call(call)
        elif record.retry is None:
            completed = complete(record, call.view, (yield call))
        else:
            completed = complete(record, call.view, (yield from _retried(call)))
        result, log = completed
        old = instance.state
        state = make_state(settle(record.declared, old._values, log), old._typing_system, (record.name, call.seq))
        if run.is_hosted:
            verdict = decide(record, record.follower(state), limits, number)
            is_committing = True
            yield Commit(_step(call, completed, state, verdict, started_at_s, run.clock()))
    except Exception as error:
        # what cannot be stored is found before anything is: then the step has failed like one whose action raised
        is_committing = is_committing and not isinstance(error, UnserializableValue)
        if run.is_hosted and not is_committing:
            yield RecordFailure(StepFailure(call.seq, record.name, error, started_at_s, run.clock()))
        yield from _end_failed(call, error)
        target = None if rescues_taken is None or is_committing else _rescue(record, error, instance.state, rescues_taken)
        if target is None:
            raise
        return target
    instance.state, instance.seq, instance.prior = state, call.seq, record
    if call.tracer is not None and run.is_async:
        yield FlushSpans(call.tracer)
    if moments.post_step is not None:
        after_step = _new(AfterStep)
        after_step.listeners = moments.post_step
        after_step.call = call
        after_step.state = state
        after_step.result = result
        after_step.error = None
        yield after_step
    if record.is_streaming and moments.end_stream is not None and is_streamed(call):
        yield CallHooks(moments.end_stream, stream_arguments(call))
    return record, lend(result) if result else result, verdict


def _retried(call: ActionCall) -> Flow[Any]:
    """Call the action again while its policy says so; the error of the last call leaves."""
    record, attempt = call.record, 1
    policy = record.retry
    while True:
        try:
            return (yield call)
        except Exception as error:
            delay_s = policy.delay_s(error, attempt) if policy is not None else None
            if delay_s is None:
                raise
        yield Sleep(delay_s)
        call.view = record.view(call.run.instance.state)  # what the failed attempt has changed is gone
        attempt += 1


def _step(
    call: ActionCall, completed: Completed, state: State[Any], verdict: Verdict, started_at_s: float, finished_at_s: float
) -> Step:
    following, halt = verdict
    result, log = completed
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
    if isinstance(error, RunAbandoned):
        return None
    for index, (condition, target) in enumerate(record.rescues):
        edge = (record.name, index)
        if condition.handles(error, taken.get(edge, 0), state):
            taken[edge] = taken.get(edge, 0) + 1
            return target
    return None


def _end_failed(call: ActionCall, error: Exception) -> Flow[None]:
    """Tell the hooks that the step has failed."""
    run, moments = call.run, call.run.moments
    if call.tracer is not None and run.is_async:
        yield FlushSpans(call.tracer)
    if moments.post_step is not None:
        yield AfterStep(moments.post_step, call, run.instance.state, None, error)
    if moments.end_stream is not None and is_streamed(call):
        yield CallHooks(moments.end_stream, stream_arguments(call))
