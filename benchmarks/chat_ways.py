"""The same turn of a chat, written in the ways in which people write one."""

from collections.abc import Callable
from typing import Any

import pydantic

from app.engine import ApplicationBuilder, State, action
from app.engine.pydantic import PydanticTypingSystem, pydantic_action
from benchmarks.machines import chatting

__all__ = [
    "WAYS",
    "concatenated",
    "dumped",
    "extended",
    "in_place",
    "keyed",
    "nested",
    "rewritten",
    "typed",
]


class Message(pydantic.BaseModel):
    role: str
    content: str


class Chat(pydantic.BaseModel):
    messages: list[Message] = []
    reply: str = ""


class Dump(pydantic.BaseModel):
    messages: list[dict[str, str]] = []
    reply: str = ""


def _said(prompt: str, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]


@action(reads=["messages"], writes=["messages", "reply"])
async def extend(state: State, prompt: str, reply: str) -> State:
    return state.extend(messages=_said(prompt, reply)).update(reply=reply)


@action(reads=["messages"], writes=["messages", "reply"])
async def rewrite(state: State, prompt: str, reply: str) -> State:
    return state.update(messages=[*state["messages"], *_said(prompt, reply)], reply=reply)


@action(reads=["messages"], writes=["messages", "reply"])
async def concatenate(state: State, prompt: str, reply: str) -> State:
    return state.update(messages=state["messages"] + _said(prompt, reply), reply=reply)


@action(reads=["messages"], writes=["messages", "reply"])
async def append_in_place(state: State, prompt: str, reply: str) -> State:
    messages = state["messages"]
    for message in _said(prompt, reply):
        messages.append(message)
    return state.update(messages=messages, reply=reply)


@action(reads=["talk"], writes=["talk", "reply"])
async def nest(state: State, prompt: str, reply: str) -> State:
    talk = state["talk"]
    return state.update(talk={**talk, "messages": [*talk["messages"], *_said(prompt, reply)]}, reply=reply)


@action(reads=["talk"], writes=["talk", "reply"])
async def key(state: State, prompt: str, reply: str) -> State:
    talk = state["talk"]
    return state.update(talk={**talk, f"turn-{len(talk)}": _said(prompt, reply)}, reply=reply)


@action(reads=["messages"], writes=["messages", "reply"])
async def dump(state: State, prompt: str, reply: str) -> State:
    chat = Dump(messages=state["messages"])
    chat.messages += _said(prompt, reply)
    chat.reply = reply
    return state.update(**chat.model_dump())


@pydantic_action(reads=["messages"], writes=["messages", "reply"])
async def type_out(state: Chat, prompt: str, reply: str) -> Chat:
    state.messages += [Message(**message) for message in _said(prompt, reply)]
    state.reply = reply
    return state


def extended() -> ApplicationBuilder[Any]:
    return _chat(extend, "extend", messages=[])


def rewritten() -> ApplicationBuilder[Any]:
    return _chat(rewrite, "rewrite", messages=[])


def concatenated() -> ApplicationBuilder[Any]:
    return _chat(concatenate, "concatenate", messages=[])


def in_place() -> ApplicationBuilder[Any]:
    return _chat(append_in_place, "append_in_place", messages=[])


def nested() -> ApplicationBuilder[Any]:
    return _chat(nest, "nest", talk={"topic": "all", "messages": []})


def keyed() -> ApplicationBuilder[Any]:
    return _chat(key, "key", talk={})


def dumped() -> ApplicationBuilder[Any]:
    return _chat(dump, "dump", messages=[])


def typed() -> ApplicationBuilder[Any]:
    return _chat(type_out, "type_out", messages=[]).with_typing(PydanticTypingSystem(Chat))


WAYS = {
    "chatting": "append",
    "extended": "extend",
    "rewritten": "[*old, new]",
    "concatenated": r"old + \[new]",
    "in_place": "old.append, then update",
    "nested": "a list in a dict",
    "keyed": "a dict with one more key",
    "dumped": "update(**model.model_dump())",
    "typed": "a pydantic action",
}
"""What each machine writes, by its name."""


def _chat(answer: Callable[..., Any], name: str, **state: Any) -> ApplicationBuilder[Any]:
    builder: ApplicationBuilder[Any] = ApplicationBuilder().with_actions(answer).with_transitions((name, name))
    return builder.with_state(**state, reply="").with_entrypoint(name)


def machine_path(name: str) -> str:
    """Return where the service finds one of the machines in `WAYS`."""
    return f"benchmarks.machines:{chatting.__name__}" if name == chatting.__name__ else f"benchmarks.chat_ways:{name}"
