"""The core with no driver: flows are asked for effects, and are sent their answers."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from app.engine import ApplicationBuilder, Blueprint, ExecuteMethod, HaltReason, Retry, State, action, on_error
from app.engine.core import NO_INPUTS, Instance, Limits, Run
from app.engine.effects import (
    END,
    ActionCall,
    AfterStep,
    BeforeStep,
    Commit,
    Deliver,
    Emit,
    NextItem,
    OpenStream,
    RecordFailure,
    Sleep,
)
from app.engine.errors import AsyncActionInSyncRun, InvalidInputs, MissingWrite, UndeclaredWrite
from app.engine.flows import Ending, iterate_flow, run_flow, step_flow, stream_flow
from app.engine.operations import Set
from app.engine.ports import ItemStreamed, Step, StepBegun, StepFailure
from tests.engine.machines import Boom, Notes, acount, count, counting, stream


def run_of(blueprint: Blueprint, *, is_hosted: bool = False, is_async: bool = False) -> Run:
    moments = blueprint.async_moments if is_async else blueprint.sync_moments
    instance = blueprint.instantiate(app_id="app", partition_key="part")._instance
    times = iter(range(1000))
    return Run(blueprint, instance, ExecuteMethod.run, moments, is_async, is_hosted=is_hosted, clock=lambda: float(next(times)))


def answer(flow: Any, value: Any = None) -> Any:
    """Send an answer, and return the next effect; the flow's result when it has ended."""
    try:
        return flow.send(value)
    except StopIteration as end:
        return end.value


def counted(call: ActionCall) -> State[Any]:
    return call.view.update(n=call.view["n"] + 1)


def where(instance: Instance) -> tuple[dict[str, Any], int, str | None]:
    return instance.state.get_all(), instance.seq, None if instance.prior is None else instance.prior.name


def test_a_step_is_one_call_and_nothing_else_where_nobody_listens() -> None:
    run = run_of(counting().blueprint())
    flow = step_flow(run, NO_INPUTS)
    call = answer(flow)
    assert isinstance(call, ActionCall)
    assert (call.record.name, call.view.get_all(), dict(call.inputs), call.seq) == ("count", {"n": 0}, {}, 0)
    assert where(run.instance) == ({"n": 0}, -1, None)
    record, result, verdict = answer(flow, counted(call))
    assert (record.name, result, verdict) == ("count", {}, None)
    assert where(run.instance) == ({"n": 1}, 0, "count")


def test_a_hosted_step_is_begun_called_committed_in_this_order() -> None:
    run = run_of(counting(limit=5).blueprint(), is_hosted=True)
    flow = run_flow(run, NO_INPUTS, Limits(max_steps=1))
    assert answer(flow) == Emit(StepBegun(0, "count"))
    call = answer(flow)
    commit = answer(flow, ({"n": 1}, counted(call)))
    assert commit == Commit(Step(0, "count", (Set("n", 1),), {"n": 1}, State({"n": 1}), "count", HaltReason.MAX_STEPS, 0.0, 1.0))
    assert where(run.instance) == ({"n": 0}, -1, None)
    ending = answer(flow)
    assert ending == Ending(HaltReason.MAX_STEPS, 1, call.record, {"n": 1}, call.record)
    assert where(run.instance) == ({"n": 1}, 0, "count")


def test_a_commit_that_fails_means_that_the_step_did_not_happen() -> None:
    run = run_of(counting().blueprint(), is_hosted=True)
    flow = run_flow(run, NO_INPUTS, Limits(max_steps=1))
    answer(flow)
    commit = answer(flow, counted(answer(flow)))
    assert isinstance(commit, Commit)
    with pytest.raises(Boom):
        flow.throw(Boom("the store is away"))
    assert where(run.instance) == ({"n": 0}, -1, None)


def test_a_failing_action_is_recorded_before_its_error_leaves() -> None:
    run = run_of(counting().blueprint(), is_hosted=True)
    flow = run_flow(run, NO_INPUTS, Limits())
    answer(flow)
    answer(flow)
    error = Boom("no")
    assert flow.throw(error) == RecordFailure(StepFailure(0, "count", error, 0.0, 1.0))
    with pytest.raises(Boom):
        flow.send(None)
    assert where(run.instance) == ({"n": 0}, -1, None)


