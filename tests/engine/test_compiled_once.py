"""Nothing looks at a signature, a kind of function or a tag after build: what a step needs was worked out before it."""

import ast
import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from app.engine import (
    Action,
    ApplicationBuilder,
    ApplicationContext,
    BlockingActionWarning,
    Graph,
    Input,
    Retry,
    State,
    TracerFactory,
    action,
    default,
    expr,
    on_error,
    when,
)
from tests.engine.machines import AsyncNotes, Boom, Notes, acount, astream, count, stream

FORBIDDEN = {
    inspect: (
        "signature",
        "getfullargspec",
        "getmembers",
        "getmro",
        "getsource",
        "getsourcelines",
        "isasyncgenfunction",
        "iscoroutinefunction",
        "isgeneratorfunction",
    ),
    inspect.Signature: ("bind", "bind_partial", "from_callable"),
    typing: ("get_type_hints",),
    ast: ("parse",),
    Graph: ("get_actions_by_tag", "get_action"),
    Action: ("optional_and_required_inputs",),
}


class Reflected(Exception):
    """Something was looked at that should have been known."""


@pytest.fixture
def without_reflection(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def forbid() -> None:
        def refuse(*_: Any, **__: Any) -> Any:
            raise Reflected

        for owner, names in FORBIDDEN.items():
            for name in names:
                monkeypatch.setattr(owner, name, refuse)

    yield forbid
    monkeypatch.undo()


@action(reads=["n"], writes=["n"], tags=["end"], timeout_s=60, retry=Retry(attempts=2))
def told(state: State, by: int, __context: ApplicationContext, __tracer: TracerFactory, more: int = 0) -> State:
    with __tracer("span"):
        return state.update(n=state["n"] + by + more)


@action(reads=[], writes=["n"])
def failing(state: State) -> State:
    raise Boom("no")


def machine(counting: Any, streaming: Any) -> ApplicationBuilder:
    return (
        ApplicationBuilder()
        .with_actions(told, failing, count=counting, stream=streaming, take=Input("x"))
        .with_transitions(
            ("told", "count"),
            ("count", "stream", expr("n > 1")),
            ("stream", "failing", when(n__gte=0)),
            ("failing", "count", default),
            ("failing", "take", on_error(Boom)),
            ("take", "told"),
        )
        .with_state(n=0)
        .with_entrypoint("told")
        .with_validation("off")
    )


def test_a_sync_step_works_nothing_out_again(without_reflection: Any) -> None:
    application = machine(count, stream).with_hooks(Notes()).build()
    without_reflection()
    application.step(inputs={"by": 1})
    assert application.run(halt_after=["count"])[1] == {"n": 2}
    _, items = application.stream_result(halt_after=["stream"])
    assert [item["letter"] for item in items] == ["a", "b"]
    application.reset_to_entrypoint()
    assert [each.name for each, _, _ in application.iterate(halt_after=["@tag:end"], inputs={"by": 1})] == ["told"]
    with pytest.raises(ValueError, match="misses the inputs"):
        application.run(halt_before=["take"])


async def test_an_async_step_works_nothing_out_again(without_reflection: Any) -> None:
    application = await machine(acount, astream).with_hooks(AsyncNotes()).abuild()
    without_reflection()
    with pytest.warns(BlockingActionWarning, match="told"):
        await application.astep(inputs={"by": 1})
    assert (await application.arun(halt_after=["count"]))[1] == {"n": 2}
    _, items = await application.astream_result(halt_after=["stream"])
    assert [item["letter"] async for item in items] == ["a", "b"]
    application.reset_to_entrypoint()
    steps = [each.name async for each, _, _ in application.aiterate(halt_after=["@tag:end"], inputs={"by": 1})]
    assert steps == ["told"]
