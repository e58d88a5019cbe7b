"""Server-sent events as a client reads them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

__all__ = ["events"]


async def events(response: httpx.Response) -> AsyncIterator[tuple[int, str, Any]]:
    """The (id, type, data) of a stream; one that is cut off in the middle is no event."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line == "" and "event" in fields:
            yield int(fields["id"]), fields["event"], json.loads(fields["data"])
        if line == "":
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
