"""Counts requests by the template of their route: never by a path, of which there is no end."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import add
from time import perf_counter

from starlette.types import Scope

__all__ = ["BOUNDS_S", "Latency", "RequestTally"]

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_OTHER = "other"


@dataclass(slots=True)
class Latency:
    """How long answers took to begin: so many up to each of `BOUNDS_S`, and longer; and together, in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def add(self, other: "Latency") -> None:
        self.counts = list(map(add, self.counts, other.counts))
        self.total_s += other.total_s


class RequestTally:
    """The time until answers began, by method, route and status."""

    def __init__(self) -> None:
        self._latencies: dict[tuple[str, str, int], Latency] = {}

    def answers(self) -> Mapping[tuple[str, str, int], int]:
        """Return how many there were by method, route and status."""
        return {key: sum(latency.counts) for key, latency in self._latencies.items()}

    def latencies(self) -> Mapping[tuple[str, str], Latency]:
        """Return how long they took by method and route."""
        found: dict[tuple[str, str], Latency] = {}
        for (method, route, _), latency in self._latencies.items():
            found.setdefault((method, route), Latency()).add(latency)
        return found

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        key = method, route, status
        latency = self._latencies.get(key)
        if latency is None:
            latency = self._latencies[key] = Latency()
        latency.counts[bisect_left(BOUNDS_S, seconds)] += 1
        latency.total_s += seconds

    def counter(self, scope: Scope) -> Callable[[int], None]:
        """Return what counts the answer, given its status, of a request of which the router will say which route it takes."""
        began_s = perf_counter()

        def count(status: int) -> None:
            method = scope["method"] if scope["method"] in _METHODS else _OTHER
            route = getattr(scope.get("route"), "path", _OTHER)
            self.count(method, route, status, perf_counter() - began_s)

        return count
