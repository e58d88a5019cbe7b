"""How long a connection may take to send a request, how much it may send before one is understood, and how many there may be."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["ConnectionLimits", "ConnectionStats", "ConnectionSweeper", "Sweepable"]

logger = logging.getLogger(__name__)

_SWEEP_INTERVAL_S = 1.0
_LOG_INTERVAL_S = 10.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection may do. A body may take `head_timeout_s`, and a second more for each `body_bytes_per_s` received.

    `discard_bytes` is how much of a body is read after its request has been answered; then the connection is closed.
    `connections` is the number of open connections; None sets no limit.
    """

    head_bytes: int = 65_536
    head_fields: int = 100
    head_timeout_s: float = 20.0
    body_bytes_per_s: float = 500.0
    discard_bytes: int = 8_388_608
    connections: int | None = None


@dataclass(slots=True)
class ConnectionStats:
    """How many connections are open, and how many were refused or cut off, by reason."""

    open: int = 0
    limit: int | None = None
    refused: Counter[str] = field(default_factory=Counter)
    _logged_at_s: dict[str, float] = field(default_factory=dict)

    def refuse(self, reason: str, now_s: float) -> None:
        """Count a refusal. Logs the first one of each kind, and then at most one line in ten seconds."""
        self.refused[reason] += 1
        if now_s - self._logged_at_s.get(reason, -_LOG_INTERVAL_S) >= _LOG_INTERVAL_S:
            self._logged_at_s[reason] = now_s
            fields = {"reason": reason, "refused": self.refused[reason], "open": self.open, "limit": self.limit}
            logger.warning("a connection was refused", extra=fields)


class Sweepable(Protocol):
    """A connection that knows when it has taken too long."""

    def close_if_late(self, now_s: float) -> None: ...


class ConnectionSweeper:
    """Looks at all connections of a server once a second, while there are any. One timer serves them all."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: Iterable[object]) -> None:
        self._loop = loop
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to sweep. Does nothing if it has begun."""
        if self._timer is None:
            self._timer = self._loop.call_later(_SWEEP_INTERVAL_S, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        connections = list(self._connections)
        for connection in connections:
            connection.close_if_late(now_s)  # type: ignore[attr-defined]  # uvicorn's set holds our protocols
        if connections:
            self.start()
