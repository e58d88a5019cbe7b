"""Where the boxes and arrows of a drawing go: rows from the start downwards, with arrows that keep clear of boxes and labels.

The usual four steps of a layered layout: turn the arrows that lead back, give every node a row, order the rows so that arrows
cross less, place what is in them. Between two rows of boxes there is one of labels. Plain geometry on plain values.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from app.engine.visualize import Drawing, DrawnEdge

__all__ = ["HEIGHT", "LOOP", "Box", "Layout", "Line", "layout", "shown"]

HEIGHT = 36.0
LOOP = 26.0
"""How far an arrow from a box to itself reaches out on the right."""

_LETTER, _SMALL_LETTER, _PADDING = 7.5, 6.2, 14.0
_LABEL_HEIGHT, _LINE_HEIGHT, _LONGEST_LABEL = 18.0, 14.0, 48
_GAP_X, _GAP_Y, _MARGIN, _PORT = 28.0, 26.0, 24.0, 16.0
_SWEEPS = 12

Item: TypeAlias = "str | tuple[int, int]"
"""What stands in a row: a node by its name, or the place where an arrow (by its number) passes the row."""

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """Where a node is: its centre and its width."""

    x: float
    y: float
    width: float


@dataclass(frozen=True, slots=True)
class Line:
    """Where an arrow goes, from its source on. One from a node to itself has no points, but a number among its like."""

    edge: DrawnEdge
    points: tuple[Point, ...]
    label_at: Point
    loop: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    boxes: dict[str, Box]
    lines: tuple[Line, ...]
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class _Chain:
    """An arrow from row to row, from the top down; `is_turned` when it leads up."""

    top: str
    bottom: str
    passes: tuple[tuple[int, int], ...]
    is_turned: bool
    label: tuple[int, int] | None

    @property
    def items(self) -> tuple[Item, ...]:
        return (self.top, *self.passes, self.bottom)


def layout(drawing: Drawing) -> Layout:
    """Return where everything in `drawing` goes."""
    levels, turned = _levels(drawing)
    chains = {
        number: _chain(number, edge, levels, number in turned)
        for number, edge in enumerate(drawing.edges)
        if edge.source != edge.target
    }
    rows = _ordered(_rows(levels, list(chains.values())), list(chains.values()))
    extents = _extents(drawing, chains)
    labelled = {chain.label[1] for chain in chains.values() if chain.label is not None}
    loops = Counter(edge.source for edge in drawing.edges if edge.source == edge.target)
    middles, bottom = _middles(rows, labelled, loops)
    xs = _placed(rows, list(chains.values()), extents)
    boxes = {node.name: Box(xs[node.name], middles[2 * levels[node.name]], _width(node.label)) for node in drawing.nodes}
    passes = {item: (x, middles[item[1]]) for item, x in xs.items() if isinstance(item, tuple)}
    lines = tuple(_lines(drawing, chains, boxes, passes, labelled))
    right = max(xs[item] + extents[item][1] for row in rows for item in row)
    return Layout(boxes, lines, right + _MARGIN, bottom + _MARGIN)


def shown(label: str) -> str:
    """Return as much of the label of an arrow as there is room for."""
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _levels(drawing: Drawing) -> tuple[dict[str, int], set[int]]:
    """Return the level of every node, the start's first, and the numbers of the arrows that lead back.

    An action is one level below the lowest action that leads to it; an input is above the first action that takes it.
    """
    followers: dict[str, list[tuple[int, str]]] = {node.name: [] for node in drawing.nodes if not node.is_input}
    for number, edge in enumerate(drawing.edges):
        if edge.source in followers and edge.source != edge.target:
            followers[edge.source].append((number, edge.target))
    order, turned = _searched(sorted(followers, key=lambda name: not _is_entrypoint(drawing, name)), followers)
    levels = dict.fromkeys(order, 0)
    for name in order:
        for number, target in followers[name]:
            if number not in turned:
                levels[target] = max(levels[target], levels[name] + 1)
    inputs = {
        node.name: [edge.target for edge in drawing.edges if edge.source == node.name] for node in drawing.nodes if node.is_input
    }
    levels |= {name: min(levels[target] for target in targets) - 1 for name, targets in inputs.items()}
    top = min(levels.values())
    return {name: level - top for name, level in levels.items()}, turned


def _is_entrypoint(drawing: Drawing, name: str) -> bool:
    return any(node.is_entrypoint for node in drawing.nodes if node.name == name)


def _searched(starts: Sequence[str], followers: dict[str, list[tuple[int, str]]]) -> tuple[list[str], set[int]]:
    """Search in depth. Returns the names so that arrows lead on, and the numbers of those arrows that do not."""
    done: list[str] = []
    turned: set[int] = set()
    seen: set[str] = set()
    for start in starts:
        if start in seen:
            continue
        seen.add(start)
        path = [(start, iter(followers[start]))]
        while path:
            name, rest = path[-1]
            number, target = next(rest, (-1, name))
            if number < 0:
                done.append(name)
                path.pop()
            elif target not in seen:
                seen.add(target)
                path.append((target, iter(followers[target])))
            elif any(target == above for above, _ in path):
                turned.add(number)
    return done[::-1], turned


def _chain(number: int, edge: DrawnEdge, levels: dict[str, int], is_turned: bool) -> _Chain:
    top, bottom = (edge.target, edge.source) if is_turned else (edge.source, edge.target)
    passes = tuple((number, row) for row in range(2 * levels[top] + 1, 2 * levels[bottom]))
    label = None if edge.label is None else passes[-1 if is_turned else 0]  # beside the source
    return _Chain(top, bottom, passes, is_turned, label)


def _rows(levels: dict[str, int], chains: Sequence[_Chain]) -> list[list[Item]]:
    rows: list[list[Item]] = [[] for _ in range(2 * max(levels.values()) + 1)]
    for name, level in levels.items():
        rows[2 * level].append(name)
    for chain in chains:
        for passing in chain.passes:
            rows[passing[1]].append(passing)
    return rows


def _neighbours(chains: Sequence[_Chain]) -> tuple[dict[Item, list[Item]], dict[Item, list[Item]]]:
    """Return what each item is linked to in the row above it, and in the row below it."""
    above: dict[Item, list[Item]] = {}
    below: dict[Item, list[Item]] = {}
    for chain in chains:
        for upper, lower in zip(chain.items, chain.items[1:], strict=False):
            below.setdefault(upper, []).append(lower)
            above.setdefault(lower, []).append(upper)
    return above, below


def _ordered(rows: list[list[Item]], chains: Sequence[_Chain]) -> list[list[Item]]:
    """Return the rows, each sorted by where its neighbours stand: those above it on the way down, those below on the way up."""
    above, below = _neighbours(chains)
    for sweep in range(_SWEEPS):
        neighbours, order = (above, rows) if sweep % 2 == 0 else (below, rows[::-1])
        place: dict[Item, float] = {}
        for row in order:
            own: dict[Item, float] = {item: index for index, item in enumerate(row)}
            row.sort(key=lambda item: _mean([place[each] for each in neighbours.get(item, ())], own[item]))
            place |= {item: index for index, item in enumerate(row)}
    return rows


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _width(label: str) -> float:
    return max(60.0, len(label) * _LETTER + 2 * _PADDING)


def _label_width(label: str | None) -> float:
    return 0.0 if label is None else len(shown(label)) * _SMALL_LETTER


def _extents(drawing: Drawing, chains: dict[int, _Chain]) -> dict[Item, tuple[float, float]]:
    """Return how far each item reaches to the left and to the right of its middle."""
    extents: dict[Item, tuple[float, float]] = {node.name: (_width(node.label) / 2,) * 2 for node in drawing.nodes}
    for number, edge in enumerate(drawing.edges):
        if number in chains:
            half = max(6.0, _label_width(edge.label) / 2)
            extents |= {each: (half, half) if each == chains[number].label else (6.0, 6.0) for each in chains[number].passes}
        else:
            left, right = extents[edge.source]
            extents[edge.source] = left, max(right, left + LOOP + 4 + _label_width(edge.label))
    return extents


def _middles(rows: list[list[Item]], labelled: set[int], loops: Mapping[str, int]) -> tuple[list[float], float]:
    """Return the middle of each row, and the bottom of the last: room for the labels of all arrows from a node to itself."""
    middles: list[float] = []
    y = _MARGIN
    for index, row in enumerate(rows):
        if index % 2 == 0:
            height = max(HEIGHT, *(loops.get(item, 0) * _LINE_HEIGHT for item in row if isinstance(item, str)))
        else:
            height = _LABEL_HEIGHT if index in labelled else 0.0
        middles.append(y + height / 2)
        y += height + _GAP_Y
    return middles, y - _GAP_Y


def _placed(rows: list[list[Item]], chains: Sequence[_Chain], extents: dict[Item, tuple[float, float]]) -> dict[Item, float]:
    """Return the middle of every item: as near to the mean of its neighbours as the others in its row let it be."""
    above, below = _neighbours(chains)
    xs: dict[Item, float] = {}
    for row in rows:
        xs |= _kept_apart(row, dict.fromkeys(row, 0.0), extents)
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wanted = {item: _mean([xs[each] for each in (*above.get(item, ()), *below.get(item, ()))], xs[item]) for item in row}
            xs |= _kept_apart(row, wanted, extents)
    left = min(x - extents[item][0] for item, x in xs.items())
    return {item: x - left + _MARGIN for item, x in xs.items()}


def _kept_apart(row: list[Item], wanted: dict[Item, float], extents: dict[Item, tuple[float, float]]) -> dict[Item, float]:
    """Return places in the order of the row, with gaps between them: halfway between pushing all right and pushing all left."""
    distances = [extents[one][1] + _GAP_X + extents[other][0] for one, other in itertools.pairwise(row)]
    pushed_right = _pushed([wanted[item] for item in row], distances)
    pushed_left = [-x for x in _pushed([-wanted[item] for item in reversed(row)], distances[::-1])][::-1]
    return {item: (one + other) / 2 for item, one, other in zip(row, pushed_right, pushed_left, strict=True)}


def _pushed(wanted: list[float], distances: list[float]) -> list[float]:
    places = wanted[:1]
    for x, distance in zip(wanted[1:], distances, strict=True):
        places.append(max(x, places[-1] + distance))
    return places


def _lines(
    drawing: Drawing, chains: dict[int, _Chain], boxes: dict[str, Box], passes: dict[tuple[int, int], Point], labelled: set[int]
) -> Iterator[Line]:
    ports = _ports(chains, boxes, passes)
    loops = Counter(edge.source for edge in drawing.edges if edge.source == edge.target)
    drawn: Counter[str] = Counter()
    for number, edge in enumerate(drawing.edges):
        if number not in chains:
            box, loop = boxes[edge.source], drawn[edge.source]
            drawn[edge.source] += 1
            y = box.y + _LINE_HEIGHT * (loop - (loops[edge.source] - 1) / 2)
            yield Line(edge, (), (box.x + box.width / 2 + LOOP + 4, y), loop)
            continue
        chain = chains[number]
        points: list[Point] = [(ports[number, chain.top], boxes[chain.top].y + HEIGHT / 2)]
        for passing in chain.passes:
            (x, y), row = passes[passing], passing[1]
            if row % 2 == 0:
                points += [(x, y - HEIGHT / 2), (x, y + HEIGHT / 2)]
            elif row in labelled:  # otherwise there is nothing to keep clear of
                points.append((x, y))
        points.append((ports[number, chain.bottom], boxes[chain.bottom].y - HEIGHT / 2))
        yield Line(edge, tuple(points[::-1] if chain.is_turned else points), passes[chain.label or chain.passes[0]])


def _ports(
    chains: dict[int, _Chain], boxes: dict[str, Box], passes: dict[tuple[int, int], Point]
) -> dict[tuple[int, str], float]:
    """Return where on its box each arrow begins and ends: side by side, in the order in which they go on."""
    sides: dict[tuple[str, bool], list[tuple[float, int]]] = {}
    for number, chain in chains.items():
        sides.setdefault((chain.top, True), []).append((passes[chain.passes[0]][0], number))
        sides.setdefault((chain.bottom, False), []).append((passes[chain.passes[-1]][0], number))
    ports: dict[tuple[int, str], float] = {}
    for (name, _), arrows in sides.items():
        step = min(_PORT, 0.8 * boxes[name].width / len(arrows))
        for index, (_, number) in enumerate(sorted(arrows)):
            ports[number, name] = boxes[name].x + (index - (len(arrows) - 1) / 2) * step
    return ports
