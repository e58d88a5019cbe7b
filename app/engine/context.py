"""What an action can know of the application that it runs in, and how it gets hold of it.

An action takes it as its parameter `__context`, or asks `ApplicationContext.get()`. The drivers set the call that is under way;
the context is only made when somebody asks.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from threading import get_ident
from typing import TYPE_CHECKING, Any, Self

from app.engine.tracing import TracerFactory, tracer_factory_context_var

if TYPE_CHECKING:
    from app.engine.blueprint import Blueprint
    from app.engine.core import Instance
    from app.engine.effects import ActionCall
    from app.engine.persistence_ports import AsyncBaseStateLoader, AsyncBaseStateSaver, BaseStateLoader, BaseStateSaver
    from app.engine.ports import RunPorts

__all__ = ["ApplicationContext", "ApplicationIdentifiers", "entered", "ports_around", "tracer_of"]


@dataclass
class ApplicationIdentifiers:
    """Which application, and which of its steps."""

    app_id: str
    partition_key: str | None
    sequence_id: int | None


@dataclass
class ApplicationContext(ApplicationIdentifiers, AbstractContextManager["ApplicationContext"]):
    """What an action may want to know: to start applications of its own, or to do something exactly once.

    `idempotency_token` is the same for every attempt at this step and for no other step; `run_id` is the host's name for the
    run, if there is a host. Entering the context makes it the current one.
    """

    tracker: Any
    parallel_executor_factory: Callable[[], Executor] | None
    state_initializer: "BaseStateLoader | AsyncBaseStateLoader | None"
    state_persister: "BaseStateSaver | AsyncBaseStateSaver | Any | None"
    action_name: str | None
    run_id: str | None = None
    _tokens: list[Token[Any]] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def idempotency_token(self) -> str:
        return f"{self.app_id}:{self.sequence_id}"

    @staticmethod
    def get() -> "ApplicationContext | None":
        """Return the context of the action that runs here, or of the context that was entered last; None outside of both."""
        current = _current.get()
        return current if current is None or isinstance(current, ApplicationContext) else ApplicationContext.of(current)

    @staticmethod
    def of(call: "ActionCall") -> "ApplicationContext":
        """Return the context of one call."""
        run = call.run
        return ApplicationContext.at(run.blueprint, run.instance, call.seq, call.record.name, run.run_id)

    @staticmethod
    def at(
        blueprint: "Blueprint", instance: "Instance", seq: int | None, action_name: str | None, run_id: str | None = None
    ) -> "ApplicationContext":
        """Return the context of a step of one application."""
        return ApplicationContext(
            app_id=instance.app_id,
            partition_key=instance.partition_key,
            sequence_id=seq,
            tracker=blueprint.tracker,
            parallel_executor_factory=blueprint.parallel_executor_factory,
            state_initializer=blueprint.state_initializer,
            state_persister=blueprint.state_persister,
            action_name=action_name,
            run_id=run_id,
        )

    def __enter__(self) -> Self:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._tokens.pop())

    def __reduce__(self) -> tuple[Any, ...]:
        # what lives in this process stays in it: another one gets the names alone
        names = (self.app_id, self.partition_key, self.sequence_id)
        return ApplicationContext, (*names, None, None, None, None, self.action_name, self.run_id)


_current: ContextVar["ApplicationContext | ActionCall | None"] = ContextVar("application_context", default=None)


set_current = _current.set
reset_current = _current.reset


class entered:  # noqa: N801  # a context manager, used as a verb
    """Makes a call the current one while its action runs, and its tracer the one that `trace` finds."""

    __slots__ = ("_call", "_token", "_tracer_token")

    def __init__(self, call: "ActionCall") -> None:
        self._call = call

    def __enter__(self) -> None:
        self._token = _current.set(self._call)
        tracer = self._call.tracer
        self._tracer_token = None if tracer is None else tracer_factory_context_var.set(tracer)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
        if self._tracer_token is not None:
            tracer_factory_context_var.reset(self._tracer_token)


def ports_around() -> "RunPorts | None":
    """Return the ports of the async run whose action is under way here; None outside of one.

    None, too, for code that the action has taken to another thread: an event loop there cannot use them.
    """
    current = _current.get()
    if current is None or isinstance(current, ApplicationContext):
        return None
    return current.run.ports if current.run.thread_id == get_ident() else None


def tracer_of(call: "ActionCall") -> TracerFactory:
    """Return a tracer for one call."""
    instance = call.run.instance
    return TracerFactory(
        action=call.record.name,
        sequence_id=call.seq,
        app_id=instance.app_id,
        partition_key=instance.partition_key,
        lifecycle_adapters=call.run.blueprint.hooks,
        call_hook=None if call.run.ports is None else call.run.ports.call_hook,
    )
