"""Where an application comes from: the application that it was forked from, or that spawned it.

A value and nothing else; hooks, contexts and applications pass it on.
"""

from dataclasses import dataclass

__all__ = ["ParentPointer"]


@dataclass
class ParentPointer:
    """One moment in the life of another application. `sequence_id` is None when only the application is known."""

    app_id: str
    partition_key: str | None
    sequence_id: int | None
