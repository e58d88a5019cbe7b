"""A machine: a named, versioned definition that a host can start any number of sessions from.

Holds the `machine` decorator and its value, and nothing about where a machine was found: that is the loader's affair.
"""

import hashlib
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from app.engine.builder import ApplicationBuilder
from app.engine.errors import EngineError

if TYPE_CHECKING:
    from app.engine.blueprint import Blueprint

__all__ = ["Machine", "MachineFactory", "MachineOptions", "MachineRejected", "machine"]

MachineFactory = Callable[[], ApplicationBuilder[Any]]

_LONGEST_TTL_S = 3_153_600_000  # a hundred years: what is much later has no date
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class MachineRejected(EngineError, ValueError):
    """A machine cannot be made from what was given: a name that does not fit a URL, a function with arguments."""


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """What a machine asks of its host. None leaves the choice to the host's settings.

    `executor` names the executor of its sync actions that name none themselves. Sessions expire after `ttl_s` seconds in which
    nothing happens (infinity: never). Of their history at least the last `history_steps` are kept, and what is older than
    `history_days` is not.
    """

    executor: str | None = None
    ttl_s: float | None = None
    history_steps: int | None = None
    history_days: float | None = None

    def __post_init__(self) -> None:
        for name in ("ttl_s", "history_steps", "history_days"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise MachineRejected(f"{name} must be above 0, or None; it is {value!r}")
        if self.ttl_s is not None and _LONGEST_TTL_S < self.ttl_s < math.inf:
            raise MachineRejected(f"ttl_s must be at most {_LONGEST_TTL_S}, or infinity; it is {self.ttl_s!r}")


@dataclass(frozen=True)
class Machine:
    """A definition by name. `factory` makes a fresh ApplicationBuilder; calling the machine calls it.

    `origin` is where another process finds it, as on a command line; None for a machine that was made in place.
    """

    name: str
    factory: MachineFactory
    description: str = ""
    declared_version: str | None = None
    options: MachineOptions = field(default_factory=MachineOptions)
    origin: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise MachineRejected(
                f"machine name {self.name!r} must be 1 to 100 letters, digits, '.', '_' or '-', the first a letter or a digit"
            )

    def __call__(self) -> ApplicationBuilder[Any]:
        return self.factory()

    @cached_property
    def blueprint(self) -> "Blueprint":
        """The compiled graph, made on first use.

        Raises MachineRejected if the factory returns no builder, and passes on what it or the builder raises.
        """
        builder: object = self.factory()
        if not isinstance(builder, ApplicationBuilder):
            raise MachineRejected(f"machine {self.name!r} returned {type(builder).__name__}, expected an ApplicationBuilder")
        return builder.blueprint()

    @cached_property
    def version(self) -> str:
        """The declared version, or a digest that changes when the graph does: names, reads, writes, inputs, transitions."""
        return self.declared_version or _digest(self.blueprint)


@overload
def machine(factory: MachineFactory, /) -> Machine: ...


@overload
def machine(
    *,
    name: str | None = None,
    version: str | None = None,
    executor: str | None = None,
    ttl_s: float | None = None,
    history_steps: int | None = None,
    history_days: float | None = None,
) -> Callable[[MachineFactory], Machine]: ...


def machine(
    factory: MachineFactory | None = None,
    /,
    *,
    name: str | None = None,
    version: str | None = None,
    executor: str | None = None,
    ttl_s: float | None = None,
    history_steps: int | None = None,
    history_days: float | None = None,
) -> Machine | Callable[[MachineFactory], Machine]:
    """Make a Machine of a function without arguments that returns an ApplicationBuilder.

    Used bare (`@machine`) or with options. The name defaults to the function's, the description is its docstring.
    What the options mean is said by MachineOptions.
    Raises MachineRejected for a function that takes arguments, and for a name that would not fit into a URL.
    """
    options = MachineOptions(executor, ttl_s, history_steps, history_days)

    def wrap(function: MachineFactory) -> Machine:
        label: str = getattr(function, "__name__", type(function).__name__)
        if not takes_no_arguments(function):
            raise MachineRejected(f"machine function {label!r} must not need arguments")
        if inspect.iscoroutinefunction(function):
            raise MachineRejected(f"machine function {label!r} must not be async: it returns a builder, not an application")
        return Machine(name or label, function, inspect.getdoc(function) or "", version, options)

    return wrap if factory is None else wrap(factory)


def takes_no_arguments(function: Callable[..., object]) -> bool:
    """Whether `function` can be called with nothing."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a builtin that does not tell
        return True
    return all(each.kind in kinds or each.default is not each.empty for each in parameters)


def _digest(blueprint: "Blueprint") -> str:
    graph = blueprint.graph
    lines = [f"entrypoint {blueprint.entrypoint}"]
    lines += sorted(
        f"action {action.name} {sorted(action.reads)} {sorted(action.writes)} {action.inputs}" for action in graph.actions
    )
    lines += [f"{edge.from_.name} -> {edge.to.name} if {edge.condition.name}" for edge in graph.transitions]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
