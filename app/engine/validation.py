"""What can be seen to be wrong with a graph before anything runs. Findings are values; whoever asks decides what to do with them.

Everything here is about what *can* happen: an action may delete keys, a caller may give more state than the default, a condition
may never hold. So findings are warnings unless a builder is told otherwise.
"""

import warnings
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from app.engine.actions import Action
from app.engine.conditions import OnError, default
from app.engine.errors import BuildError, nearest
from app.engine.graph import Graph, Transition

__all__ = ["Finding", "FindingKind", "GraphWarning", "InvalidGraph", "ValidationMode", "assert_set", "report", "validate"]

ValidationMode: TypeAlias = Literal["warn", "error", "off"]

_INJECTED = frozenset({"__context", "__tracer"})


class GraphWarning(UserWarning):
    """A graph has something that is probably a mistake."""


class FindingKind(StrEnum):
    """What is wrong."""

    UNREACHABLE_ACTION = "unreachable_action"
    UNREACHABLE_TRANSITION = "unreachable_transition"
    UNWRITTEN_KEY = "unwritten_key"
    IMPOSSIBLE_INPUT = "impossible_input"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with `action`. `path` holds the names of actions on a way on which it goes wrong."""

    kind: FindingKind
    action: str
    message: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.message


class InvalidGraph(BuildError):
    """A graph has findings, and its builder was told to accept none."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(finding.message for finding in findings))
        self.findings = tuple(findings)


def validate(graph: Graph, entrypoint: str, state_keys: Collection[str] = ()) -> list[Finding]:
    """Return what is wrong with `graph` when it begins at `entrypoint` with a state that has `state_keys`.

    Raises UnknownAction if there is no such entrypoint.
    """
    start = graph.get_action(entrypoint).name
    edges = _edges(graph)
    reachable = _reachable(start, edges)
    return [
        *_unreachable(graph, start, reachable),
        *_never_taken(graph),
        *_unwritten(graph, start, edges, reachable, frozenset(state_keys)),
        *_impossible_inputs(graph, start, edges, reachable),
    ]


def report(graph: Graph, entrypoint: str, state_keys: Collection[str], mode: ValidationMode) -> bool:
    """Warn of each finding, raise InvalidGraph for all of them, or do not look, as `mode` says. Returns whether it warned.

    A graph that many applications are made of is looked at, and warned of, once.
    """
    known: tuple[Any, ...] = vars(graph).get("_reported", ())
    question = (entrypoint, tuple(sorted(state_keys)), mode)
    if mode == "off" or question in known:
        return False
    findings = validate(graph, entrypoint, state_keys)
    if findings and mode == "error":
        raise InvalidGraph(findings)
    vars(graph)["_reported"] = (*known[1 - _REMEMBERED :], question)  # a graph lives longer than what its states are like
    for finding in findings:
        warnings.warn(finding.message, GraphWarning, stacklevel=5)
    return bool(findings)


def assert_set(value: Any, field: str, method: str) -> None:
    """Raise BuildError, which names the method to call, if `value` is None."""
    if value is None:
        raise BuildError(f"{field.lstrip('_')} is not set; call {method} before building")


_REMEMBERED = 8

Edges = Mapping[str, Sequence[Transition]]


def _edges(graph: Graph) -> dict[str, list[Transition]]:
    edges: dict[str, list[Transition]] = {action.name: [] for action in graph.actions}
    for transition in graph.transitions:
        edges[transition.from_.name].append(transition)
    return edges


def _can_be_taken(transitions: Sequence[Transition]) -> Iterator[Transition]:
    """Yield the transitions of one action that its default one does not hide; those on errors are looked at apart."""
    is_hidden = False
    for transition in transitions:
        is_rescue = isinstance(transition.condition, OnError)
        if is_rescue or not is_hidden:
            yield transition
        is_hidden = is_hidden or transition.condition is default


def _reachable(start: str, edges: Edges) -> set[str]:
    seen, waiting = {start}, [start]
    while waiting:
        for transition in _can_be_taken(edges[waiting.pop()]):
            if transition.to.name not in seen:
                seen.add(transition.to.name)
                waiting.append(transition.to.name)
    return seen


