"""A graph as a drawing: Mermaid or DOT text, SVG, and what a notebook shows.

Text is made here, in Python alone. SVG and the other image formats come from Graphviz' `dot` when that is on the path;
without it SVG is laid out by `visualize_svg`, and asking for another image format is an error.
"""

import html
import json
import pathlib
import shutil
import subprocess
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.engine.conditions import default
from app.engine.errors import EngineError

if TYPE_CHECKING:
    from app.engine.graph import Graph

__all__ = ["Drawing", "DrawingError", "DrawnEdge", "DrawnNode", "draw", "mimebundle", "visualize_graph"]

_DOT_TIMEOUT_S = 60
_ATTRIBUTES: dict[str, dict[str, str]] = {
    "graph_attr": {"rankdir": "TB", "ranksep": "0.4", "compound": "false", "concentrate": "false"},
    "node_attr": {"fontname": "Helvetica", "margin": "0.15", "fillcolor": "#b4d8e4"},
    "edge_attr": {},
}


class DrawingError(EngineError, ValueError):
    """A drawing cannot be made in the form that was asked for."""


@dataclass(frozen=True, slots=True)
class DrawnNode:
    """A box. An input is dashed and has no action behind it."""

    name: str
    label: str
    is_input: bool = False
    is_entrypoint: bool = False


@dataclass(frozen=True, slots=True)
class DrawnEdge:
    """An arrow, dashed when it depends on a condition."""

    source: str
    target: str
    label: str | None = None
    is_conditional: bool = False


