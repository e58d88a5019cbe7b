"""Follows one session by server-sent events, hangs up in the middle, and comes back with `Last-Event-ID`."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx

__all__ = ["Follower"]

Frame = tuple[str, str, Any]  # id, event, data


@dataclass(slots=True)
class Follower:
    """What somebody who only listens has seen of a session: `seqs` as they came, and the last step's result."""

    client: httpx.AsyncClient
    session_id: str
    hang_up_after: int
    seqs: list[int] = field(default_factory=list)
    last_result: Any = None
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    _position: str | None = None
    _last_run: str | None = None
    _caught_up: asyncio.Event = field(default_factory=asyncio.Event)
    _finished_runs: set[str] = field(default_factory=set)

    async def follow(self) -> None:
        """Listen until cancelled."""
        await self._listen(until=self.hang_up_after)
        while True:
            await self._listen(until=None)

    async def caught_up(self, run_id: str) -> None:
        """Return when the end of a run has been seen."""
        while run_id not in self._finished_runs:
            self._caught_up.clear()
            await self._caught_up.wait()

    async def _listen(self, until: int | None) -> None:
        """Take in events until `until` steps are seen in all, or the stream ends."""
        headers = {"Accept": "text/event-stream"}
        if self._position is not None:
            headers["Last-Event-ID"] = self._position
        async with self.client.stream("GET", f"/v1/sessions/{self.session_id}/events", headers=headers) as response:
            response.raise_for_status()
            async with aclosing(frames(response.aiter_bytes())) as incoming:
                self.connected.set()
                async for event_id, event, data in incoming:
                    self._position = event_id or self._position
                    self._take_in(event, data)
                    if until is not None and len(self.seqs) >= until:
                        return

    def _take_in(self, event: str, data: Any) -> None:
        if event == "step.finished":
            self.seqs.append(data["seq"])
            self.last_result = data["result"]
        elif event in ("run.finished", "run.failed", "run.cancelled"):
            self._finished_runs.add(data["run_id"])
            self._caught_up.set()


async def frames(chunks: AsyncIterator[bytes]) -> AsyncGenerator[Frame, None]:
    """Yield the events of a stream as (id, event, data), however the bytes were cut; comments are left out."""
    pending, fields = b"", dict[str, str]()
    async for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            text = line.removesuffix(b"\r").decode()
            name, _, value = text.partition(":")
            if text:
                fields[name] = value.removeprefix(" ")
            else:
                if "data" in fields:
                    yield fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"])
                fields = {}
