"""What a step changed, as clients see it: in the history, in events as they happen, and in events that are read again."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.chats import Chat, chat
from tests.routes.test_event_streams import STREAM, past, read
from tests.routes.test_sessions_over_http import create
from tests.server import running_server

OLD = [{"role": "user", "content": f"{number}: something that was said before"} for number in range(10)]
SAID = {"prompt": "and now?", "reply": "that is all there is to say"}
NEW = [{"role": "user", "content": SAID["prompt"]}, {"role": "assistant", "content": SAID["reply"]}]
SET_REPLY = {"op": "set", "key": "reply", "value": SAID["reply"]}
WAYS = {
    "rewrite": (OLD, {"op": "extend", "key": "messages", "items": NEW}),
    "models": (OLD, {"op": "extend", "key": "messages", "items": NEW}),
    "in_tuple": (OLD, {"op": "set", "key": "messages", "value": [*OLD, *NEW]}),  # a list came in, and a tuple is another type
    "nested": (
        {"all": {"said": OLD}},
        {
            "op": "patch",
            "key": "messages",
            "edits": [{"op": "splice", "path": ["all", "said"], "index": 10, "removed": 0, "items": NEW}],
        },
    ),
    "keyed": (
        {"first": OLD},
        {"op": "patch", "key": "messages", "edits": [{"op": "put", "path": ["turn 1"], "value": NEW}]},
    ),
    "in_text": (
        "a long text of what was said before\n",
        {
            "op": "patch",
            "key": "messages",
            "edits": [{"op": "grow", "path": [], "text": f"user: {SAID['prompt']}\nassistant: {SAID['reply']}\n"}],
        },
    ),
}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with running_server([chat(way) for way in (*WAYS, "in_model")]) as server, server.client() as made:
        yield made


@pytest.mark.parametrize("way", WAYS)
def test_a_step_shows_what_it_changed_and_shows_it_again(way: str, client: httpx.Client) -> None:
    before, change = WAYS[way]
    session = create(client, way, state={"messages": before})
    assert _shown(client, session) == [change, SET_REPLY]


def test_a_step_shows_the_field_of_a_model_that_changed(client: httpx.Client) -> None:
    session = create(client, "in_model", state={"messages": None})
    client.post(f"/v1/sessions/{session}/steps", json={"inputs": SAID}).raise_for_status()
    change = {
        "op": "patch",
        "key": "messages",
        "edits": [{"op": "splice", "path": ["messages"], "index": 2, "removed": 0, "items": NEW}],
    }
    assert _shown(client, session)[0] == change
    assert client.get(f"/v1/sessions/{session}").json()["state"]["messages"] == Chat(messages=NEW * 2).model_dump()  # type: ignore[arg-type]  # it validates


def _shown(client: httpx.Client, session: str) -> Any:
    """Take a step, and return its operations, which are the same wherever they are shown."""
    body = {"inputs": SAID, "max_steps": 1}
    with client.stream("POST", f"/v1/sessions/{session}/runs", json=body, headers=STREAM) as stream:
        live = [event for event in read(stream.iter_lines()) if event.type == "step.finished"][-1]
    again = [event for event in past(client, session, live.id - 1, 1) if event.type == "step.finished"][-1]
    step = client.get(f"/v1/sessions/{session}/steps/{live.data['seq']}").json()
    assert step["state"] == client.get(f"/v1/sessions/{session}").json()["state"]
    assert live.data["operations"] == again.data["operations"] == step["operations"]
    return step["operations"]
