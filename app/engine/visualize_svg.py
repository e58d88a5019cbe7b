"""A drawing as SVG, for machines without Graphviz. Where things go is worked out in `visualize_layout`."""

import itertools
from collections.abc import Sequence
from html import escape

from app.engine.visualize import Drawing, DrawnNode
from app.engine.visualize_layout import HEIGHT, LOOP, Box, Line, Point, layout, shown

__all__ = ["render_svg"]

_STYLE = (
    "text{font:13px Helvetica,Arial,sans-serif;text-anchor:middle;dominant-baseline:central}"
    ".action{fill:#b4d8e4;stroke:#333}.entry{stroke-width:2.5}.input{fill:#fff;stroke:#333;stroke-dasharray:4 3}"
    ".edge{fill:none;stroke:#333}.conditional{stroke-dasharray:5 4}"
    # the rim keeps a line that passes below the letters from striking them through
    ".label{font-size:11px;fill:#444;stroke:#fff;stroke-width:4px;paint-order:stroke}.beside{text-anchor:start}"
)
_ARROW = (
    '<marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto-start-reverse">'
    '<path d="M0 0L10 5L0 10z" fill="#333"/></marker>'
)


def render_svg(drawing: Drawing) -> str:
    """Return `drawing` as an SVG document."""
    places = layout(drawing)
    shapes = [_line(line, places.boxes[line.edge.source]) for line in places.lines]
    shapes += [_box(node, places.boxes[node.name]) for node in drawing.nodes]
    shapes += [_label(line) for line in places.lines if line.edge.label is not None]
    size = f'viewBox="0 0 {places.width:.0f} {places.height:.0f}" width="{places.width:.0f}" height="{places.height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style><defs>{_ARROW}</defs>{"".join(shapes)}</svg>\n'


def _box(node: DrawnNode, box: Box) -> str:
    style = "input" if node.is_input else "action entry" if node.is_entrypoint else "action"
    rounding = "" if node.is_input else ' rx="9"'
    return (
        f'<rect class="{style}" x="{box.x - box.width / 2:.1f}" y="{box.y - HEIGHT / 2:.1f}" width="{box.width:.1f}" '
        f'height="{HEIGHT:.0f}"{rounding}/><text x="{box.x:.1f}" y="{box.y:.1f}">{escape(node.label)}</text>'
    )


def _line(line: Line, source: Box) -> str:
    dashed = " conditional" if line.edge.is_conditional else ""
    path = _curve(line.points) if line.points else _loop(source, line.loop)
    return f'<path class="edge{dashed}" d="{path}" marker-end="url(#arrow)"/>'


def _curve(points: Sequence[Point]) -> str:
    """Return a path through the points that is upright at each of them."""
    path = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        middle = (y + to_y) / 2
        path.append(f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}")
    return "".join(path)


def _loop(box: Box, number: int) -> str:
    right, out = box.x + box.width / 2, box.x + box.width / 2 + LOOP * (4 / 3 - 0.2 * number)
    return f"M{right:.1f} {box.y - 10:.1f}C{out:.1f} {box.y - 18:.1f} {out:.1f} {box.y + 18:.1f} {right:.1f} {box.y + 10:.1f}"


def _label(line: Line) -> str:
    label = line.edge.label or ""
    style, title = "label", ""
    if not line.points:
        style = "label beside"
    if shown(label) != label:
        title = f"<title>{escape(label)}</title>"
    return f'<text class="{style}" x="{line.label_at[0]:.1f}" y="{line.label_at[1]:.1f}">{escape(shown(label))}{title}</text>'
