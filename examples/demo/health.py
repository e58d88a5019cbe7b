"""Asks for /healthz again and again, in a process of its own so that nothing but the service can make it wait.

`python -m examples.demo.health HOST PORT` runs until its standard input ends, then prints the figures as JSON.
"""

import http.client
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = ["Health", "watched_health"]

PAUSE_S = 0.02


@dataclass(slots=True)
class Health:
    """What the health check did while it was watched; empty until the watch is over."""

    took_ms: list[float] = field(default_factory=list)

    @property
    def worst_ms(self) -> float:
        return max(self.took_ms, default=0.0)

    @property
    def median_ms(self) -> float:
        return sorted(self.took_ms)[len(self.took_ms) // 2] if self.took_ms else 0.0


@contextmanager
def watched_health(url: str) -> Iterator[Health]:
    """Ask for the health of the service at `url` until the block ends; only then are the figures there."""
    health, parts = Health(), urlsplit(url)
    command = [sys.executable, "-m", "examples.demo.health", str(parts.hostname), str(parts.port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ours
        try:
            yield health
        finally:
            output, _ = process.communicate("")
            health.took_ms = json.loads(output)


def _watch(host: str, port: int) -> list[float]:
    took_ms = []
    connection = http.client.HTTPConnection(host, port, timeout=60)
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        asked_at = time.perf_counter()
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"/healthz answered {answer.status}")
        took_ms.append((time.perf_counter() - asked_at) * 1e3)
    return took_ms


if __name__ == "__main__":
    print(json.dumps(_watch(sys.argv[1], int(sys.argv[2]))))
