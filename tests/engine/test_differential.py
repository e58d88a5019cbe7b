"""Generated machines, played on this engine and on Burr: whatever is not a listed fault of Burr's is the same.

Faults that these tests know, and that `test_burr_faults.py` shows one by one: a failed step takes a number in Burr; hooks
around `iterate` and `stream_iterate` both fire at its beginning, and never hear of an error; a sync action in an async run gives
hooks the state from before it, and cannot stream; hooks before a step get raw inputs in async runs and in streams;
`post_end_stream` is called in async streams for an action that failed and never streamed.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.engine.engines import BURR, OURS, _quiet
from tests.engine.generated import Call, MachineSpec, Transcript, calls, machines, play_async, play_sync, play_wrongly

SETTINGS = settings(
    max_examples=550, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], derandomize=True
)
PLAIN = ("step", "run", "iterate")
STREAMS = ("stream_result", "stream_iterate", "step")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as found:
        yield found


def scripted(colours: tuple[bool, ...], methods: tuple[Any, ...]) -> st.SearchStrategy[tuple[MachineSpec, list[Call]]]:
    return machines(colours).flatmap(lambda spec: st.tuples(st.just(spec), calls(spec, methods)))


def assert_agree(ours: Transcript, theirs: Transcript, spec: MachineSpec, *, with_inputs: bool) -> None:
    event(f"calls: {len(ours.outcomes)}, failed: {ours.error is not None}")
    assert ours.error == theirs.error
    assert ours.outcomes == theirs.outcomes
    assert ours.saved == theirs.saved
    if with_inputs:
        assert ours.hooks == theirs.hooks
    else:  # Burr's hooks get what the caller gave, not what the action gets
        streaming = {action.name for action in spec.actions if "streaming" in action.kind}
        heard = [hook for hook in theirs.hooks if hook[0] != "post_end_stream" or hook[2] in streaming]
        assert [_without_inputs(hook) for hook in ours.hooks] == [_without_inputs(hook) for hook in heard]
    for hook in ours.hooks:
        if hook[0] == "pre_run_step":
            declared = next({*each.required, *each.optional} for each in spec.actions if each.name == hook[2])
            assert hook[4].keys() <= declared


def assert_execute_hooks(transcript: Transcript) -> None:
    """Each call is announced once and closed once, with the error that it ended in."""
    found = transcript.execute_hooks
    assert [name for name, *_ in found] == ["pre_run_execute_call", "post_run_execute_call"] * (len(found) // 2)
    assert [method for _, method, *_ in found[::2]] == [method for _, method, *_ in found[1::2]]
    errors = [error for name, _, _, error in found if name == "post_run_execute_call"]
    assert errors == [None] * len(transcript.outcomes) + (["Boom"] if transcript.error else [])


@given(scripted((False,), PLAIN))
@SETTINGS
def test_sync_runs_agree(scenario: tuple[MachineSpec, list[Call]]) -> None:
    with _quiet():
        ours, theirs = play_sync(OURS, *scenario), play_sync(BURR, *scenario)
    assert_agree(ours, theirs, scenario[0], with_inputs=True)
    assert_execute_hooks(ours)


@given(scripted((False,), STREAMS))
@SETTINGS
def test_sync_streams_agree(scenario: tuple[MachineSpec, list[Call]]) -> None:
    with _quiet():
        ours, theirs = play_sync(OURS, *scenario), play_sync(BURR, *scenario)
    assert_agree(ours, theirs, scenario[0], with_inputs=False)
    assert_execute_hooks(ours)


@given(scripted((True,), PLAIN + STREAMS))
@SETTINGS
def test_async_runs_and_streams_agree(runner: asyncio.Runner, scenario: tuple[MachineSpec, list[Call]]) -> None:
    with _quiet():
        ours, theirs = runner.run(play_async(OURS, *scenario)), runner.run(play_async(BURR, *scenario))
    assert_agree(ours, theirs, scenario[0], with_inputs=False)
    assert_execute_hooks(ours)


@given(scripted((True, False), PLAIN))
@SETTINGS
def test_async_runs_of_mixed_actions_agree_but_for_the_stale_state_of_hooks(
    runner: asyncio.Runner, scenario: tuple[MachineSpec, list[Call]]
) -> None:
    with _quiet():
        ours, theirs = runner.run(play_async(OURS, *scenario)), runner.run(play_async(BURR, *scenario))
    assert ours.error == theirs.error
    assert ours.outcomes == theirs.outcomes
    sync = {action.name for action in scenario[0].actions if not action.is_async}
    assert [_without_stale_state(row, sync) for row in ours.saved] == [_without_stale_state(row, sync) for row in theirs.saved]
    assert [_without_state_after(hook, sync) for hook in ours.hooks] == [
        _without_state_after(hook, sync) for hook in theirs.hooks
    ]
    _assert_hooks_see_the_state_after(ours)
    assert_execute_hooks(ours)


@given(scripted((True, False), PLAIN + STREAMS))
@SETTINGS
def test_sync_actions_do_the_same_in_an_async_run_as_in_a_sync_one(
    runner: asyncio.Runner, scenario: tuple[MachineSpec, list[Call]]
) -> None:
    spec, script = scenario
    all_sync = MachineSpec(tuple(_in_sync(action) for action in spec.actions), spec.edges, spec.entrypoint)
    with _quiet():
        mixed, sync = runner.run(play_async(OURS, spec, script)), play_sync(OURS, all_sync, script)
    assert mixed.error == sync.error
    assert mixed.hooks == sync.hooks
    assert mixed.saved == sync.saved
    assert [_unending(each) for each in mixed.outcomes] == [_unending(each) for each in sync.outcomes]


@given(
    machines(),
    st.sampled_from(["step", "run", "iterate", "stream_result", "stream_iterate"]),
    st.sampled_from([{"halt_after": ["nobody"]}, {"halt_before": ["@tag:nothing"]}, {"inputs": {"__context": 1}}, {}]),
)
@settings(SETTINGS, max_examples=200)
def test_wrong_calls_fail_with_errors_of_the_same_kind_and_change_nothing(
    spec: MachineSpec, method: Any, wrong: dict[str, Any]
) -> None:
    entry = next(action for action in spec.actions if action.name == spec.entrypoint)
    is_missing = not wrong and entry.required
    if (wrong.keys() - {"inputs"} and method == "step") or not (wrong or is_missing):
        return
    names = [action.name for action in spec.actions]
    halts = {"halt_after": names, **wrong} if method != "step" else wrong
    with _quiet():
        ours, theirs = play_wrongly(OURS, spec, method, halts), play_wrongly(BURR, spec, method, halts)
    assert ours == theirs == ("ValueError", {"a": 0, "b": 1, "c": 2, "log": [], "trail": [0]})


def _in_sync(action: Any) -> Any:
    return type(action)(**{**vars(action), "is_async": False})


def _unending(outcome: Any) -> Any:
    """An outcome without the value of a sync `iterate`, which the async one has not."""
    entry, *rest = outcome
    return [entry[0] if len(entry) == 2 and isinstance(entry[0], list) and isinstance(entry[1][0], str | None) else entry, *rest]


def _without_inputs(hook: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*hook[:4], *hook[5:])


def _without_state_after(hook: tuple[Any, ...], sync: set[str]) -> tuple[Any, ...]:
    name, seq, action, state, _, result, *rest = hook
    is_stale = name == "post_run_step" and action in sync
    return (name, seq, action, None if is_stale else state, None if is_stale else result, *rest)


def _without_stale_state(row: tuple[Any, ...], sync: set[str]) -> tuple[Any, ...]:
    return (*row[:4], None if row[3] in sync else row[4], row[5])


def _assert_hooks_see_the_state_after(transcript: Transcript) -> None:
    """The state that one step's hook was given last is the one that the next step's hook is given first."""
    steps = [hook for hook in transcript.hooks if hook[0] in ("pre_run_step", "post_run_step")]
    for after, before in zip(steps[1::2], steps[2::2], strict=False):
        assert (after[0], before[0]) == ("post_run_step", "pre_run_step")
        assert after[3] == before[3]