@dataclass(frozen=True)
class Drawing:
    """A graph's boxes and arrows, and how they are to look. Ask it for the text or the image that is wanted."""

    nodes: tuple[DrawnNode, ...]
    edges: tuple[DrawnEdge, ...]
    attributes: Mapping[str, Mapping[str, str]]

    @property
    def source(self) -> str:
        """The drawing in Graphviz' DOT language."""
        lines = [f"\t{kind.removesuffix('_attr')} {_dot_list(values)}" for kind, values in self.attributes.items() if values]
        for node in self.nodes:
            looks = {"shape": "rect", "style": "dashed"} if node.is_input else {"shape": "box", "style": "rounded,filled"}
            lines.append(f"\t{_quoted(node.name)} {_dot_list({'label': node.label, **looks})}")
        for edge in self.edges:
            looks = {} if edge.source.startswith("input__") else {"style": "dashed" if edge.is_conditional else "solid"}
            labels = {} if edge.label is None else {"label": edge.label}
            lines.append(f"\t{_quoted(edge.source)} -> {_quoted(edge.target)} {_dot_list({**labels, **looks})}".rstrip())
        return "\n".join(["digraph {", *lines, "}", ""])

    @property
    def mermaid(self) -> str:
        """The drawing as a Mermaid flowchart."""
        ids = {node.name: f"n{index}" for index, node in enumerate(self.nodes)}
        lines = []
        for node in self.nodes:
            left, right = ("[", "]") if node.is_input else ("(", ")")
            style = ":::input" if node.is_input else ":::entry" if node.is_entrypoint else ""
            lines.append(f'    {ids[node.name]}{left}"{_mermaid_text(node.label)}"{right}{style}')
        for edge in self.edges:
            arrow = "-.->" if edge.is_conditional or edge.source.startswith("input__") else "-->"
            label = "" if edge.label is None else f'|"{_mermaid_text(edge.label)}"|'
            lines.append(f"    {ids[edge.source]} {arrow}{label} {ids[edge.target]}")
        lines += ["    classDef input stroke-dasharray: 4 3", "    classDef entry stroke-width: 3px"]
        return "\n".join(["flowchart TD", *lines, ""])

    @property
    def svg(self) -> str:
        """The drawing as SVG: by Graphviz if it is installed, else by a simpler layout of our own."""
        if shutil.which("dot") is not None:
            return self.pipe("svg").decode()
        from app.engine.visualize_svg import render_svg  # it needs the classes of this module

        return render_svg(self)

    def pipe(self, format: str = "svg") -> bytes:  # noqa: A002  # the name that graphviz gives it
        """Return the drawing in one of Graphviz' formats, or `mermaid`. Raises DrawingError."""
        dot = shutil.which("dot")
        match format:
            case "dot" | "gv":
                return self.source.encode()
            case "mermaid" | "mmd":
                return self.mermaid.encode()
            case "svg" if dot is None:
                return self.svg.encode()
        if dot is None:
            raise DrawingError(f"format {format!r} needs Graphviz' `dot` on the path; svg, dot and mermaid do not")
        done = subprocess.run(  # noqa: S603  # no shell, and a path that `which` gave
            [dot, f"-T{format}"], input=self.source.encode(), capture_output=True, timeout=_DOT_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise DrawingError(f"Graphviz cannot draw this as {format!r}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def render(self, path: str | pathlib.Path, *, view: bool = False, write_dot: bool = False) -> pathlib.Path:
        """Write the drawing to a file in the format of its suffix (png when it has none), and return where it is.

        `write_dot` writes the DOT text beside it, `view` opens it in a browser. Raises DrawingError.
        """
        path = pathlib.Path(path)
        suffix = path.suffix or ".png"
        image = path.with_suffix(suffix)
        image.write_bytes(self.pipe(suffix.removeprefix(".")))
        if write_dot:
            path.with_suffix(".dot").write_text(self.source, encoding="utf-8")
        if view:
            webbrowser.open(image.resolve().as_uri())
        return image

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **_: Any) -> dict[str, str]:  # noqa: ARG002
        return {"image/svg+xml": self.svg, "text/plain": self.source, "text/vnd.mermaid": self.mermaid}

    def __str__(self) -> str:
        return self.source


def draw(
    graph: "Graph", *, include_conditions: bool = True, include_state: bool = False, **attributes: Mapping[str, str]
) -> Drawing:
    """Return the drawing of a graph.

    `include_conditions` writes conditions on the arrows, `include_state` what an action reads and writes into its box.
    `graph_attr`, `node_attr` and `edge_attr` are for Graphviz. Raises DrawingError for any other name.
    """
    if unknown := sorted(attributes.keys() - _ATTRIBUTES):
        raise DrawingError(f"a drawing has no options {unknown}; it has {sorted(_ATTRIBUTES)}")
    looks = {kind: {**values, **attributes.get(kind, {})} for kind, values in _ATTRIBUTES.items()}
    entrypoint = getattr(graph, "entrypoint", None)
    nodes: dict[str, DrawnNode] = {}
    edges: list[DrawnEdge] = []
    for action in graph.actions:
        signature = f"{action.name}({', '.join(action.reads)}): {', '.join(action.writes)}"
        label = signature if include_state else action.name
        nodes[action.name] = DrawnNode(
            action.name, label, is_entrypoint=entrypoint is not None and entrypoint.name == action.name
        )
        required, optional = action.optional_and_required_inputs
        for name in sorted(required | optional):
            if not name.startswith("__"):  # what the engine injects is nobody's input
                nodes[f"input__{name}"] = DrawnNode(f"input__{name}", f"input: {name}", is_input=True)
                edges.append(DrawnEdge(f"input__{name}", action.name))
    for transition in graph.transitions:
        is_default = transition.condition is default
        shown = transition.condition.name if include_conditions and not is_default else None
        edges.append(DrawnEdge(transition.from_.name, transition.to.name, shown, not is_default))
    return Drawing(tuple(nodes.values()), tuple(edges), looks)


def visualize_graph(
    graph: "Graph",
    output_file_path: str | pathlib.Path | None = None,
    include_conditions: bool = False,
    include_state: bool = False,
    view: bool = False,
    engine: str = "graphviz",
    write_dot: bool = False,
    **engine_kwargs: Any,
) -> Drawing:
    """Return the drawing of a graph, written to `output_file_path` if that is given. Raises DrawingError."""
    if engine != "graphviz":
        raise DrawingError(
            f"there is no drawing engine {engine!r}; there is 'graphviz', which needs not be installed for text and SVG"
        )
    suffix = engine_kwargs.pop("format", None)
    drawing = draw(graph, include_conditions=include_conditions, include_state=include_state, **engine_kwargs)
    if output_file_path is not None:
        path = pathlib.Path(output_file_path)
        drawing.render(path.with_suffix(f".{suffix}") if suffix else path, view=view, write_dot=write_dot)
    return drawing


def mimebundle(graph: "Graph", include: Any = None, exclude: Any = None, **kwargs: Any) -> dict[str, str]:
    """Return what a notebook shows of a graph."""
    return draw(graph)._repr_mimebundle_(include, exclude, **kwargs)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _dot_list(values: Mapping[str, str]) -> str:
    return f"[{' '.join(f'{key}={_quoted(value)}' for key, value in values.items())}]" if values else ""


def _mermaid_text(text: str) -> str:
    return html.escape(text, quote=False).replace('"', "#quot;").replace("\n", "<br/>")