def told(effect: BeforeStep | AfterStep) -> dict[str, Any]:
    """Return what a hook is told."""

    def hook(**arguments: Any) -> dict[str, Any]:
        return arguments

    return cast("dict[str, Any]", effect.tell(hook))


def test_hooks_are_told_before_and_after() -> None:
    notes = Notes()
    run = run_of(counting().with_hooks(notes).blueprint())
    flow = step_flow(run, NO_INPUTS)
    before = answer(flow)
    assert before.listeners.sync == (notes.pre_run_step,)
    assert isinstance(before, BeforeStep)
    assert told(before) == {
        "action": run.blueprint.actions["count"].action,
        "sequence_id": 0,
        "app_id": "app",
        "partition_key": "part",
        "state": State({"n": 0}),
        "inputs": {},
    }
    after = answer(flow, counted(answer(flow)))
    assert isinstance(after, AfterStep)
    assert told(after) == {
        **{key: value for key, value in told(before).items() if key != "inputs"},
        "state": State({"n": 1}),
        "result": {},
        "exception": None,
    }


def test_hooks_are_told_of_the_error_and_of_the_state_from_before_it() -> None:
    run = run_of(counting().with_hooks(Notes()).blueprint())
    flow = step_flow(run, NO_INPUTS)
    answer(flow)
    answer(flow)
    error = Boom("no")
    after = flow.throw(error)
    assert isinstance(after, AfterStep)
    assert (after.error, after.state, after.result) == (error, State({"n": 0}), None)


def test_a_run_goes_on_until_no_transition_leads_on() -> None:
    run = run_of(counting(limit=2).blueprint())
    flow = run_flow(run, NO_INPUTS, Limits())
    ending = answer(flow, counted(call := answer(flow, counted(answer(flow)))))
    assert ending == Ending(HaltReason.END, 2, call.record, {}, None)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(before=frozenset({"count"}), after=frozenset({"count"})), HaltReason.HALT_BEFORE),
        (Limits(after=frozenset({"count"}), max_steps=1), HaltReason.HALT_AFTER),
        (Limits(max_steps=1), HaltReason.MAX_STEPS),
    ],
)
def test_at_least_one_step_runs_and_then_before_beats_after(limits: Limits, expected: HaltReason) -> None:
    flow = run_flow(run_of(counting().blueprint()), NO_INPUTS, limits)
    ending = answer(flow, counted(answer(flow)))
    assert (ending.halt, ending.steps) == (expected, 1)


def test_inputs_reach_the_first_step_only() -> None:
    @action(reads=["n"], writes=["n"])
    def add(state: State, by: int = 1) -> State:
        return state.increment(n=by)

    flow = run_flow(run_of(counting(add).blueprint()), {"by": 5}, Limits(max_steps=2))
    first = answer(flow)
    second = answer(flow, counted(first))
    assert (dict(first.inputs), dict(second.inputs)) == ({"by": 5}, {})


def test_wrong_inputs_are_refused_before_any_effect() -> None:
    run = run_of(counting().with_hooks(Notes()).blueprint(), is_hosted=True)
    with pytest.raises(InvalidInputs, match=r"action 'count' got the inputs \['nn'\], which it does not declare"):
        next(run_flow(run, {"nn": 1}, Limits()))


def test_an_async_action_is_refused_before_any_effect_of_a_sync_run() -> None:
    with pytest.raises(AsyncActionInSyncRun):
        next(step_flow(run_of(counting(acount).with_hooks(Notes()).blueprint()), NO_INPUTS))


def test_an_undeclared_write_is_refused_and_changes_nothing() -> None:
    run = run_of(counting().blueprint())
    flow = step_flow(run, NO_INPUTS)
    with pytest.raises(UndeclaredWrite, match=r"action 'count' wrote \['m'\] but declares \['n'\]"):
        answer(flow, answer(flow).view.update(n=1, m=2))
    assert where(run.instance) == ({"n": 0}, -1, None)


def test_a_declared_write_that_is_missing_is_refused() -> None:
    @action(reads=[], writes=["m"])
    def nothing(state: State) -> State:
        return state

    flow = step_flow(run_of(counting(nothing).blueprint()), NO_INPUTS)
    with pytest.raises(MissingWrite, match=r"did not write \['m'\]"):
        answer(flow, answer(flow).view)


