"""Where the boxes and arrows of a drawing go: nothing lies on anything else, arrows lead down, and back on the way round."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from app.engine import ApplicationGraph, GraphBuilder, Input, default, draw, expr, when
from app.engine.visualize import Drawing
from app.engine.visualize_layout import HEIGHT, layout, shown

names = st.lists(st.text("abcdefgh", min_size=1, max_size=25), min_size=1, max_size=9, unique=True)


def drawing(edges: list[tuple[str, str]], entrypoint: str, others: tuple[str, ...] = ()) -> Drawing:
    nodes = dict.fromkeys((entrypoint, *others, *itertools.chain(*edges)))
    conditions = [when(x=index) for index in range(len(edges))]
    graph = (
        GraphBuilder()
        .with_actions(**{name: Input(*name[:2]) for name in nodes})
        .with_transitions(*[(a, b, condition) for (a, b), condition in zip(edges, conditions, strict=True)])
        .build()
    )
    return draw(ApplicationGraph(graph.actions, graph.transitions, graph.get_action(entrypoint)))


@st.composite
def drawings(sample: st.DrawFn) -> Drawing:
    actions = sample(names)
    ends = st.sampled_from(actions)
    return drawing(sample(st.lists(st.tuples(ends, ends), max_size=15)), actions[0], tuple(actions))


@given(drawings())
def test_no_arrow_passes_through_a_box(drawn: Drawing) -> None:
    places = layout(drawn)
    for line in places.lines:
        for (x1, y1), (x2, y2) in itertools.pairwise(line.points):
            top, bottom = min(y1, y2), max(y1, y2)
            for box in places.boxes.values():
                beside = x1 == x2 and abs(box.x - x1) > box.width / 2
                assert beside or box.y - HEIGHT / 2 >= bottom - 0.01 or box.y + HEIGHT / 2 <= top + 0.01


@given(drawings())
def test_no_label_lies_on_another_one_or_on_a_box_or_beside_the_picture(drawn: Drawing) -> None:
    places = layout(drawn)
    labels = []
    for line in places.lines:
        if line.edge.label is not None:
            x, y = line.label_at
            half = len(shown(line.edge.label)) * 6.2 / 2
            labels.append((x + (0 if line.points else half), y, half))
    for (x1, y1, half1), (x2, y2, half2) in itertools.combinations(labels, 2):
        assert abs(y1 - y2) >= 14 or abs(x1 - x2) >= half1 + half2
    for x, y, half in labels:
        assert x - half >= 0
        assert x + half <= places.width
        for box in places.boxes.values():
            assert abs(box.y - y) >= (HEIGHT + 14) / 2 or abs(box.x - x) >= box.width / 2 + half


def test_arrows_lead_down_except_those_that_lead_back() -> None:
    places = layout(drawing([("a", "b"), ("b", "c"), ("a", "c"), ("c", "a"), ("c", "c")], "a"))
    lines = {(line.edge.source, line.edge.target): line for line in places.lines if not line.edge.source.startswith("input__")}
    leads_down = {ends: line.points[0][1] < line.points[-1][1] for ends, line in lines.items() if line.points}
    assert leads_down == {("a", "b"): True, ("b", "c"): True, ("a", "c"): True, ("c", "a"): False}
    assert lines["c", "c"].points == ()
    assert places.boxes["a"].y < places.boxes["b"].y < places.boxes["c"].y


def test_arrows_beside_each_other_begin_and_end_beside_each_other() -> None:
    places = layout(drawing([("a", "b"), ("a", "b"), ("b", "a")], "a"))
    lines = [line for line in places.lines if line.edge.source in "ab" and line.edge.target in "ab"]
    ends = [point for line in lines for point in (line.points[0], line.points[-1])]
    assert len({x for x, _ in ends}) >= 3
    assert len(set(ends)) == 6


def test_a_long_condition_is_cut_short_and_told_in_full_on_demand() -> None:
    text = " and ".join(f"key_{index} > {index}" for index in range(9))
    graph = (
        GraphBuilder()
        .with_actions(a=Input("x"), b=Input("x"))
        .with_transitions(("a", "b", expr(text)), ("a", "a", default))
        .build()
    )
    assert shown(text) == f"{text[:47]}…"
    from app.engine.visualize_svg import render_svg

    assert f"{shown(text).replace('>', '&gt;')}<title>{text.replace('>', '&gt;')}</title>" in render_svg(draw(graph))
