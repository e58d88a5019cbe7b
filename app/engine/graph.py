"""Actions and the transitions between them, and the builder that checks that they fit together.

A graph is static. What follows which action, given a state, is compiled into `app.engine.blueprint`.
"""

from collections.abc import Callable, Iterable, KeysView
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from app.engine.actions import Action
from app.engine.conditions import Condition, default
from app.engine.errors import BuildError, GraphError, UnknownAction, UnknownTag, kind_of
from app.engine.function_actions import create_action
from app.engine.state import State

if TYPE_CHECKING:
    import pathlib

    from app.engine.function_actions import FunctionRepresentingAction

__all__ = ["ApplicationGraph", "Graph", "GraphBuilder", "Transition"]

ActionLike: TypeAlias = "Action | Callable[..., Any] | FunctionRepresentingAction[Any]"
TransitionLike: TypeAlias = "tuple[str | list[str], str] | tuple[str | list[str], str, Condition]"


@dataclass(slots=True)
class Transition:
    """An edge: after `from_` comes `to`, if `condition` holds and no earlier transition of `from_` did."""

    from_: Action
    to: Action
    condition: Condition


@dataclass
class Graph:
    """Actions and transitions. Made by GraphBuilder or ApplicationBuilder; the order of transitions is their precedence."""

    actions: list[Action]
    transitions: list[Transition]

    def __post_init__(self) -> None:
        self._action_map = {action.name: action for action in self.actions}
        self._adjacency_map: dict[str, list[tuple[Condition, str]]] = {}
        for transition in self.transitions:
            self._adjacency_map.setdefault(transition.from_.name, []).append((transition.condition, transition.to.name))
        self._action_tag_map: dict[str, list[Action]] = {}
        for action in self.actions:
            for tag in action.tags:
                self._action_tag_map.setdefault(tag, []).append(action)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_compiled"}  # works anywhere, and is made again

    @property
    def action_names(self) -> KeysView[str]:
        """The names of the actions, in order."""
        return self._action_map.keys()

    @property
    def tagged(self) -> dict[str, list[Action]]:
        """The actions that have each tag, in order."""
        return self._action_tag_map

    def get_next_node(self, prior_step: str | None, state: State[Any], entrypoint: str) -> Action | None:
        """Return the action that comes after `prior_step`, or `entrypoint` when that is None; None when no transition holds."""
        if prior_step is None:
            return self.get_action(entrypoint)
        for condition, name in self.edges_from(prior_step):
            if condition.run(state)[Condition.KEY]:
                return self._action_map[name]
        return None

    def edges_from(self, action_name: str) -> list[tuple[Condition, str]]:
        """Return the conditions and targets of the transitions from an action, in order. Raises UnknownAction."""
        return self._adjacency_map.get(self.get_action(action_name).name, [])

    def get_action(self, action_name: str) -> Action:
        """Return the action of that name. Raises UnknownAction."""
        try:
            return self._action_map[action_name]
        except KeyError:
            raise UnknownAction(action_name, self._action_map) from None

    def get_actions_by_tag(self, tag: str) -> list[Action]:
        """Return the actions that have the tag. Raises UnknownTag when there are none."""
        try:
            return self._action_tag_map[tag]
        except KeyError:
            raise UnknownTag(tag, self._action_tag_map) from None

    def visualize(
        self,
        output_file_path: "str | pathlib.Path | None" = None,
        include_conditions: bool = False,
        include_state: bool = False,
        view: bool = False,
        engine: Literal["graphviz"] = "graphviz",
        write_dot: bool = False,
        **engine_kwargs: Any,
    ) -> Any:
        """Draw the graph. See `app.engine.visualize`."""
        from app.engine.visualize import visualize_graph  # drawing is not needed to run a machine

        return visualize_graph(
            self,
            output_file_path=output_file_path,
            include_conditions=include_conditions,
            include_state=include_state,
            view=view,
            engine=engine,
            write_dot=write_dot,
            **engine_kwargs,
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **kwargs: Any) -> Any:
        """Return what a notebook shows."""
        from app.engine.visualize import mimebundle  # drawing is not needed to run a machine

        return mimebundle(self, include=include, exclude=exclude, **kwargs)


