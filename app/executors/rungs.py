"""The names of the rungs, and which of them an action gets."""

from enum import StrEnum

from app.executors.errors import UnknownRung

__all__ = ["Rung", "rung_named"]


class Rung(StrEnum):
    """Where a sync action can be carried out. `auto` starts in threads and moves what proves to be CPU-bound."""

    THREAD = "thread"
    PROCESS = "process"
    DASK = "dask"
    AUTO = "auto"


def rung_named(name: str | None) -> Rung | None:
    """Return the rung called `name`; None for None. Raises UnknownRung."""
    if name is None:
        return None
    try:
        return Rung(name)
    except ValueError:
        known = ", ".join(rung.value for rung in Rung)
        raise UnknownRung(f"there is no executor {name!r}; there are {known}") from None
