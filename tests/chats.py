"""One chat, written in each of the ways in which people write one."""

import dataclasses
import random
from collections.abc import Callable
from string import ascii_letters
from typing import Any

import pydantic

from app.engine import ApplicationBuilder, State, action
from app.engine.machine import Machine
from app.engine.pydantic import PydanticTypingSystem, pydantic_action

__all__ = ["WAYS", "chat", "said"]


class Message(pydantic.BaseModel):
    role: str
    content: str


class Chat(pydantic.BaseModel):
    messages: list[Message] = []
    reply: str = ""


class Told(pydantic.BaseModel):
    messages: list[dict[str, str]] = []
    reply: str = ""


@dataclasses.dataclass
class Memory:
    messages: list[Message]


def said(turn: int, length: int) -> str:
    """Text that compression makes little of."""
    return "".join(random.Random(f"{turn} {length}").choices(ascii_letters + "      ", k=length))


def _messages(prompt: str, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]


def _models(prompt: str, reply: str) -> list[Message]:
    return [Message(**message) for message in _messages(prompt, reply)]


def append(state: State, prompt: str, reply: str) -> State:
    asked, answered = _messages(prompt, reply)
    return state.append(messages=asked).append(messages=answered).update(reply=reply)


def extend(state: State, prompt: str, reply: str) -> State:
    return state.extend(messages=_messages(prompt, reply)).update(reply=reply)


def rewrite(state: State, prompt: str, reply: str) -> State:
    return state.update(messages=[*state["messages"], *_messages(prompt, reply)], reply=reply)


def concatenate(state: State, prompt: str, reply: str) -> State:
    return state.update(messages=state["messages"] + _messages(prompt, reply), reply=reply)


def repeated(state: State, prompt: str, reply: str) -> tuple[dict[str, Any], State]:
    result = {"messages": [*state["messages"], *_messages(prompt, reply)], "reply": reply}
    return result, state.update(**result)


def renamed(state: State, prompt: str, reply: str) -> tuple[dict[str, Any], State]:
    messages = [*state["messages"], *_messages(prompt, reply)]
    return {"said": messages}, state.update(messages=messages, reply=reply)


def in_place(state: State, prompt: str, reply: str) -> State:
    messages = state["messages"]
    messages.extend(_messages(prompt, reply))
    return state.update(messages=messages, reply=reply)


def copied(state: State, prompt: str, reply: str) -> State:
    return state.update(messages=[*map(dict, state["messages"]), *_messages(prompt, reply)], reply=reply)


def nested(state: State, prompt: str, reply: str) -> State:
    talk = state["messages"] or {"all": {"said": []}}
    said = [*talk["all"]["said"], *_messages(prompt, reply)]
    return state.update(messages={**talk, "all": {**talk["all"], "said": said}}, reply=reply)


def keyed(state: State, prompt: str, reply: str) -> State:
    talk = state["messages"] or {}
    return state.update(messages={**talk, f"turn {len(talk)}": _messages(prompt, reply)}, reply=reply)


def numbered(state: State, prompt: str, reply: str) -> State:
    talk = state["messages"] or {}
    return state.update(messages={**talk, len(talk): _messages(prompt, reply)}, reply=reply)


def in_tuple(state: State, prompt: str, reply: str) -> State:
    return state.update(messages=(*state["messages"], *_messages(prompt, reply)), reply=reply)


def in_text(state: State, prompt: str, reply: str) -> State:
    return state.update(messages=f"{state['messages'] or ''}user: {prompt}\nassistant: {reply}\n", reply=reply)


def models(state: State, prompt: str, reply: str) -> State:
    return state.update(messages=[*state["messages"], *_models(prompt, reply)], reply=reply)


def in_dataclass(state: State, prompt: str, reply: str) -> State:
    before = state["messages"].messages if state["messages"] else []
    return state.update(messages=Memory([*before, *_models(prompt, reply)]), reply=reply)


def in_model(state: State, prompt: str, reply: str) -> State:
    before = state["messages"].messages if state["messages"] else []
    return state.update(messages=Chat(messages=[*before, *_models(prompt, reply)]), reply=reply)


def dumped(state: State, prompt: str, reply: str) -> State:
    told = Told.model_validate({"messages": state["messages"]})
    told.messages += _messages(prompt, reply)
    told.reply = reply
    return state.update(**told.model_dump())


def typed(state: Chat, prompt: str, reply: str) -> Chat:
    state.messages += _models(prompt, reply)
    state.reply = reply
    return state


WAYS: dict[str, Callable[..., Any]] = {
    way.__name__: way
    for way in (
        append,
        extend,
        rewrite,
        concatenate,
        repeated,
        renamed,
        in_place,
        copied,
        nested,
        keyed,
        numbered,
        in_tuple,
        in_text,
        models,
        in_dataclass,
        in_model,
        dumped,
        typed,
    )
}


def chat(way: str) -> Machine:
    """A machine whose only action, `answer`, takes a turn: it gets a prompt and the reply as inputs."""

    def build() -> ApplicationBuilder[Any]:
        builder: ApplicationBuilder[Any] = ApplicationBuilder()
        take = WAYS[way]
        if way == "typed":
            answer: Any = pydantic_action(reads=["messages"], writes=["messages", "reply"])(_async_typed)
            builder = builder.with_typing(PydanticTypingSystem(Chat))
        else:

            async def answering(state: State, prompt: str, reply: str) -> Any:
                return take(state, prompt, reply)

            answer = action(reads=["messages"], writes=["messages", "reply"])(answering)
        builder = builder.with_actions(answer=answer).with_transitions(("answer", "answer"))
        return builder.with_state(messages=[], reply="").with_entrypoint("answer")

    return Machine(way, build)


async def _async_typed(state: Chat, prompt: str, reply: str) -> Chat:
    return typed(state, prompt, reply)
