"""The composition root: puts store, sessions and routes together, for the command and for `uvicorn app.main:app`.

Importing this does nothing. The attribute `app` is made on first use, configured by the environment alone.
"""

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from app.banner import without_password
from app.collector import seldom_collecting
from app.engine.machine import Machine
from app.engine.serde import permit_modules
from app.executors.errors import ExecutorError
from app.executors.ladder import ExecutorSettings
from app.executors.rungs import Rung
from app.exiting import ExitWatch
from app.logging_setup import set_up_logging
from app.persistence.factory import open_store
from app.persistence.store import Store, StoreError
from app.persistence.urls import DatabaseUrlInvalid
from app.routes.api import build_api
from app.routes.fast_lane import Api
from app.routes.http.checks import RequestChecks
from app.routes.http.limits import ConnectionLimits
from app.serving import most_connections, told_of_signals
from app.sessions.claims import ClaimSettings
from app.sessions.errors import WebhookInvalid
from app.sessions.failures import hide_messages
from app.sessions.host import SessionHost
from app.sessions.host_settings import HostSettings
from app.sessions.housekeeping import Retention
from app.sessions.loading import MachineLoadError, load_machines
from app.sessions.metadata import MetadataLimits
from app.sessions.webhook_messages import WebhookSettings
from app.settings import Settings, SettingsInvalid, read_settings

__all__ = ["StartupError", "connection_limits", "create_app", "machines_of"]

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class StartupError(Exception):
    """The service cannot start; the message is one line for whoever started it."""


def create_app(
    settings: Settings, machines: Sequence[Machine], address: str | None = None, exits: ExitWatch | None = None
) -> Api:
    """Return the service, which opens its database when its lifespan begins. `address` is where it listens, if that is known.

    `exits` ends the process if user code holds it up after a signal.

    Raises StartupError here for settings that cannot work, and at the start of the lifespan for a database that does not.
    """
    if not machines:
        raise StartupError("no machine to host: name one, as in `stepwell serve examples/counter.py`, or set STEPWELL_MACHINES")
    hide_messages(settings.hide_error_messages)
    try:
        host = SessionHost(machines, _store(settings), _host_settings(settings, address))
    except (ExecutorError, WebhookInvalid) as exc:
        raise StartupError(str(exc)) from exc

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if exits is not None:
                stack.callback(exits.closed)
            stack.enter_context(seldom_collecting())  # takes long, so it is done before the host watches the loop
            try:
                await stack.enter_async_context(host)
            except StoreError as exc:
                raise StartupError(_database_line(settings, exc)) from exc
            except ExecutorError as exc:
                raise StartupError(" ".join(str(exc).split())) from exc
            stack.enter_context(told_of_signals(host.begin_drain) if exits is None else _watched(host, exits))
            yield

    checks = RequestChecks.of(settings.allowed_hosts, settings.allowed_origins, host.settings.url)
    api = build_api(host, lifespan=lifespan, max_body_bytes=settings.max_body_bytes, checks=checks)
    _tell_failed_starts_in_one_line(api)
    return api


def _watched(host: SessionHost, exits: ExitWatch) -> contextlib.AbstractContextManager[None]:
    def drain() -> None:
        exits.draining()
        host.begin_drain()

    return told_of_signals(drain, exits.signalled)


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Return what a connection may do, for the server of `create_app`'s application."""
    return ConnectionLimits(head_timeout_s=settings.request_timeout_s, connections=settings.max_connections or most_connections())


def __getattr__(name: str) -> FastAPI:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        settings = read_settings()
        set_up_logging(settings.log_level, settings.log_format)
        exits = ExitWatch(settings.shutdown_grace_s, leaves_by_signal=True)
        made = create_app(settings, machines_of(settings), exits=exits)
    except (SettingsInvalid, MachineLoadError, StartupError) as exc:
        sys.stderr.write(f"stepwell: {exc}\n")
        raise SystemExit(2) from exc
    globals()["app"] = made
    return made


def machines_of(settings: Settings) -> tuple[Machine, ...]:
    """Load the machines, once in this process: classes of modules that are not loaded then are not read from its store.

    Raises MachineLoadError.
    """
    machines = load_machines(settings.machines)
    permit_modules(settings.state_modules)
    return machines


def _store(settings: Settings) -> Store:
    try:
        return open_store(
            settings.database_url,
            migrate=settings.migrate,
            pool_size=settings.database_pool,
            is_pgbouncer=settings.pgbouncer,
            background_runs=settings.background_runs,
        )
    except DatabaseUrlInvalid as exc:
        raise StartupError(_database_line(settings, exc)) from exc


def _database_line(settings: Settings, exc: StoreError) -> str:
    return f"database {without_password(settings.database_url)}: {' '.join(str(exc).split())}"


def _host_settings(settings: Settings, address: str | None) -> HostSettings:
    return HostSettings(
        idle_ttl_s=settings.idle_ttl_s,
        max_live_sessions=settings.max_live_sessions,
        ping_s=settings.sse_ping_s,
        shutdown_grace_s=settings.shutdown_grace_s,
        key_ttl_s=settings.idempotency_ttl_s,
        session_ttl_s=settings.session_ttl_s,
        retention=Retention(settings.history_steps, settings.history_days),
        metadata=MetadataLimits(settings.max_metadata_names, settings.max_metadata_bytes),
        url=settings.replica_url or address or f"http://{settings.host}:{settings.port}",
        webhooks=WebhookSettings(
            secret=settings.webhook_secret,
            hosts=tuple(host.lower() for host in settings.webhook_hosts),
            is_private_allowed=_is_private_allowed(settings, address),
            attempts=settings.webhook_attempts,
            timeout_s=settings.webhook_timeout_s,
        ),
        claims=ClaimSettings(stuck_after_s=settings.stuck_after_s),
        executors=_executor_settings(settings),
    )


def _is_private_allowed(settings: Settings, address: str | None) -> bool:
    """Whether webhooks may go to private addresses: who can only be asked from this machine may also answer to it."""
    if settings.webhook_private is not None:
        return settings.webhook_private
    return address is not None and settings.host in _LOOPBACK


def _executor_settings(settings: Settings) -> ExecutorSettings:
    return ExecutorSettings(
        default=Rung(settings.executor),
        threads=settings.threads,
        thread_replacements=settings.threads,
        processes=settings.processes or os.cpu_count() or 1,
        process_recycle_after=settings.process_recycle_after,
        start_method=settings.process_start,
        dask=settings.dask or None,
        loop_lag_budget_s=settings.loop_lag_budget_ms / 1e3 or None,
        isolate_blocking=settings.isolate_blocking,
    )


def _tell_failed_starts_in_one_line(api: FastAPI) -> None:
    """Make a server log the line of a StartupError, where it would log the traceback that Starlette sends."""
    lifespan = api.router.lifespan

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_line(message: Message) -> None:
            error: Any = sys.exception()
            if message["type"] == "lifespan.startup.failed" and isinstance(error, StartupError):
                message = {**message, "message": str(error)}
            await send(message)

        await lifespan(scope, receive, send_line)

    api.router.lifespan = told  # type: ignore[method-assign]  # a middleware would cost every request, for this one message
