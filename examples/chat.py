"""A chat with a language model, token by token, over any endpoint that speaks OpenAI's chat completions.

Environment: `OPENAI_API_KEY` (without it an offline stand-in answers, and says so), `OPENAI_BASE_URL` (default: OpenAI's own)
and `OPENAI_MODEL`. A run takes what the person says and streams the answer:

    {"inputs": {"prompt": "Hello"}, "halt_after": ["reply"]}

If the endpoint fails, the prompt stays in the history and the next run, without inputs, asks again.
"""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from functools import cache
from typing import Any

import httpx

from app.engine import ApplicationBuilder, State, action, streaming_action

REMEMBERED = 40  # messages that go to the model with each request; the state keeps all
TIMEOUT = httpx.Timeout(60, connect=10)


class EndpointError(Exception):
    """The endpoint refused, broke off, or sent what the protocol does not know. `status` is None without an answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@action(reads=[], writes=["messages"])
async def prompt(state: State, prompt: str) -> State:
    """Take what the person says."""
    return state.append(messages={"role": "user", "content": prompt})


@streaming_action(reads=["messages"], writes=["messages"])
async def reply(state: State) -> AsyncGenerator[tuple[dict[str, Any], State | None], None]:
    """Stream the answer as {"token": …}; the result is {"reply": …, "offline": …}."""
    key = os.environ.get("OPENAI_API_KEY")
    tokens = completion(key, state["messages"][-REMEMBERED:]) if key else stand_in(state["messages"])
    parts: list[str] = []
    async with aclosing(tokens):
        async for token in tokens:
            parts.append(token)
            yield {"token": token}, None
    text = "".join(parts)
    yield {"reply": text, "offline": not key}, state.append(messages={"role": "assistant", "content": text})


def chat() -> ApplicationBuilder:
    """A conversation without end; see the top of this file."""
    return (
        ApplicationBuilder()
        .with_actions(prompt, reply)
        .with_transitions(("prompt", "reply"), ("reply", "prompt"))
        .with_state(messages=[])
        .with_entrypoint("prompt")
    )


# --- the two that answer -----------------------------------------------------------------------------------------------


async def stand_in(messages: Sequence[Mapping[str, str]]) -> AsyncGenerator[str, None]:
    """Answer without a model, and say so."""
    said = messages[-1]["content"]
    answer = f"This is an offline stand-in, not a model: OPENAI_API_KEY is not set. You said {len(said.split())} words: {said}"
    for index, word in enumerate(answer.split(" ")):
        await asyncio.sleep(0.02)
        yield word if index == 0 else f" {word}"


async def completion(key: str, messages: Sequence[Mapping[str, str]]) -> AsyncGenerator[str, None]:
    """Yield the tokens of a model's answer as they come. Raises EndpointError."""
    base = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1").rstrip("/")
    body = {"model": os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), "messages": list(messages), "stream": True}
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
    try:
        async with (
            httpx.AsyncClient(verify=_tls(), timeout=TIMEOUT) as client,
            client.stream("POST", f"{base}/chat/completions", json=body, headers=headers) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise EndpointError(_refusal(response.status_code, await response.aread(), key), response.status_code)
            async for token in _tokens(response.aiter_bytes(), key):
                yield token
    except httpx.HTTPError as exc:
        raise EndpointError(f"the chat endpoint could not be reached or broke off: {type(exc).__name__}") from exc


async def _tokens(chunks: AsyncIterator[bytes], key: str) -> AsyncIterator[str]:
    """Yield the text in each event up to `[DONE]`. Raises EndpointError if that never comes."""
    is_complete = False
    async for data in event_data(chunks):
        if data == "[DONE]":
            return
        try:
            event = json.loads(data)
            if "error" in event:
                raise EndpointError(f"the chat endpoint failed midway: {_message(event, key)}")
            for choice in event.get("choices", [])[:1]:
                if token := (choice.get("delta") or {}).get("content"):
                    yield token
                is_complete = is_complete or choice.get("finish_reason") is not None
        except (ValueError, TypeError, AttributeError) as exc:
            raise EndpointError("the chat endpoint sent an event that is no chat completion chunk") from exc
    if not is_complete:
        raise EndpointError("the chat endpoint closed the stream before its answer was complete")


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yield the data of each server-sent event, however the bytes were cut into chunks.

    Lines end at LF or CRLF only: text may hold the other line separators of Unicode, unescaped.
    """
    pending, data = b"", list[str]()
    async for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            field = line.removesuffix(b"\r").decode()
            if field.startswith("data:"):
                data.append(field.removeprefix("data:").removeprefix(" "))
            elif not field and data:
                yield "\n".join(data)
                data = []


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # costs tens of milliseconds: once, not for every answer


def _refusal(status: int, body: bytes, key: str) -> str:
    try:
        said = _message(json.loads(body), key)
    except ValueError:
        said = "no explanation"
    return f"the chat endpoint answered {status}: {said}"


def _message(body: Any, key: str) -> str:
    """Return the protocol's error text, shortened; it may come from anywhere, and repeat the key or its beginning."""
    error = body.get("error") if isinstance(body, dict) else None
    said = error.get("message") if isinstance(error, dict) else error
    if not said:
        return "no explanation"
    words = ("[withheld]" if _repeats(word, key) else word for word in str(said).split())
    return " ".join(words)[:200]


def _repeats(word: str, key: str) -> bool:
    """Whether `word` holds the key, or its first or last four characters, as in `sk-p****1234`."""
    return any(part in word for part in (key, key[:4], key[-4:]) if part)
