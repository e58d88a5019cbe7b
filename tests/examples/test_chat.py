"""The chat example against a real server that speaks the protocol, and without one."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.engine import Application
from app.engine.machine import machine
from examples import chat as example
from examples.demo.follower import frames
from tests.examples.chat_endpoint import KEY, ChatEndpoint, running_endpoint
from tests.server import running_server


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatEndpoint]:
    with running_endpoint(ChatEndpoint()) as running:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_MODEL", "a-model")
        yield running


async def said(application: "Application[Any]", prompt: str | None) -> tuple[list[str], dict[str, Any], Any]:
    """Return the tokens, the result and the state of one turn; None asks again without a prompt."""
    inputs = None if prompt is None else {"prompt": prompt}
    _, container = await application.astream_result(halt_after=["reply"], inputs=inputs)
    tokens = [item["token"] async for item in container]
    result, state = await container.get()
    return tokens, dict(result or {}), state


async def test_tokens_are_streamed_and_the_answer_joins_the_history(endpoint: ChatEndpoint) -> None:
    application = example.chat().build()
    tokens, result, state = await said(application, "Hi")
    assert tokens == ["Hello", " there", "!"]
    assert result == {"reply": "Hello there!", "offline": False}
    assert state["messages"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there!"}]
    assert endpoint.requests == [{"model": "a-model", "messages": [{"role": "user", "content": "Hi"}], "stream": True}]


async def test_the_second_turn_sends_the_first_along(endpoint: ChatEndpoint) -> None:
    application = example.chat().build()
    await said(application, "Hi")
    await said(application, "And now?")
    assert [message["content"] for message in endpoint.requests[1]["messages"]] == ["Hi", "Hello there!", "And now?"]


async def test_only_so_many_messages_go_to_the_model(endpoint: ChatEndpoint) -> None:
    long_ago = [{"role": "user", "content": str(index)} for index in range(100)]
    application = example.chat().with_state(messages=long_ago).build()
    _, _, state = await said(application, "Hi")
    assert len(endpoint.requests[0]["messages"]) == example.REMEMBERED
    assert len(state["messages"]) == 102


@pytest.mark.parametrize("packet_size", [1, 7, 64])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
async def test_the_stream_may_be_cut_into_packets_anywhere(endpoint: ChatEndpoint, packet_size: int, line_end: str) -> None:
    endpoint.packet_size, endpoint.line_end = packet_size, line_end
    endpoint.tokens = ["Grüße", " ~ \u2028", "…\n", "🎉", ""]
    tokens, result, _ = await said(example.chat().build(), "Hi")
    assert tokens == ["Grüße", " ~ \u2028", "…\n", "🎉"]
    assert result["reply"] == "Grüße ~ \u2028…\n🎉"


async def test_an_error_status_is_an_error_with_the_endpoint_s_words(endpoint: ChatEndpoint) -> None:
    endpoint.refuse_with = 503
    with pytest.raises(example.EndpointError, match="answered 503: the model is overloaded") as caught:
        await said(example.chat().build(), "Hi")
    assert caught.value.status == 503


async def test_a_wrong_key_is_an_error_that_does_not_repeat_it(endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(example.EndpointError, match="answered 401") as caught:
        await said(example.chat().build(), "Hi")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "echo", ["no account has {key}", "{key}", "x" * 190 + " {key}", "Incorrect key: {head}****{tail}.", "({key})"]
)
async def test_an_endpoint_that_echoes_the_key_is_not_repeated(echo: str) -> None:
    key = "sk-proj-Zq81XwTr0077"
    said = echo.format(key=key, head=key[:7], tail=key[-4:])
    message = example._refusal(401, json.dumps({"error": {"message": said}}).encode(), key)
    assert message.startswith("the chat endpoint answered 401: ")
    assert not any(key[at : at + 4] in message for at in (0, 4, 8, 12, 16))


@pytest.mark.parametrize("fault", ["break_after", "stop_after", "fail_after"])
async def test_a_stream_that_breaks_off_keeps_the_prompt_and_can_be_asked_again(endpoint: ChatEndpoint, fault: str) -> None:
    setattr(endpoint, fault, 2)
    application = example.chat().build()
    with pytest.raises(example.EndpointError):
        await said(application, "Hi")
    assert application.state["messages"] == [{"role": "user", "content": "Hi"}]
    setattr(endpoint, fault, None)
    tokens, _, state = await said(application, None)
    assert tokens == ["Hello", " there", "!"]
    assert len(state["messages"]) == 2


async def test_an_endpoint_that_is_not_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_endpoint(ChatEndpoint()) as gone:
        pass
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", gone.url)
    with pytest.raises(example.EndpointError, match="could not be reached"):
        await said(example.chat().build(), "Hi")


async def test_without_a_key_a_stand_in_answers_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    tokens, result, _ = await said(example.chat().build(), "How are you?")
    assert len(tokens) > 5
    assert result["offline"] is True
    assert "offline stand-in" in result["reply"]
    assert result["reply"].endswith("How are you?")


async def events_of_turn(client: httpx.AsyncClient, session_id: str, inputs: dict[str, str]) -> list[tuple[str, Any]]:
    request = client.stream(
        "POST",
        f"/v1/sessions/{session_id}/runs",
        json={"inputs": inputs, "halt_after": ["reply"]},
        headers={"Accept": "text/event-stream"},
    )
    async with request as response:
        assert response.status_code == 200
        return [(event, data) async for _, event, data in frames(response.aiter_bytes())]


async def test_over_http_tokens_are_events_and_a_failed_answer_can_be_asked_for_again(endpoint: ChatEndpoint) -> None:
    with running_server([machine(example.chat)]) as server:
        async with server.async_client() as client:
            session_id = (await client.post("/v1/sessions", json={"machine": "chat"})).json()["id"]
            endpoint.break_after = 1
            events = await events_of_turn(client, session_id, {"prompt": "Hi"})
            assert [event for event, _ in events[-2:]] == ["step.failed", "run.failed"]
            assert KEY not in str(events)
            endpoint.break_after = None
            events = await events_of_turn(client, session_id, {})
            assert [data["item"] for event, data in events if event == "step.item"] == [
                {"token": "Hello"},
                {"token": " there"},
                {"token": "!"},
            ]
            state = (await client.get(f"/v1/sessions/{session_id}")).json()["state"]
    assert [message["content"] for message in state["messages"]] == ["Hi", "Hello there!"]