def test_a_sync_stream_is_opened_and_read_item_by_item() -> None:
    run = run_of(counting(stream).blueprint())
    run.streams = True
    flow = stream_flow(run, NO_INPUTS, Limits(after=frozenset({"count"})))
    assert answer(flow).value.action.name == "count"
    opening = answer(flow)
    assert isinstance(opening, OpenStream)
    assert isinstance(answer(flow), NextItem)
    assert answer(flow, {"letter": "a"}) == Deliver({"letter": "a"})
    assert isinstance(answer(flow), NextItem)
    final = ({"letters": "a"}, opening.call.view.update(n=9))
    assert isinstance(answer(flow, final), NextItem)
    assert answer(flow, END) == ({"letters": "a"}, State({"n": 9}))


def test_items_of_a_hosted_stream_are_emitted_with_their_index() -> None:
    run = run_of(counting(stream).blueprint(), is_hosted=True)
    flow = run_flow(run, NO_INPUTS, Limits(max_steps=1))
    assert answer(flow) == Emit(StepBegun(0, "count"))
    assert isinstance(answer(flow), OpenStream)
    assert isinstance(answer(flow), NextItem)
    assert answer(flow, {"letter": "a"}) == Emit(ItemStreamed(0, "count", 0, {"letter": "a"}))
    assert isinstance(answer(flow), NextItem)
    assert answer(flow, {"letter": "b"}) == Emit(ItemStreamed(0, "count", 1, {"letter": "b"}))


def test_iterate_delivers_each_step_and_sees_what_the_caller_changed_meanwhile() -> None:
    run = run_of(counting(limit=10).blueprint())
    flow = iterate_flow(run, NO_INPUTS, Limits())
    delivered = answer(flow, counted(answer(flow)))
    assert isinstance(delivered, Deliver)
    assert (delivered.value[0].name, delivered.value[2]) == ("count", State({"n": 1}))
    run.instance.state = State({"n": 10})
    assert answer(flow).halt is HaltReason.END


def test_a_retry_waits_and_calls_again() -> None:
    @action(reads=["n"], writes=["n"], retry=Retry(on=Boom, attempts=2, wait_initial_s=0.25, wait_jitter_s=0))
    def fragile(state: State) -> State:
        return state.increment(n=1)

    flow = step_flow(run_of(counting(fragile).blueprint()), NO_INPUTS)
    call = answer(flow)
    assert flow.throw(Boom()) == Sleep(0.25)
    assert answer(flow) is call
    with pytest.raises(Boom):
        flow.throw(Boom())


def test_an_error_that_a_transition_handles_leads_on_within_the_same_step() -> None:
    @action(reads=[], writes=["n"])
    def rescue(state: State) -> State:
        return state.update(n=-1)

    builder = ApplicationBuilder().with_actions(count=count, rescue=rescue).with_state(n=0).with_entrypoint("count")
    blueprint = builder.with_transitions(("count", "rescue", on_error(Boom)), ("count", "count")).blueprint()
    run = run_of(blueprint, is_hosted=True)
    flow = run_flow(run, NO_INPUTS, Limits(max_steps=1))
    answer(flow)
    answer(flow)
    assert isinstance(flow.throw(Boom("no")), RecordFailure)
    assert answer(flow) == Emit(StepBegun(0, "rescue"))
    call = answer(flow)
    commit = answer(flow, call.view.update(n=-1))
    assert (commit.step.seq, commit.step.action) == (0, "rescue")


def test_dropping_a_flow_between_effects_changes_nothing() -> None:
    run = run_of(counting().with_hooks(Notes()).blueprint(), is_hosted=True)
    flow = run_flow(run, NO_INPUTS, Limits())
    while not isinstance(answer(flow), ActionCall):
        pass
    flow.close()
    assert where(run.instance) == ({"n": 0}, -1, None)


def test_the_core_imports_nothing_that_does_anything() -> None:
    """Reading the source of the deciding modules: no I/O, no logging, no asyncio."""
    import ast
    import pathlib

    import app.engine.core

    folder = pathlib.Path(app.engine.core.__file__).parent
    forbidden = {"asyncio", "logging", "threading", "socket", "os", "io", "subprocess", "concurrent"}

    def imported(module: str) -> Iterator[str]:
        for node in ast.walk(ast.parse((folder / f"{module}.py").read_text("utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            yield from (name.partition(".")[0] for name in names)

    deciding = ("core", "core_streams", "flows", "perform", "compiled", "conditions", "graph", "state", "view", "operations")
    assert {module: set(imported(module)) & forbidden for module in deciding} == {module: set() for module in deciding}
