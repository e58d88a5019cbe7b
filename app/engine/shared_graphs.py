"""One graph for all applications that are built of the same actions and transitions, one builder after the other.

A web application that builds with every request says the same again each time: what was checked and compiled then still holds.
Only graphs of decorated functions are shared, and they live as long as the first of these.
"""

from typing import Final

from app.engine.function_actions import FunctionBasedAction, FunctionBasedStreamingAction
from app.engine.graph import Graph, GraphBuilder

__all__ = ["forget", "shared_graph"]

_GRAPHS: Final = "_graphs"
_KEPT = 8


def shared_graph(builder: GraphBuilder) -> Graph:
    """Return what `builder.build()` returns: the graph of an earlier builder, if that was told the same."""
    actions = builder.actions
    if not actions or any(type(each) not in (FunctionBasedAction, FunctionBasedStreamingAction) for each in actions):
        return builder.build()
    known: dict[object, Graph] = vars(actions[0]).setdefault(_GRAPHS, {})
    key = (*actions, *builder.transitions)
    graph = known.get(key)
    if graph is None:
        if len(known) >= _KEPT:  # actions that are bound anew each time would fill it
            known.clear()
        graph = known[key] = builder.build()
    return graph


def forget(graph: Graph) -> None:
    """Let the next builder that is told the same have a graph of its own."""
    known: dict[object, Graph] = vars(graph.actions[0]).get(_GRAPHS, {})
    for key in [key for key, other in known.items() if other is graph]:
        del known[key]