def _unreachable(graph: Graph, start: str, reachable: Collection[str]) -> Iterator[Finding]:
    for action in graph.actions:
        if action.name not in reachable:
            message = f"action {action.name!r} is never reached: no way leads to it from the entrypoint {start!r}"
            yield Finding(FindingKind.UNREACHABLE_ACTION, action.name, message)


def _never_taken(graph: Graph) -> Iterator[Finding]:
    for name, transitions in _edges(graph).items():
        open_ones = list(_can_be_taken(transitions))
        for transition in transitions:
            if transition not in open_ones:
                yield Finding(
                    FindingKind.UNREACHABLE_TRANSITION,
                    name,
                    f"the transition {name!r} -> {transition.to.name!r} is never taken: the default transition comes before it",
                    (name, transition.to.name),
                )


def _unwritten(
    graph: Graph, start: str, edges: Edges, reachable: Collection[str], state_keys: frozenset[str]
) -> Iterator[Finding]:
    written = {key for action in graph.actions for key in action.writes} | state_keys
    for action in graph.actions:
        if action.name not in reachable:
            continue
        for key in dict.fromkeys(action.reads):
            path = None if key in state_keys else _path_without(graph, start, edges, key, action.name)
            if path is not None:
                yield _unwritten_finding(action.name, f"action {action.name!r} reads {key!r}", key, path, written)
        for transition in _can_be_taken(edges[action.name]):
            condition = transition.condition
            for key in () if condition is default else dict.fromkeys(condition.reads):
                is_there = key in state_keys or (key in action.writes and not isinstance(condition, OnError))
                path = None if is_there else _path_without(graph, start, edges, key, action.name)
                if path is not None:
                    edge = f"the condition {condition.name!r} of {action.name!r} -> {transition.to.name!r} reads {key!r}"
                    yield _unwritten_finding(action.name, edge, key, path, written)


def _path_without(graph: Graph, start: str, edges: Edges, key: str, end: str) -> tuple[str, ...] | None:
    """Return the shortest way from `start` to `end` on which no action before `end` has written `key`."""
    came_from: dict[str, str | None] = {start: None}
    waiting = deque([start])
    while waiting:
        name = waiting.popleft()
        if name == end:
            return _back(came_from, end)
        writes = key in graph.get_action(name).writes
        for transition in _can_be_taken(edges[name]):
            # an action that failed has written nothing
            if transition.to.name not in came_from and (not writes or isinstance(transition.condition, OnError)):
                came_from[transition.to.name] = name
                waiting.append(transition.to.name)
    return None


def _back(came_from: Mapping[str, str | None], end: str) -> tuple[str, ...]:
    way = [end]
    while (before := came_from[way[-1]]) is not None:
        way.append(before)
    return tuple(reversed(way))


def _unwritten_finding(action: str, subject: str, key: str, path: tuple[str, ...], written: Collection[str]) -> Finding:
    hint = "" if key in written else nearest(key, written)
    message = f"{subject}, which nothing has written on the way {' -> '.join(path)}{hint}"
    return Finding(FindingKind.UNWRITTEN_KEY, action, message, path)


def _impossible_inputs(graph: Graph, start: str, edges: Edges, reachable: Collection[str]) -> Iterator[Finding]:
    """Inputs come with the call of a run and reach its first step; an action that handles an error is never the first."""
    regular = {start}
    for name in reachable:
        regular |= {each.to.name for each in _can_be_taken(edges[name]) if not isinstance(each.condition, OnError)}
    for action in graph.actions:
        required = _required(action)
        if reserved := sorted(name for name in required if name.startswith("__")):
            message = f"action {action.name!r} needs the inputs {reserved}, which nobody can give: such names are reserved"
            yield Finding(FindingKind.IMPOSSIBLE_INPUT, action.name, message)
        if not required or action.name not in reachable:
            continue
        for transition in graph.transitions:
            if transition.to is not action or not isinstance(transition.condition, OnError):
                continue
            path = (transition.from_.name, action.name)
            never = "" if action.name in regular else f", and {action.name!r} is never first in a run"
            message = (
                f"action {action.name!r} needs the inputs {sorted(required)}, but an error in {path[0]!r} leads to it without "
                f"any{never}"
            )
            yield Finding(FindingKind.IMPOSSIBLE_INPUT, action.name, message, path)


def _required(action: Action) -> set[str]:
    return action.optional_and_required_inputs[0] - _INJECTED
