"""Webhooks of runs that have ended: which of them are due, and how far each has got."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from sqlalchemy import Connection, bindparam, select, update

from app.engine.serde import decode, encode
from app.persistence.codec import pack, unpack
from app.persistence.database import Database
from app.persistence.reader import answer, available
from app.persistence.records import Delivery, RunRecord, Undelivered
from app.persistence.rows import run_record
from app.persistence.tables import runs, sessions

__all__ = ["MemoryOutbox", "Outbox", "SqlOutbox"]

_due = (
    select(runs.c.id)
    .where(runs.c.webhook_at <= bindparam("now"), runs.c.finished_at.is_not(None))
    .order_by(runs.c.webhook_at)
    .limit(bindparam("limit"))
)
_CLAIM = (
    update(runs)
    .where(runs.c.id.in_(_due.with_for_update(skip_locked=True).scalar_subquery()))
    .values(webhook_at=bindparam("until"))
    .returning(runs, select(sessions.c.id).where(sessions.c.key == runs.c.session_key).scalar_subquery().label("session_id"))
)
_NOTE = (
    update(runs)
    .where(runs.c.id == bindparam("run_id"))
    .values(webhook_at=bindparam("due_at"), delivery=bindparam("so_far", type_=runs.c.delivery.type))
)
_FORGET = update(runs).where(runs.c.id == bindparam("run_id")).values(webhook=bindparam("bare", type_=runs.c.webhook.type))


class Outbox(Protocol):
    """Methods raise StoreUnavailable."""

    async def claim(self, now_s: float, until_s: float, limit: int = 100) -> Sequence[Undelivered]:
        """Return runs that have ended and of which somebody is to be told by now, those first that have waited longest.

        Nobody else gets them before `until_s`.
        """
        ...

    async def note(self, run_id: str, delivery: Delivery) -> None:
        """Note how far a webhook has got. Its secret is forgotten when nothing more is to be tried."""
        ...


class SqlOutbox:
    """The outbox of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, now_s: float, until_s: float, limit: int = 100) -> Sequence[Undelivered]:
        async with available():  # most of the time there is nothing, and nothing is written
            if not await answer(self._database.reader, _due, {"now": now_s, "limit": 1}):
                return ()
        values = {"now": now_s, "until": until_s, "limit": limit}
        return await self._database.run(lambda connection: _claimed(connection, values))

    async def note(self, run_id: str, delivery: Delivery) -> None:
        await self._database.run(lambda connection: _note(connection, run_id, delivery))


class MemoryOutbox:
    """The outbox of a store in memory, over its runs."""

    def __init__(self, runs: dict[str, RunRecord]) -> None:
        self._runs = runs
        self._secrets: dict[str, str] = {}

    def keep(self, run_id: str, webhook: Mapping[str, Any]) -> None:
        """Keep the secret of a run's webhook, if it has one."""
        if webhook.get("secret") is not None:
            self._secrets[run_id] = webhook["secret"]

    async def claim(self, now_s: float, until_s: float, limit: int = 100) -> Sequence[Undelivered]:
        due = [run for run in self._runs.values() if _due_at_s(run) <= now_s]
        found: list[Undelivered] = []
        for run in sorted(due, key=_due_at_s)[:limit]:
            if run.webhook is not None:
                delivery = replace(run.webhook, due_at_s=until_s)
                self._runs[run.id] = claimed = replace(run, webhook=delivery)
                found.append(Undelivered(claimed, delivery, self._secrets.get(run.id)))
        return found

    async def note(self, run_id: str, delivery: Delivery) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            self._runs[run_id] = replace(run, webhook=delivery)
        if delivery.due_at_s is None:
            self._secrets.pop(run_id, None)


def _due_at_s(run: RunRecord) -> float:
    due_at_s = run.webhook.due_at_s if run.webhook is not None and run.finished_at_s is not None else None
    return float("inf") if due_at_s is None else due_at_s


def _claimed(connection: Connection, values: Mapping[str, Any]) -> list[Undelivered]:
    found: list[Undelivered] = []
    for row in connection.execute(_CLAIM, values):
        run = run_record(row)
        if run.webhook is not None:
            found.append(Undelivered(run, run.webhook, decode(unpack(row.webhook)).get("secret")))
    return found


def _note(connection: Connection, run_id: str, delivery: Delivery) -> None:
    so_far = {
        "attempts": delivery.attempts,
        "last_at_s": delivery.last_at_s,
        "answer": delivery.answer,
        "is_delivered": delivery.is_delivered,
    }
    connection.execute(_NOTE, {"run_id": run_id, "due_at": delivery.due_at_s, "so_far": pack(encode(so_far))})
    if delivery.due_at_s is None:
        connection.execute(_FORGET, {"run_id": run_id, "bare": pack(encode({"url": delivery.url}))})