class GraphBuilder:
    """Collects actions and transitions, and makes a Graph of them."""

    def __init__(self) -> None:
        self.actions: list[Action] | None = None
        self.transitions: list[tuple[str, str, Condition]] = []
        self._built: Graph | None = None  # what the calls so far come to, once it is known

    def with_actions(self, /, *action_list: ActionLike, **action_dict: ActionLike) -> Self:
        """Add actions: by keyword under that name, or decorated functions and named actions under their own."""
        self.actions, self._built = self.actions or [], None
        for given in action_list:
            if isinstance(given, Action):
                if not given.name:
                    raise GraphError(f"{type(given).__name__} has no name; pass it by keyword, or call with_name on it")
                self.actions.append(given)
            else:
                self.actions.append(create_action(given, getattr(given, "__name__", type(given).__name__)))
        self.actions += [create_action(given, name) for name, given in action_dict.items()]
        return self

    def with_transitions(self, *transitions: TransitionLike) -> Self:
        """Add transitions `(from, to)` or `(from, to, condition)`; `from` may be a list of names. Order is precedence."""
        self._built = None
        for transition in transitions:
            if len(transition) not in (2, 3):
                raise GraphError(f"a transition has {len(transition)} parts; expected (from, to) or (from, to, condition)")
            from_, to, *rest = transition
            condition = rest[0] if rest else default
            if not isinstance(condition, Condition):
                raise GraphError(
                    f"transition {from_!r} -> {to!r} has {kind_of(condition)} as its condition; expected a Condition"
                )
            for name in from_ if isinstance(from_, list) else [from_]:
                for end in (name, to):
                    if not isinstance(end, str):
                        raise GraphError(f"a transition names the {type(end).__name__} {end!r}; expected the name of an action")
                self.transitions.append((name, to, condition))
        return self

    def with_graph(self, graph: Graph) -> Self:
        """Add all actions and transitions of `graph`."""
        self._built = None if self.actions or self.transitions else graph
        self.actions = [*(self.actions or []), *graph.actions]
        self.transitions += [(each.from_.name, each.to.name, each.condition) for each in graph.transitions]
        return self

    def build(self) -> Graph:
        """Return the graph.

        Raises BuildError without actions, GraphError for a name given twice or a second default transition, and UnknownAction
        for a transition from or to an action that is not there.
        """
        if self._built is not None:
            return self._built
        if not self.actions:
            raise BuildError("a graph needs at least one action; call with_actions")
        by_name: dict[str, Action] = {}
        for action in self.actions:
            if action.name in by_name:
                raise GraphError(f"two actions are named {action.name!r}; names are unique, also across graphs that are joined")
            by_name[action.name] = action
        self._check_transitions(by_name)
        edges = [Transition(by_name[from_], by_name[to], condition) for from_, to, condition in self.transitions]
        self._built = Graph(list(self.actions), edges)
        return self._built

    def _check_transitions(self, names: Iterable[str]) -> None:
        known = set(names)
        with_default: set[str] = set()
        for from_, to, condition in self.transitions:
            for name in (from_, to):
                if name not in known:
                    raise UnknownAction(name, known, f"the transition {from_!r} -> {to!r}")
            if condition is default:
                if from_ in with_default:
                    raise GraphError(
                        f"the transition {from_!r} -> {to!r} can never be taken: {from_!r} has a default transition already"
                    )
                with_default.add(from_)


@dataclass
class ApplicationGraph(Graph):
    """A graph with the action that an application begins with."""

    entrypoint: Action

    @classmethod
    def of(cls, graph: Graph, entrypoint: str) -> "ApplicationGraph":
        """Return `graph` with an entrypoint. Raises UnknownAction."""
        begun = cls.__new__(cls)
        vars(begun).update(vars(graph), entrypoint=graph.get_action(entrypoint))  # what was worked out is shared
        return begun
