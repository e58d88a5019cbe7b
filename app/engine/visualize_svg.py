"""A layered layout of a drawing, as SVG, for machines without Graphviz.

Actions stand in rows by their distance from the start; a few sweeps order each row so that arrows cross less; arrows that
lead back go round on the right. Plain geometry on plain values.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

from app.engine.visualize import Drawing, DrawnEdge

__all__ = ["render_svg"]

_LETTER, _PADDING, _HEIGHT = 7.5, 14.0, 36.0
_GAP_X, _GAP_Y, _MARGIN = 36.0, 64.0, 24.0
_SWEEPS = 4
_STYLE = (
    "text{font:13px Helvetica,Arial,sans-serif;text-anchor:middle;dominant-baseline:central}"
    ".action{fill:#b4d8e4;stroke:#333}.entry{stroke-width:2.5}.input{fill:none;stroke:#333;stroke-dasharray:4 3}"
    ".edge{fill:none;stroke:#333}.conditional{stroke-dasharray:5 4}.label{font-size:11px;fill:#444}"
)


@dataclass(frozen=True, slots=True)
class _Box:
    x: float  # centre
    y: float
    width: float

    @property
    def top(self) -> float:
        return self.y - _HEIGHT / 2

    @property
    def bottom(self) -> float:
        return self.y + _HEIGHT / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2


def render_svg(drawing: Drawing) -> str:
    """Return `drawing` as an SVG document."""
    rows = _ordered(_rows(drawing), drawing.edges)
    boxes = _placed(rows, {node.name: max(60.0, len(node.label) * _LETTER + 2 * _PADDING) for node in drawing.nodes})
    right = max(box.right for box in boxes.values())
    shapes: list[str] = []
    back = 0
    for edge in drawing.edges:
        leads_back = boxes[edge.target].y <= boxes[edge.source].y
        shapes.append(_edge(edge, boxes[edge.source], boxes[edge.target], right + 28 + 22 * back))
        back += leads_back
    for node in drawing.nodes:
        box = boxes[node.name]
        style = "input" if node.is_input else "action entry" if node.is_entrypoint else "action"
        rounding = "" if node.is_input else ' rx="9"'
        shapes.append(
            f'<rect class="{style}" x="{box.x - box.width / 2:.1f}" y="{box.top:.1f}" width="{box.width:.1f}" '
            f'height="{_HEIGHT:.0f}"{rounding}/><text x="{box.x:.1f}" y="{box.y:.1f}">{escape(node.label)}</text>'
        )
    longest = max((len(edge.label or "") for edge in drawing.edges), default=0)
    width = right + _MARGIN + (28 + 22 * back + longest * 6 if back else longest * 3)
    height = max(box.bottom for box in boxes.values()) + _MARGIN
    marker = (
        '<marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto-start-reverse">'
        '<path d="M0 0L10 5L0 10z" fill="#333"/></marker>'
    )
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style><defs>{marker}</defs>{"".join(shapes)}</svg>\n'


def _rows(drawing: Drawing) -> list[list[str]]:
    """Return the names of the nodes by row: actions by their distance from the start, inputs above their first action."""
    actions = [node for node in drawing.nodes if not node.is_input]
    followers: dict[str, list[str]] = {node.name: [] for node in actions}
    for edge in drawing.edges:
        if edge.source in followers:
            followers[edge.source].append(edge.target)
    level: dict[str, int] = {}
    starts = [node.name for node in actions if node.is_entrypoint] + [node.name for node in actions]
    for start in starts:  # whatever the first does not reach begins a search of its own
        level.setdefault(start, 0)
        wave = [start]
        while wave:
            found = []
            for at in wave:
                for name in followers[at]:
                    if name not in level:
                        level[name] = level[at] + 1
                        found.append(name)
            wave = found
    rows: dict[int, list[str]] = {}
    for name, row in level.items():
        rows.setdefault(row + 1, []).append(name)
    for node in drawing.nodes:
        if node.is_input:
            uses = [level[edge.target] for edge in drawing.edges if edge.source == node.name]
            rows.setdefault(min(uses), []).append(node.name)
    return [rows[row] for row in sorted(rows)]


def _ordered(rows: list[list[str]], edges: Iterable[DrawnEdge]) -> list[list[str]]:
    """Return the rows, each sorted by where the neighbours of its nodes stand in the rows beside it."""
    neighbours: dict[str, list[str]] = {name: [] for row in rows for name in row}
    for edge in edges:
        neighbours[edge.source].append(edge.target)
        neighbours[edge.target].append(edge.source)
    for _ in range(_SWEEPS):
        place = {name: (index + 0.5) / len(row) for row in rows for index, name in enumerate(row)}
        rows = [sorted(row, key=lambda name: _mean(place, neighbours[name], place[name])) for row in rows]
    return rows


def _mean(place: Mapping[str, float], names: list[str], own: float) -> float:
    return sum(place[name] for name in names) / len(names) if names else own


def _placed(rows: list[list[str]], widths: Mapping[str, float]) -> dict[str, _Box]:
    row_widths = [sum(widths[name] for name in row) + _GAP_X * (len(row) - 1) for row in rows]
    boxes: dict[str, _Box] = {}
    for index, row in enumerate(rows):
        x = _MARGIN + (max(row_widths) - row_widths[index]) / 2
        for name in row:
            boxes[name] = _Box(x + widths[name] / 2, _MARGIN + _HEIGHT / 2 + index * (_HEIGHT + _GAP_Y), widths[name])
            x += widths[name] + _GAP_X
    return boxes


def _edge(edge: DrawnEdge, source: _Box, target: _Box, lane: float) -> str:
    if target.y > source.y:
        middle = (source.bottom + target.top) / 2
        bend = f"C{source.x:.1f} {middle:.1f} {target.x:.1f} {middle:.1f} {target.x:.1f} {target.top:.1f}"
        path = f"M{source.x:.1f} {source.bottom:.1f}{bend}"
        at = ((source.x + target.x) / 2, middle)
    else:  # back, beside, or to itself: out on the right and in on the right
        leave, enter = source.y + 6, target.y - 6
        path = f"M{source.right:.1f} {leave:.1f}C{lane:.1f} {leave:.1f} {lane:.1f} {enter:.1f} {target.right:.1f} {enter:.1f}"
        at = (lane - 8, (leave + enter) / 2)
    dashed = " conditional" if edge.is_conditional else ""
    label = "" if edge.label is None else f'<text class="label" x="{at[0]:.1f}" y="{at[1]:.1f}">{escape(edge.label)}</text>'
    return f'<path class="edge{dashed}" d="{path}" marker-end="url(#arrow)"/>{label}'
