"""Where a request's body is parsed and validated: a large one does not hold the event loop."""

import json
import threading
from hashlib import blake2b
from typing import Any

import orjson
import pytest
from pydantic import BaseModel, field_validator
from starlette.types import Message

from app.routes.idempotency import key_of
from app.routes.lean import Incoming
from app.routes.requests import read_body


class Body(BaseModel):
    """Adds the name of the thread that validates it to its text."""

    text: str

    @field_validator("text")
    @classmethod
    def _with_thread(cls, text: str) -> str:
        return text + threading.current_thread().name


@pytest.mark.parametrize(("size", "is_aside"), [(10, False), (100_000, True)])
async def test_a_large_body_is_read_in_a_thread_and_a_small_one_at_once(size: int, is_aside: bool) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": orjson.dumps({"text": "x" * size})}

    incoming = Incoming({"headers": [(b"content-type", b"application/json")]}, receive)
    text = (await read_body(incoming, Body)).text
    assert text.startswith("x" * size)
    assert ("stepwell-encoding" in text) is is_aside


class Document(BaseModel):
    values: list[Any]


@pytest.mark.parametrize("count", [1, 5_000])
async def test_the_digest_of_a_request_with_a_key_does_not_depend_on_its_size(count: int) -> None:
    document = {"values": [{"z": None, "a": [1.5, -0.0, 2**70, 1e300, True], "\u00e9": '"\\ \u2028 \U0001f600'}] * count}

    async def receive() -> Message:
        return {"type": "http.request", "body": orjson.dumps({"values": document["values"][:0]}) + b" " * count * 20}

    headers = [(b"idempotency-key", b"once"), (b"content-type", b"application/json")]
    key = await key_of(Incoming({"headers": headers, "path": "/"}, receive), Document.model_validate(document))
    assert key is not None
    assert key.request == blake2b(json.dumps(document, sort_keys=True).encode(), digest_size=16).digest()
