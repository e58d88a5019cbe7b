"""Who is who: for each action of each machine the rung it asks for, the one it is on, its figures and its notices."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from app.engine.actions import Action
from app.executors.measure import ActionFigures
from app.executors.notices import Notice, NoticeKind, Place
from app.executors.rungs import Rung, rung_named
from app.executors.travel import MachineSource

__all__ = ["Entry", "Redirect", "Roster"]

Redirect: TypeAlias = Callable[[str, Callable[[Callable[..., Any]], Callable[..., Any]]], None]
"""A blueprint's way to have an action called differently from now on: `redirect(name, wrap)`."""


@dataclass(slots=True, eq=False)
class Entry:
    """One action of one machine.

    `asked` is what the action, its machine or the service asks for, `is_chosen` whether one of the first two did; `rung`
    is where it is carried out now: `auto` shows as `thread` or `process`. `stalls` counts how often it has held the loop.
    """

    machine: str
    action: str
    asked: Rung
    is_chosen: bool
    rung: Rung
    source: MachineSource | None
    place: Place | None
    of_graph: Action | None = None  # the action itself, if the machine's graph has it: another process finds it by name
    redirect: Redirect | None = None
    is_streaming: bool = False
    is_settled: bool = False  # `auto` has decided, one way or the other
    stalls: int = 0
    figures: ActionFigures = field(default_factory=ActionFigures)
    notices: dict[NoticeKind, Notice] = field(default_factory=dict)

    def report(self) -> Mapping[str, Any]:
        """What a machine's description says of the action; JSON-able."""
        figures, calls = self.figures, max(1, self.figures.calls)
        return {
            "executor": self.asked.value,
            "runs_in": self.rung.value,
            "calls": figures.calls,
            "mean_wait_ms": round(figures.waited_s / calls * 1e3, 3),
            "mean_wall_ms": round(figures.wall_s / calls * 1e3, 3),
            "mean_cpu_ms": round(figures.cpu_s / calls * 1e3, 3),
        }


@dataclass(frozen=True, slots=True)
class _Machine:
    source: MachineSource | None
    executor: Rung | None
    redirect: Redirect | None


class Roster:
    """The entries by machine and action. Machines that were never registered have no source and no choice of their own."""

    def __init__(self, default: Rung) -> None:
        self._default = default
        self._machines: dict[str, _Machine] = {}
        self._entries: dict[tuple[str, str], Entry] = {}
        self._codes: dict[Any, tuple[str, str]] = {}

    def register(
        self,
        machine: str,
        *,
        source: MachineSource | None,
        executor: str | None,
        actions: Iterable[Action],
        redirect: Redirect | None,
    ) -> None:
        """Take a machine in. Raises UnknownRung when it or one of its actions asks for what there is not."""
        self._machines[machine] = _Machine(source, rung_named(executor), redirect)
        for action in actions:
            self.entry(machine, action).of_graph = action

    def entry(self, machine: str, action: Action) -> Entry:
        """Return the entry of `action`, made when it is first asked for. Raises UnknownRung.

        An action of a graph inside an action (a branch of a parallel one) is not of the machine's graph, and may share a
        name with one that is.
        """
        found = self._entries.get((machine, action.name))
        if found is not None and (found.of_graph is action or (found.of_graph is None and found.place == place_of(action))):
            return found
        key = (machine, action.name if found is None else f"{action.name} ({place_of(action)})")
        found = self._entries.get(key)
        if found is None:
            found = self._entries[key] = self._make(machine, action)
        return found

    def entries(self, machine: str | None = None) -> list[Entry]:
        return [entry for entry in self._entries.values() if machine in (None, entry.machine)]

    def owner_of(self, code: Any) -> tuple[str, str] | None:
        """Return the machine and the action whose function has this code object."""
        return self._codes.get(code)

    def find(self, machine: str | None, action: str | None) -> Entry | None:
        """Return the entry by names, if there is one."""
        return self._entries.get((machine or "", action or ""))

    def _make(self, machine: str, action: Action) -> Entry:
        known = self._machines.get(machine, _Machine(None, None, None))
        for code in codes_of(action):
            self._codes[code] = (machine, action.name)
        is_async = action.is_async()
        chosen = rung_named(action.executor, is_async=is_async)
        if not is_async:
            chosen = chosen or known.executor
        asked = chosen or (Rung.LOOP if is_async else self._default)
        return Entry(
            machine=machine,
            action=action.name,
            asked=asked,
            is_chosen=chosen is not None,
            rung=Rung.THREAD if asked is Rung.AUTO else asked,
            source=known.source,
            place=place_of(action),
            redirect=known.redirect,
            is_streaming=action.streaming,
        )


def codes_of(action: Action) -> list[Any]:
    """Return the code objects of the user's functions behind `action`."""
    functions = [getattr(action, "fn", None)]
    functions += [getattr(type(action), name, None) for name in ("run", "run_and_update", "stream_run", "stream_run_and_update")]
    codes = [getattr(function, "__code__", None) for function in functions]
    return [code for code in codes if code is not None and not code.co_filename.startswith(_ENGINE)]


def place_of(action: Action) -> Place | None:
    """Return the file and line of the user's code behind `action`."""
    codes = codes_of(action)
    return (codes[0].co_filename, codes[0].co_firstlineno) if codes else None


_ENGINE = Action.__init__.__code__.co_filename.rpartition("actions.py")[0]
