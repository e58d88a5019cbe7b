"""Where a request's body is parsed and validated: a large one does not hold the event loop."""

import threading

import orjson
import pytest
from pydantic import BaseModel, field_validator
from starlette.types import Message

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
