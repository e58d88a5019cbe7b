"""The figures of a pool: what it is at one moment, and what it has done."""

from dataclasses import dataclass

from app.executors.jobs import Usage

__all__ = ["PoolStats", "Totals"]


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment, and its totals since it was made. Times in seconds.

    `busy` calls are being carried out for somebody; `abandoned` ones hold a thread for nobody; `late_results` came back
    from such threads and were dropped. `is_exhausted` says that abandoned calls hold all threads that there may be.
    `died` counts worker processes that ended by themselves.
    """

    name: str
    size: int
    threads: int
    busy: int
    queued: int
    abandoned: int
    oldest_wait_s: float
    calls: int
    waited_s: float
    worked_s: float
    late_results: int
    replaced: int
    refused: int
    died: int = 0
    is_exhausted: bool = False


@dataclass(slots=True)
class Totals:
    """What a pool has done so far."""

    calls: int = 0
    waited_s: float = 0.0
    worked_s: float = 0.0
    late_results: int = 0
    replaced: int = 0
    refused: int = 0
    died: int = 0

    @property
    def mean_work_s(self) -> float | None:
        return self.worked_s / self.calls if self.calls else None

    def add(self, usage: Usage | None) -> None:
        self.calls += 1
        if usage is not None:
            self.waited_s += usage.waited_s
            self.worked_s += usage.wall_s
