"""Actions over pydantic models and typed state: the same user code on both engines."""

import asyncio
from typing import Any, Optional

import pydantic
import pytest
from engines import BURR, OURS, play
from hypothesis import given
from hypothesis import strategies as st


class Turn(pydantic.BaseModel):
    role: str
    content: str


class Chat(pydantic.BaseModel):
    question: Optional[str] = None  # noqa: UP045  # what a user of Burr's documentation writes
    answer: Optional[str] = None  # noqa: UP045
    turns: list[Turn] = pydantic.Field(default_factory=list)
    count: int = 0


class Item(pydantic.BaseModel):
    text: str


def visible(state: Any) -> dict[str, Any]:
    return {key: value for key, value in state.get_all().items() if not key.startswith("__")}


def sync_machine(e: Any) -> Any:
    @e.action.pydantic(reads=[], writes=["question", "count"])
    def ask(state: Chat, text: str) -> Chat:
        state.question = text
        state.count = state.count + 1
        return state

    @e.action.pydantic(reads=["question", "turns"], writes=["answer", "turns"])
    def reply(state: Chat, prefix: str = "re: ") -> Chat:
        state.answer = prefix + (state.question or "")
        state.turns.append(Turn(role="user", content=state.question or ""))
        state.turns.append(Turn(role="assistant", content=state.answer))
        return state

    return (
        e.ApplicationBuilder().with_actions(ask, reply.bind(prefix="well, ")).with_transitions(("ask", "reply"), ("reply", "ask"))
    )


def async_machine(e: Any) -> Any:
    @e.action.pydantic(reads=[], writes=["question", "count"])
    async def ask(state: Chat, text: str) -> Chat:
        await asyncio.sleep(0)
        return Chat(question=text, count=state.count + 1)

    @e.pydantic_action(reads=["question"], writes=["answer"], state_input_type=Chat, state_output_type=Chat)
    async def reply(state):  # type: ignore[no-untyped-def]  # the types are given to the decorator
        state.answer = f"re: {state.question}"
        return state

    return e.ApplicationBuilder().with_actions(ask, reply).with_transitions(("ask", "reply"), ("reply", "ask"))


def typed(e: Any, builder: Any) -> Any:
    return builder.with_entrypoint("ask").with_typing(e.PydanticTypingSystem(Chat)).with_state(Chat())


texts = st.lists(st.text(), min_size=1, max_size=4)


@given(texts)
def test_models_go_in_and_out_of_the_state_as_in_burr(given_texts: list[str]) -> None:
    def scenario(e: Any) -> Any:
        app = typed(e, sync_machine(e)).build()
        seen = []
        for text in given_texts:
            for _ in range(2):
                action, result, state = app.step(inputs={"text": text} if app.get_next_action().name == "ask" else {})
                seen.append((action.name, result, visible(state), type(state.data).__name__))
        return seen, app.state.data

    ours, theirs = play(scenario)
    assert ours == theirs


@given(texts)
def test_async_actions_over_models_do_the_same(given_texts: list[str]) -> None:
    def scenario(e: Any) -> Any:
        async def drive() -> Any:
            app = await typed(e, async_machine(e)).abuild()
            for text in given_texts:
                _, _, state = await app.arun(halt_after=["reply"], inputs={"text": text})
            return visible(state), app.sequence_id, state.data

        return asyncio.run(drive())

    ours, theirs = play(scenario)
    assert ours == theirs


def streaming_machine(e: Any, is_async: bool) -> Any:
    arguments = {
        "reads": ["question"],
        "writes": ["answer"],
        "state_input_type": Chat,
        "state_output_type": Chat,
        "stream_type": Item,
    }

    @e.streaming_action.pydantic(**arguments)
    def reply(state):  # type: ignore[no-untyped-def]  # the types are given to the decorator
        words = (state.question or "").split()
        for word in words:
            yield Item(text=word), None
        state.answer = " ".join(words)
        yield Item(text="done"), state

    @e.streaming_action.pydantic(**arguments)
    async def areply(state):  # type: ignore[no-untyped-def]  # the types are given to the decorator
        words = (state.question or "").split()
        for word in words:
            yield Item(text=word), None
        state.answer = " ".join(words)
        yield Item(text="done"), state

    builder = e.ApplicationBuilder().with_actions(reply=areply if is_async else reply).with_entrypoint("reply")
    return builder.with_typing(e.PydanticTypingSystem(Chat)).with_state(Chat(question="a b c"))


