"""Looks up names of hosts in threads of the host's own.

`loop.getaddrinfo` uses the loop's default executor, or uvloop's few threads. Both belong to users.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from app.system.host_threads import HostThreads

__all__ = ["Names", "ResolvingLoop"]


class Names:
    """Must be closed. Use one for each purpose: a name server that is silent for one must not hold up another."""

    def __init__(self, purpose: str, threads: int = 4) -> None:
        self._threads = HostThreads(f"names-{purpose}", threads)

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of `host`, in the system's order; an address is returned as it is. Raises OSError."""
        if _is_address(host):
            return [host]
        found = await self._threads.run(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(each[4][0]) for each in found))

    def close(self) -> None:
        self._threads.close()


class ResolvingLoop:
    """An event loop as a library sees it that is given one, except for its look-ups of names."""

    def __init__(self, loop: asyncio.AbstractEventLoop, names: Names) -> None:
        self._loop = loop
        self._names = names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, factory: Any, host: str, port: int, **options: Any) -> Any:
        """Connect to the first address of `host` that answers. Raises OSError."""
        if options.get("ssl"):
            options.setdefault("server_hostname", host)
        failed: OSError | None = None
        for address in await self._names.addresses(host, port):
            try:
                return await self._loop.create_connection(factory, address, port, **options)
            except OSError as exc:
                failed = exc
        raise failed or OSError(f"the host {host!r} has no address")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
