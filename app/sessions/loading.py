"""From a MACHINE on the command line to a Machine that is known to work, or to one line that says why not."""

import difflib
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin, get_type_hints

from app.engine.builder import ApplicationBuilder
from app.engine.errors import EngineError
from app.engine.machine import Machine, machine, takes_no_arguments
from app.executors.errors import UnknownRung
from app.executors.rungs import rung_named
from app.sessions.importing import ImportRefused, describe, import_file, import_module

__all__ = ["MachineLoadError", "MachineSpec", "load_machine", "load_machines", "parse_spec"]

_NEEDED = "a function without arguments that returns an ApplicationBuilder"


class MachineLoadError(Exception):
    """A machine cannot be hosted. `spec` is what the user asked for, `reason` the one line that says what is wrong with it."""

    def __init__(self, spec: str, reason: str) -> None:
        self.spec = spec
        self.reason = " ".join(reason.split())
        super().__init__(f"machine {spec!r}: {self.reason}")


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """Where a machine is, a file or the name of a module, and what it is called there; None for the only one."""

    text: str
    place: Path | str
    name: str | None

    @property
    def origin(self) -> str:
        """The same, for a process that may have another current folder."""
        place = self.place.absolute() if isinstance(self.place, Path) else self.place
        return f"{place}:{self.name}" if self.name else str(place)


def parse_spec(text: str) -> MachineSpec:
    """Read `package.module:name`, `path/to/file.py:name` or `path/to/file.py`. Raises MachineLoadError for anything else."""
    place, colon, name = text.rpartition(":")
    if not colon or os.sep in name or name.endswith(".py"):  # the colon, if any, belongs to the path
        place, colon, name = text, "", ""
    if colon and not name.isidentifier():
        raise MachineLoadError(text, f"after the ':' stands {name!r} instead of the name of a function")
    if place.endswith(".py") or os.sep in place:
        return MachineSpec(text, Path(place), name or None)
    if not all(part.isidentifier() for part in place.split(".")):
        raise MachineLoadError(text, "expected package.module:name, path/to/file.py:name or path/to/file.py")
    return MachineSpec(text, place, name or None)


def load_machines(specs: Sequence[str]) -> tuple[Machine, ...]:
    """Load all of `specs`, each checked down to its graph. Raises MachineLoadError, also for two machines of one name."""
    origins: dict[str, str] = {}
    machines = []
    for spec in specs:
        loaded = load_machine(spec)
        if loaded.name in origins:
            other = origins[loaded.name]
            raise MachineLoadError(
                spec, f"{other!r} is also named {loaded.name!r}: give one of them another name with @machine(name=...)"
            )
        origins[loaded.name] = spec
        machines.append(loaded)
    return tuple(machines)


def load_machine(text: str) -> Machine:
    """Return the machine at `text`, its blueprint made and valid. Raises MachineLoadError."""
    spec = parse_spec(text)
    try:
        module = import_file(spec.place) if isinstance(spec.place, Path) else import_module(spec.place)
        found = _only(spec, module) if spec.name is None else _named(spec, spec.name, module)
        loaded = found if isinstance(found, Machine) else machine(found)
    except (ImportRefused, EngineError) as exc:
        raise MachineLoadError(text, str(exc)) from exc
    loaded = replace(loaded, origin=spec.origin)
    _check(text, loaded)
    return loaded


def _named(spec: MachineSpec, name: str, module: ModuleType) -> Any:
    try:
        found = getattr(module, name)
    except AttributeError:
        candidates = list(dict.fromkeys(each for each, _ in [*_machines(module), *_factories(module)]))
        near = difflib.get_close_matches(name, candidates, n=3) or candidates[:3]
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ", and nothing else in it makes a machine"
        raise MachineLoadError(spec.text, f"{spec.place} has no {name!r}{hint}") from None
    if isinstance(found, ApplicationBuilder) or not callable(found):
        raise MachineLoadError(spec.text, f"{name!r} is of type {type(found).__name__}, expected {_NEEDED}")
    return found


def _only(spec: MachineSpec, module: ModuleType) -> Any:
    """The one machine of `module`: a Machine if there is one, else the one function that says it returns a builder.

    Where no function says so, the one that could be it: without arguments, without annotation, and not called `main`.
    """
    candidates: list[tuple[str, Any]] = [*_machines(module)] or [*_factories(module)] or [*_silent(module)]
    match list({id(each): (name, each) for name, each in candidates}.values()):
        case [(_, only)]:
            return only
        case []:
            raise MachineLoadError(spec.text, f"it has no machine: no @machine, nor {_NEEDED}")
        case several:
            names = ", ".join(f"{spec.place}:{name}" for name, _ in several)
            raise MachineLoadError(spec.text, f"it has {len(several)} machines, choose from {names}")


def _machines(module: ModuleType) -> Iterator[tuple[str, Machine]]:
    """The machines of `module`; imported ones count only if it makes none itself."""
    found = [(name, each) for name, each in vars(module).items() if isinstance(each, Machine)]
    yield from [pair for pair in found if getattr(pair[1].factory, "__module__", None) == module.__name__] or found


def _factories(module: ModuleType) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, each in vars(module).items():
        if inspect.isfunction(each) and each.__module__ == module.__name__ and takes_no_arguments(each) and _makes_builder(each):
            yield name, each


def _silent(module: ModuleType) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, each in vars(module).items():
        is_plain = inspect.isfunction(each) and not inspect.iscoroutinefunction(each) and not inspect.isgeneratorfunction(each)
        is_own = is_plain and each.__module__ == module.__name__ and not each.__annotations__ and name != "main"
        if is_own and not name.startswith("_") and takes_no_arguments(each):
            yield name, each


def _makes_builder(function: Callable[..., Any]) -> bool:
    try:
        returned = get_type_hints(function).get("return")
    except (NameError, TypeError):  # a hint that holds only for type checkers
        return False
    kind = get_origin(returned) or returned  # ApplicationBuilder[Any] is one, too
    return inspect.isclass(kind) and issubclass(kind, ApplicationBuilder)


def _check(text: str, loaded: Machine) -> None:
    who = f"machine {loaded.name!r}"
    try:
        rung_named(loaded.options.executor)
        for action in loaded.blueprint.graph.actions:
            who = f"action {action.name!r}"
            rung_named(action.executor, is_async=action.is_async())
    except UnknownRung as exc:
        raise MachineLoadError(text, f"it does not validate: {who}: {exc}") from exc
    except EngineError as exc:
        raise MachineLoadError(text, f"it does not validate: {exc}") from exc
    except Exception as exc:  # the border to the user's code
        raise MachineLoadError(text, f"making it raised {describe(exc)}") from exc
