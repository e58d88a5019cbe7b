"""The names of the rungs, and which of them an action gets."""

from enum import StrEnum

from app.executors.errors import UnknownRung

__all__ = ["ASYNC_RUNGS", "SYNC_RUNGS", "Rung", "rung_named"]


class Rung(StrEnum):
    """Where an action can be carried out. `auto` starts in threads and moves what proves to be CPU-bound."""

    LOOP = "loop"  # async actions, and no others
    PRIVATE_LOOP = "private_loop"  # async ones that block
    THREAD = "thread"
    PROCESS = "process"
    DASK = "dask"
    AUTO = "auto"


ASYNC_RUNGS = (Rung.LOOP, Rung.PRIVATE_LOOP)
SYNC_RUNGS = (Rung.THREAD, Rung.PROCESS, Rung.DASK, Rung.AUTO)


def rung_named(name: str | None, *, is_async: bool = False) -> Rung | None:
    """Return the rung called `name` for a sync action, or for an async one; None for None. Raises UnknownRung."""
    if name is None:
        return None
    among = ASYNC_RUNGS if is_async else SYNC_RUNGS
    found = next((rung for rung in among if rung.value == name), None)
    if found is None:
        what = f"executor {name!r}" + (" for an async action" if is_async else "")
        raise UnknownRung(f"there is no {what}; there are {', '.join(rung.value for rung in among)}")
    return found
