"""What a run that is not over leaves to whoever goes on with it, as values."""

from dataclasses import dataclass
from typing import Any

from app.persistence.records import RunRecord, RunStatus

__all__ = ["Resumption", "UnclosedEnd"]


@dataclass(frozen=True, slots=True)
class Resumption:
    """A run that is stored already: as queued, or as under way, with so many `steps` after `origin_seq`.

    `is_counted` says that its process has died with it, `is_suspect` that this was not the first one: the run is tried alone.
    """

    record: RunRecord
    steps: int = 0
    origin_seq: int | None = None
    is_counted: bool = False
    is_suspect: bool = False


@dataclass(frozen=True, slots=True)
class UnclosedEnd:
    """How a run ended that the store could not be told of."""

    status: RunStatus
    reason: str | None
    error: dict[str, Any] | None
    rolls_back: bool
