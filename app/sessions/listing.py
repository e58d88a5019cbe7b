"""Lists of sessions in which those that run are shown as running, which no store knows."""

from collections.abc import Iterable
from dataclasses import replace

from app.persistence.records import SessionFilter, SessionPage, SessionRecord, SessionStatus
from app.persistence.store import CursorInvalid
from app.sessions.residents import Residents

__all__ = ["as_running", "running_page", "with_running"]

_DIGITS = 20


def running_page(residents: Residents, which: SessionFilter, limit: int, cursor: str | None) -> SessionPage:
    """Return a page of the sessions that run now, newest first. Raises CursorInvalid."""
    before = None if cursor is None else _read_cursor(cursor)
    found = [record for record in _busy(residents) if _matches(record, which)]
    found.sort(key=_position, reverse=True)
    if before is not None:
        found = [record for record in found if _position(record) < before]
    page = tuple(found[:limit])
    return SessionPage(page, _cursor(page[-1]) if len(found) > limit else None)


def with_running(page: SessionPage, residents: Residents, which: SessionFilter) -> SessionPage:
    """Return `page` as it is now: what runs is shown as running, and left out of a list of another status."""
    current = []
    for stored in page.sessions:
        live = residents.get(stored.id)
        record = as_running(stored) if live is None else live.record()
        if which.status in (None, record.status):
            current.append(record)
    return replace(page, sessions=tuple(current))


def as_running(stored: SessionRecord) -> SessionRecord:
    """Return a session that is not in memory as it is shown: running, if a run of it is under way elsewhere."""
    return replace(stored, status=SessionStatus.RUNNING) if stored.has_run else stored


def _busy(residents: Residents) -> Iterable[SessionRecord]:
    return (live.record() for live in residents if live.is_busy)


def _position(record: SessionRecord) -> tuple[int, str]:
    return round(record.created_at_s * 1e6), record.id


def _cursor(last: SessionRecord) -> str:
    created_at_us, session_id = _position(last)
    return f"{created_at_us}~{session_id}"


def _read_cursor(cursor: str) -> tuple[int, str]:
    created_at_us, tilde, session_id = cursor.partition("~")
    if not (tilde and created_at_us.isascii() and created_at_us.isdigit() and len(created_at_us) < _DIGITS):
        raise CursorInvalid("the cursor was not given out by this list")
    return int(created_at_us), session_id


def _matches(record: SessionRecord, which: SessionFilter) -> bool:
    return (
        which.machine in (None, record.machine)
        and which.partition_key in (None, record.partition_key)
        and all(record.metadata.get(key) == value for key, value in which.metadata.items())
    )
