"""Drawings: the same boxes and arrows in every form, and a layout in which nothing lies on anything else."""

import itertools
import pathlib
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine import visualize
from app.engine.actions import Input, Result
from app.engine.conditions import expr, when
from app.engine.function_actions import action
from app.engine.graph import ApplicationGraph, Graph, GraphBuilder
from app.engine.state import State
from app.engine.visualize import DrawingError, draw, visualize_graph


@action(reads=["question"], writes=["answer"])
def answer(state: State[Any], model: str, size: int = 3, __context: Any = None) -> State[Any]:
    return state.update(answer="")


@pytest.fixture
def graph() -> Graph:
    return (
        GraphBuilder()
        .with_actions(ask=Input("question"), answer=answer, show=Result("answer"))
        .with_transitions(("ask", "answer"), ("answer", "show", when(done=True)), ("answer", "ask", expr('len(answer) < "5"')))
        .build()
    )


@pytest.fixture
def without_graphviz(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visualize.shutil, "which", lambda _: None)


def test_dot_has_a_box_per_action_and_dashed_ones_for_inputs(graph: Graph) -> None:
    source = draw(graph).source
    assert '"answer" [label="answer" shape="box" style="rounded,filled"]' in source
    assert '"input__model" [label="input: model" shape="rect" style="dashed"]' in source
    assert '"input__size" -> "answer"' in source
    assert "__context" not in source


def test_dot_dashes_a_conditional_arrow_and_names_its_condition(graph: Graph) -> None:
    source = draw(graph, include_conditions=True).source
    assert '"answer" -> "show" [label="done=True" style="dashed"]' in source
    assert '"answer" -> "ask" [label="len(answer) < \\"5\\"" style="dashed"]' in source
    assert '"ask" -> "answer" [style="solid"]' in source
    assert "label" not in draw(graph, include_conditions=False).source.partition('"answer" -> "show"')[2].partition("\n")[0]


def test_a_box_can_say_what_its_action_reads_and_writes(graph: Graph) -> None:
    assert '[label="answer(question): answer"' in draw(graph, include_state=True).source


def test_graphviz_attributes_can_be_given_and_others_are_refused(graph: Graph) -> None:
    assert 'rankdir="LR"' in visualize_graph(graph, graph_attr={"rankdir": "LR"}).source
    with pytest.raises(DrawingError, match=r"no options \['graphattr'\]"):
        visualize_graph(graph, graphattr={})
    with pytest.raises(DrawingError, match="no drawing engine 'd2'"):
        visualize_graph(graph, engine="d2")


def test_mermaid_has_the_same_arrows_and_escapes_its_labels(graph: Graph) -> None:
    lines = [line.strip() for line in draw(graph).mermaid.splitlines()]
    assert lines[0] == "flowchart TD"
    ids = {label: name for name, label in re.findall(r'^\s+(n\d+)[\[(]"(.*)"[\])]', draw(graph).mermaid, re.MULTILINE)}
    assert f"{ids['ask']} --> {ids['answer']}" in lines
    assert f'{ids["answer"]} -.->|"len(answer) &lt; #quot;5#quot;"| {ids["ask"]}' in lines
    assert f"{ids['input: model']} -.-> {ids['answer']}" in lines


def test_the_entrypoint_is_marked() -> None:
    graph = GraphBuilder().with_actions(a=Input("x"), b=Result("x")).build()
    marked = ApplicationGraph(graph.actions, graph.transitions, graph.get_action("b"))
    assert [node.name for node in draw(marked).nodes if node.is_entrypoint] == ["b"]
    assert '("b"):::entry' in draw(marked).mermaid


@pytest.mark.usefixtures("without_graphviz")
def test_svg_is_well_formed_without_graphviz(graph: Graph) -> None:
    root = ElementTree.fromstring(draw(graph).svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(texts) >= {"ask", "answer", "show", "input: model", 'len(answer) < "5"'}


@pytest.mark.usefixtures("without_graphviz")
def test_an_image_without_graphviz_is_an_error_that_says_what_works(graph: Graph, tmp_path: pathlib.Path) -> None:
    with pytest.raises(DrawingError, match="svg, dot and mermaid do not"):
        visualize_graph(graph, tmp_path / "graph")


@pytest.mark.usefixtures("without_graphviz")
@pytest.mark.parametrize(("name", "beginning"), [("g.svg", "<svg"), ("g.dot", "digraph"), ("g.mmd", "flowchart")])
def test_a_file_is_written_in_the_format_of_its_suffix(graph: Graph, tmp_path: pathlib.Path, name: str, beginning: str) -> None:
    visualize_graph(graph, tmp_path / name)
    assert (tmp_path / name).read_text().startswith(beginning)


@pytest.mark.usefixtures("without_graphviz")
def test_the_dot_text_can_be_written_beside_the_image(graph: Graph, tmp_path: pathlib.Path) -> None:
    visualize_graph(graph, str(tmp_path / "g"), format="svg", write_dot=True)
    assert {path.name for path in tmp_path.iterdir()} == {"g.svg", "g.dot"}


def test_graphviz_is_used_when_it_is_there(graph: Graph, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dot = tmp_path / "dot"
    dot.write_text('#!/bin/sh\ncase $1 in -Tbad) echo no such format >&2; exit 1;; esac\necho "$1"; cat\n')
    dot.chmod(0o755)
    monkeypatch.setattr(visualize.shutil, "which", lambda _: str(dot))
    assert draw(graph).svg == "-Tsvg\n" + draw(graph).source
    with pytest.raises(DrawingError, match="cannot draw this as 'bad': no such format"):
        draw(graph).pipe("bad")


@pytest.mark.usefixtures("without_graphviz")
def test_a_notebook_gets_the_svg(graph: Graph) -> None:
    bundle = graph._repr_mimebundle_()
    assert bundle["image/svg+xml"].startswith("<svg")
    assert bundle["text/plain"].startswith("digraph")


names = st.lists(st.text("abcdefgh", min_size=1, max_size=25), min_size=1, max_size=9, unique=True)


@given(st.data())
def test_boxes_never_overlap_and_every_arrow_is_drawn(data: st.DataObject) -> None:
    actions = data.draw(names)
    ends = st.sampled_from(actions)
    edges = data.draw(st.lists(st.tuples(ends, ends), max_size=15, unique=True))
    graph = (
        GraphBuilder()
        .with_actions(**{name: Input(*name[:2]) for name in actions})
        .with_transitions(*[(a, b, when(x=1)) for a, b in edges])
        .build()
    )
    from app.engine.visualize_svg import render_svg

    root = ElementTree.fromstring(render_svg(draw(graph)))
    spaces = "{http://www.w3.org/2000/svg}"
    boxes = [tuple(float(rect.attrib[side]) for side in ("x", "y", "width", "height")) for rect in root.iter(f"{spaces}rect")]
    for (x1, y1, w1, h1), (x2, y2, w2, h2) in itertools.combinations(boxes, 2):
        assert x1 + w1 < x2 or x2 + w2 < x1 or y1 + h1 < y2 or y2 + h2 < y1
    inputs = sum(len(set(name[:2])) for name in actions)
    assert len(list(root.iterfind(f"{spaces}path"))) == len(edges) + inputs
