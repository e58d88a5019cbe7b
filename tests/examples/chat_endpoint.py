"""A real HTTP server that speaks OpenAI's streaming chat completions, and misbehaves as a test asks."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

__all__ = ["KEY", "ChatEndpoint", "running_endpoint"]

KEY = "sk-test"


@dataclass
class ChatEndpoint:
    """Answers with `tokens`. `packet_size` cuts the stream into packets of so many bytes, wherever that falls."""

    tokens: list[str] = field(default_factory=lambda: ["Hello", " there", "!"])
    packet_size: int | None = None
    line_end: str = "\n"
    refuse_with: int | None = None
    break_after: int | None = None  # tokens, then the connection is cut
    stop_after: int | None = None  # tokens, then the answer ends as if it were whole
    fail_after: int | None = None  # tokens, then an error as an event
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": {"message": "Incorrect API key provided"}}, 401)
        if self.refuse_with is not None:
            return JSONResponse({"error": {"message": "the model is overloaded", "type": "server_error"}}, self.refuse_with)
        assert body["stream"] is True
        return StreamingResponse(self._packets(), media_type="text/event-stream")

    async def _packets(self) -> AsyncIterator[bytes]:
        async for event in self._events():
            size = self.packet_size or len(event)
            for start in range(0, len(event), size):
                yield event[start : start + size]
                await asyncio.sleep(0.001)  # lets the transport send what it has, as a packet of its own

    async def _events(self) -> AsyncIterator[bytes]:
        yield f": a comment{self.line_end * 2}".encode()
        yield self._event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        for index, token in enumerate(self.tokens):
            if index == self.break_after:
                raise ConnectionResetError("the endpoint breaks off, as the test wants")
            if index == self.stop_after:
                return
            if index == self.fail_after:
                yield self._event({"error": {"message": "the model stumbled"}})
                return
            yield self._event({"choices": [{"index": 0, "delta": {"content": token}, "finish_reason": None}]})
        yield self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        yield self._event({"choices": [], "usage": {"total_tokens": 3}})
        yield f"data: [DONE]{self.line_end * 2}".encode()

    def _event(self, data: Any) -> bytes:
        return f"data: {json.dumps(data, ensure_ascii=False)}{self.line_end * 2}".encode()


@contextlib.contextmanager
def running_endpoint(endpoint: ChatEndpoint) -> Iterator[ChatEndpoint]:
    """Serve `endpoint` on a port of its own until the block ends; its `url` is then a base URL."""
    api = FastAPI()
    api.post("/v1/chat/completions")(endpoint.complete)
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started.set()

    server = Server(uvicorn.Config(api, port=0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, name="chat-endpoint", daemon=True)
    thread.start()
    assert started.wait(60)
    try:
        endpoint.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
        yield endpoint
    finally:
        server.should_exit = True
        thread.join(20)