def test_a_stream_of_models_is_the_same_as_in_burr() -> None:
    def scenario(e: Any) -> Any:
        _, stream = streaming_machine(e, False).build().stream_result(halt_after=["reply"])
        items = list(stream)
        result, state = stream.get()
        return items, result, visible(state)

    ours, theirs = play(scenario)
    assert ours == theirs
    assert ours[0] == [Item(text="a"), Item(text="b"), Item(text="c")]


def test_an_async_stream_of_models_is_the_same_as_in_burr() -> None:
    def scenario(e: Any) -> Any:
        async def drive() -> Any:
            app = await streaming_machine(e, True).abuild()
            _, stream = await app.astream_result(halt_after=["reply"])
            items = [item async for item in stream]
            result, state = await stream.get()
            return items, result, visible(state)

        return asyncio.run(drive())

    ours, theirs = play(scenario)
    assert ours == theirs


names = st.lists(st.sampled_from(["question", "answer", "turns", "count"]), unique=True)


@given(names, names)
def test_a_part_of_a_model_has_the_same_fields_as_in_burr(fields: list[str], optional: list[str]) -> None:
    def describe(e: Any) -> Any:
        part = e.subset_model(Chat, fields, optional, "_part")
        return part.__name__, part.model_json_schema()

    assert describe(OURS) == describe(BURR)


class Strict(pydantic.BaseModel):
    needed: int
    other: str = "x"


def test_a_required_field_becomes_optional_when_it_may_be_missing() -> None:
    def describe(e: Any) -> Any:
        part = e.subset_model(Strict, [], ["needed"], "_part")
        return part.model_validate({}).model_dump(), {name: info.is_required() for name, info in part.model_fields.items()}

    assert describe(OURS) == describe(BURR) == ({"needed": None}, {"needed": False})
    assert Strict.model_fields["needed"].is_required()


def test_models_and_states_are_turned_into_each_other_as_in_burr() -> None:
    def scenario(e: Any) -> Any:
        state = e.State({"question": "q", "count": 3, "beside": 1})
        model = e.model_from_state(Chat, state)
        merged = e.merge_to_state(Chat(answer="a", count=9), ["answer"], state)
        return model, visible(merged), e.model_to_dict(model), e.model_to_dict(model, include=["count", "nothing"])

    ours, theirs = play(scenario)
    assert ours == theirs


def _decorated(e: Any, function: Any, **arguments: Any) -> Any:
    return e.pydantic_action(**{"reads": [], "writes": [], **arguments})(function)


def no_annotation(state): ...  # type: ignore[no-untyped-def]  # the mistake that is tested


def wrong_return(state: Chat) -> dict[str, Any]: ...  # type: ignore[empty-body]  # never called


def no_state(model: Chat) -> Chat: ...  # type: ignore[empty-body]  # never called


def right(state: Chat) -> Chat: ...  # type: ignore[empty-body]  # never called


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (no_annotation, {}, "what it takes is annotated as None"),
        (wrong_return, {}, "what it returns is annotated as dict"),
        (no_state, {}, "it has no parameter `state`"),
        (right, {"reads": ["anwser"]}, r"its model 'Chat' has no fields \['anwser'\]"),
        (right, {"writes": ["nothing"]}, r"its model 'Chat' has no fields \['nothing'\]"),
        (right, {"state_input_type": Chat}, "given both or not at all"),
    ],
)
def test_a_function_that_does_not_fit_is_refused_as_in_burr(function: Any, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _decorated(OURS, function, **arguments)
    with pytest.raises((ValueError, TypeError)):
        _decorated(BURR, function, **arguments)
