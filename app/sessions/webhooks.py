"""Tells of the ends of runs, until whoever wants to know has heard it. What is due is in the store, not in a process.

A webhook that is taken is hidden from the other replicas for as long as an attempt may last; when this process dies over it,
somebody tries again after that. So it may come more than once, always under the same id.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx

from app.persistence.records import Delivery, Undelivered
from app.persistence.store import SessionNotFound, Store, StoreError
from app.sessions.courier import AddressRefused, Courier
from app.sessions.webhook_messages import WebhookSettings, checked, headers_of, is_allowed_host, message_of_run, pause_s
from app.system.clocks import current_time_s

__all__ = ["Webhooks"]

_LOOK_EVERY_S = 1.0
_MARGIN_S = 20.0  # between the longest attempt and the moment at which somebody else may try
_CROWDED_S = 2.0  # until a host that has many on their way is looked at again

logger = logging.getLogger(__name__)


class Webhooks:
    """The webhooks of a store that this process sends."""

    def __init__(self, store: Store, settings: WebhookSettings) -> None:
        """Raises WebhookInvalid for a secret that cannot be one."""
        if settings.secret:
            headers_of("", 0.0, b"", settings.secret)
        self._store = store
        self._settings = settings
        self._courier = Courier(settings)
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._on_their_way: set[asyncio.Task[None]] = set()
        self._hosts: Counter[str] = Counter()

    def accept(self, webhook: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Return a client's webhook as it is stored. Raises WebhookInvalid."""
        return None if webhook is None else checked(webhook, self._settings)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._main())

    def look(self) -> None:
        """Say that a run has ended: do not wait for the next look."""
        self._news.set()

    async def close(self) -> None:
        """Break off what is on its way; it is tried again by whoever looks next."""
        for task in filter(None, [self._task, *self._on_their_way]):
            task.cancel()
            await asyncio.wait([task])
        await self._courier.close()

    async def _main(self) -> None:
        while True:
            try:
                await self._send_what_is_due()
            except StoreError as exc:
                logger.warning("webhooks cannot be looked up", extra={"error": str(exc)})
            except Exception:  # the border of a background task: nobody awaits it
                logger.exception("webhooks cannot be looked up")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._news.wait()
            self._news.clear()

    async def _send_what_is_due(self) -> None:
        while (room := self._settings.at_once - len(self._on_their_way)) > 0:
            now_s = current_time_s()
            due = await self._store.outbox.claim(now_s, now_s + self._settings.timeout_s + _MARGIN_S, room)
            for each in due:
                task = asyncio.get_running_loop().create_task(self._told(each))
                self._on_their_way.add(task)
                task.add_done_callback(self._arrived)
            if len(due) < room:
                return

    def _arrived(self, task: asyncio.Task[None]) -> None:
        if len(self._on_their_way) == self._settings.at_once:
            self._news.set()  # more may have waited for room
        self._on_their_way.discard(task)

    async def _told(self, due: Undelivered) -> None:
        host = urlsplit(due.delivery.url).hostname or ""
        names = {"run_id": due.run.id, "session_id": due.run.session_id, "host": host}
        try:
            if self._hosts[host] >= self._settings.at_once_per_host:
                delivery = replace(
                    due.delivery, due_at_s=current_time_s() + _CROWDED_S
                )  # a host that is slow must not hold up others
            else:
                self._hosts[host] += 1
                try:
                    delivery = self._after(due.delivery, await self._attempt(due, host))
                finally:
                    self._hosts[host] -= 1
                if delivery.due_at_s is None and not delivery.is_delivered:
                    told = {"attempts": delivery.attempts, "answer": delivery.answer}
                    logger.warning("a webhook is given up", extra={**names, **told})
            await self._store.outbox.note(due.run.id, delivery)
        except SessionNotFound:
            pass  # it was deleted meanwhile, and its runs with it
        except StoreError as exc:
            logger.warning("what came of a webhook could not be stored", extra={**names, "error": str(exc)})
        except Exception:  # the border of a task that nobody awaits
            logger.exception("a webhook could not be sent", extra=names)

    async def _attempt(self, due: Undelivered, host: str) -> str:
        """Return what the other side answered, or what kept it from answering."""
        run = due.run
        seq = (await self._store.get_session(run.session_id)).seq  # first: a step may follow between the two
        for later in await self._store.steps_after_event(run.session_id, run.finished_event_id or 0, limit=1):
            seq = later.seq - 1
        body = message_of_run(run, seq)
        headers = headers_of(run.id, current_time_s(), body, due.secret or self._settings.secret)
        if not is_allowed_host(host, self._settings):
            return AddressRefused.__name__
        try:
            return str(await self._courier.post(due.delivery.url, headers, body))
        except (AddressRefused, TimeoutError, OSError, httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
            return type(exc).__name__

    def _after(self, delivery: Delivery, answer: str) -> Delivery:
        """Return how far a webhook has got with this answer to one more attempt."""
        attempts = delivery.attempts + 1
        now_s = current_time_s()
        is_delivered = answer.startswith("2")
        is_over = is_delivered or answer == str(HTTPStatus.GONE.value) or attempts >= self._settings.attempts
        due_at_s = None if is_over else now_s + pause_s(attempts, self._settings.first_pause_s)
        return Delivery(delivery.url, due_at_s, attempts, now_s, answer, is_delivered)
