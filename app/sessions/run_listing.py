"""A page of the runs of a session, with those that are under way or wait."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.persistence.records import RunRecord
from app.persistence.run_order import NOT_ENDED, by_last_event
from app.persistence.store import CursorInvalid, Store

__all__ = ["RunPage", "run_page"]

_Place = tuple[int, int, str]

_BEGINNING: _Place = (0, 0, "")
_DIGITS = 20  # of a number that is too large


@dataclass(frozen=True, slots=True)
class RunPage:
    """`next_cursor` leads to the runs after these; None if there are none."""

    runs: Sequence[RunRecord]
    next_cursor: str | None


async def run_page(store: Store, session_id: str, current: RunRecord | None, limit: int, cursor: str | None) -> RunPage:
    """Return runs by their ends, then those that have not ended; `current` is known better here than in the store.

    Raises CursorInvalid.
    """
    after = _BEGINNING if cursor is None else _read(cursor)
    # read before those that have ended: a run that ends between the two is found
    runs = {run.id: run for run in await store.unfinished_runs_of(session_id)}
    if after[0] < NOT_ENDED:
        runs |= {run.id: run for run in await store.list_runs(session_id, after_event_id=after[0], limit=limit + 1)}
    if current is not None:
        runs[current.id] = current
    found = sorted((run for run in runs.values() if by_last_event(run) > after), key=by_last_event)
    page = found[:limit]
    return RunPage(page, _cursor(page[-1]) if len(found) > limit else None)


def _cursor(last: RunRecord) -> str:
    return "~".join(map(str, by_last_event(last)))


def _read(cursor: str) -> _Place:
    match cursor.split("~", 2):
        case [end, began, run_id] if _is_number(end) and _is_number(began):
            return int(end), int(began), run_id
    raise CursorInvalid("the cursor was not given out by this list")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < _DIGITS
