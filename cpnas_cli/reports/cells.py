"""The picture of a genotype: its normal and its reduction cell.

`cells_info` says what there is to see, `draw_cells` draws it. Every edge has its own fixed way through
the picture, whatever the other edges are, so that two pictures can be compared at sight.
"""

import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Outline

from cpnas_cli.networks.operations.base import FAMILIES, Look, operation_of
from cpnas_cli.reports.picture import save_picture, svg_text
from cpnas_cli.search_space import (
    EDGES,
    NONE,
    NUM_INPUT_NODES,
    NUM_INTERMEDIATE_NODES,
    NUM_NODES,
    OPERATIONS,
    CellGenotype,
    Genotype,
    live_edges,
    live_nodes,
)

STRIDE_MARK = "\N{DOWNWARDS ARROW}2"


@dataclass(frozen=True)
class EdgeInfo:
    """An edge that is not `none`."""

    source: int
    node: int
    operation: str
    stride: int
    live: bool
    """Whether it carries a signal: it leaves a node that an input reaches."""

    @property
    def look(self) -> Look:
        return operation_of(self.operation).look

    @property
    def label(self) -> str:
        """The operation in short, with a mark where it halves the image."""
        return operation_of(self.operation).label + (f" {STRIDE_MARK}" if self.stride == 2 else "")


@dataclass(frozen=True)
class CellCounts:
    """How often each kind of operation is chosen; live or not, so that the four sum to the 14 edges."""

    num_convolutions: int
    num_pools: int
    num_skips: int
    num_none: int


@dataclass(frozen=True)
class CellInfo:
    title: str
    edges: tuple[EdgeInfo, ...]
    dead_nodes: tuple[int, ...]
    counts: CellCounts


@dataclass(frozen=True)
class CellsInfo:
    """What the picture of a genotype shows."""

    normal: CellInfo
    reduce: CellInfo
    subtitle: str | None = None

    def cells(self) -> dict[str, CellInfo]:
        return {"normal": self.normal, "reduce": self.reduce}


def cells_info(genotype: Genotype, *, subtitle: str | None = None) -> CellsInfo:
    """What there is to see; `subtitle` says where the genotype comes from (strategy, beta_P, seed, data set)."""
    return CellsInfo(
        normal=_cell_info(genotype.normal, title="normal cell", input_stride=1),
        reduce=_cell_info(genotype.reduce, title="reduction cell", input_stride=2),
        subtitle=subtitle,
    )


def _cell_info(cell: CellGenotype, *, title: str, input_stride: int) -> CellInfo:
    live = live_edges(cell)
    families = Counter(operation_of(op).family for op in cell)
    edges = tuple(
        EdgeInfo(source, node, op, stride=input_stride if source < NUM_INPUT_NODES else 1, live=index in live)
        for index, ((source, node), op) in enumerate(zip(EDGES, cell, strict=True))
        if op != NONE
    )
    return CellInfo(
        title=title,
        edges=edges,
        dead_nodes=tuple(sorted(set(range(NUM_NODES)) - live_nodes(cell))),
        counts=CellCounts(
            num_convolutions=families["convolutions"],
            num_pools=families["pools"],
            num_skips=families["skips"],
            num_none=families["none"],
        ),
    )


# --- drawing: all lengths are points (1/72 inch), so that a length of a text and of a line compare ---


class Route(NamedTuple):
    """The way of an edge: up or down, along its lane, and back to the line of nodes.

    Lane 0 is the straight way between neighbours; a negative lane lies below the nodes.
    """

    lane: int
    label_at: float
    """Where along the line of nodes its label stands: 1.5 is halfway between nodes 1 and 2."""


# The sides are those with the fewest crossings, three; every label stands where no other edge passes.
ROUTES = {
    (0, 2): Route(-1, 1.5),
    (1, 2): Route(0, 1.5),
    (0, 3): Route(2, 1.5),
    (1, 3): Route(1, 2.0),
    (2, 3): Route(0, 2.5),
    (0, 4): Route(4, 2.0),
    (1, 4): Route(3, 2.5),
    (2, 4): Route(-1, 2.5),
    (3, 4): Route(0, 3.5),
    (0, 5): Route(5, 2.5),
    (1, 5): Route(-4, 3.0),
    (2, 5): Route(-3, 3.5),
    (3, 5): Route(-2, 4.0),
    (4, 5): Route(0, 4.5),
}
NUM_LANES_ABOVE = max(route.lane for route in ROUTES.values())
NUM_LANES_BELOW = -min(route.lane for route in ROUTES.values())

WIDTH = 576.0
DPI = 150  # 1200 pixels wide
NODE_X = (32.0, 88.0, 204.0, 297.0, 390.0, 483.0)
OUTPUT_X = 544.0
HALF_NODE = 18.0
LANE_DISTANCE = 20.0
FIRST_LANE = HALF_NODE + 19.0
PORT_DISTANCE = 10.0
CORNER = 7.0
ARROW_LENGTH, ARROW_HALF_WIDTH = 6.5, 3.0
BAND_MARGIN = 7.0

TITLE_HEIGHT, COUNTS_HEIGHT = 38.0, 40.0
ABOVE = FIRST_LANE + (NUM_LANES_ABOVE - 1) * LANE_DISTANCE + TITLE_HEIGHT
BELOW = FIRST_LANE + (NUM_LANES_BELOW - 1) * LANE_DISTANCE + COUNTS_HEIGHT
PANEL_HEIGHT = ABOVE + BELOW
LEGEND_HEIGHT = 44.0
SUBTITLE_LINE_HEIGHT, SUBTITLE_COLUMNS = 13.0, 105

FONT = ("DejaVu Sans", "sans-serif")  # the first comes with matplotlib; the second is for readers of an SVG
INK, SOFT_INK, BAND = "#1a1a1a", "#555555", "#eff1f4"
FAINT, FAINT_LINE, FAINT_INK = "#bdbdbd", "#a0a0a0", "#767676"


def looks() -> list[Look]:
    """How the operations are drawn, those of a family side by side; those that are drawn alike once."""
    operations = [operation_of(op) for op in OPERATIONS if op != NONE]
    in_order = sorted(operations, key=lambda operation: FAMILIES.index(operation.family))
    return list(dict.fromkeys(operation.look for operation in in_order))


_SALT = "cpnas cells"


def draw_cells(info: CellsInfo) -> Figure:
    """The picture: the normal cell above the reduction cell; 1200 pixels wide at its own resolution."""
    subtitle = _subtitle_lines(info.subtitle)
    header_height = 4.0 + SUBTITLE_LINE_HEIGHT * len(subtitle) + (6.0 if subtitle else 0.0)
    height = header_height + 2 * PANEL_HEIGHT + LEGEND_HEIGHT
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=DPI, facecolor="white")
    for index, (kind, cell) in enumerate(info.cells().items()):
        bottom = LEGEND_HEIGHT + (1 - index) * PANEL_HEIGHT
        axes = figure.add_axes((0, bottom / height, 1, PANEL_HEIGHT / height), label=kind)
        axes.set(xlim=(0, WIDTH), ylim=(-BELOW, ABOVE))
        axes.set_axis_off()
        _draw_cell(axes, cell, kind=kind)
    for index, line in enumerate(subtitle):
        y = 1 - (10.0 + SUBTITLE_LINE_HEIGHT * index) / height
        figure.text(0.5, y, line, va="top", ha="center", size=9, color=SOFT_INK, family=list(FONT), parse_math=False)
    _draw_legend(figure, any_dead=any(cell.dead_nodes for cell in info.cells().values()))
    return figure


def save_cells(info: CellsInfo, path: Path) -> None:
    """Write the picture as SVG or PNG, as the suffix of `path` says; the same picture gives the same bytes.

    Raises:
      UsageError: another suffix. RunError: the file cannot be written.
    """
    save_picture(lambda: draw_cells(info), path, salt=_SALT, dpi=DPI)


def svg_of_cells(info: CellsInfo) -> str:
    """The picture as the text of an SVG."""
    return svg_text(lambda: draw_cells(info), salt=_SALT, dpi=DPI)


def _subtitle_lines(subtitle: str | None) -> list[str]:
    # a data set is named by its folder, which may hold what no font and no SVG can show
    printable = "".join(char if char.isprintable() else " " for char in subtitle or "")
    return textwrap.wrap(printable, SUBTITLE_COLUMNS, max_lines=2, placeholder=" ...")


def _draw_cell(axes: Axes, cell: CellInfo, *, kind: str) -> None:
    _text(axes, WIDTH / 2, ABOVE - 12, cell.title, size=12, weight="bold")
    _text(axes, WIDTH / 2, 18 - BELOW, _counts_line(cell), size=8.5, color=SOFT_INK)
    _draw_output(axes)
    for node in range(NUM_NODES):
        _draw_node(axes, node, dead=node in cell.dead_nodes)
    for edge in cell.edges:
        _draw_edge(axes, edge, gid=f"{kind}-{edge.source}-{edge.node}")


def _text(axes: Axes, x: float, y: float, words: str, *, size: float, color: str = INK, **look: Any) -> None:
    look |= {"va": "center_baseline", "ha": "center", "family": list(FONT), "zorder": 5}
    axes.text(x, y, words, size=size, color=color, **look)


def _counts_line(cell: CellInfo) -> str:
    counts = cell.counts
    chosen = {"convolution": counts.num_convolutions, "pool": counts.num_pools, "skip": counts.num_skips}
    line = ", ".join([*(_counted(number, noun) for noun, number in chosen.items()), f"{counts.num_none} none"])
    num_idle = sum(not edge.live for edge in cell.edges)
    if num_idle == 0:
        return line
    return f"{line}; {_counted(num_idle, 'edge')} {'carries' if num_idle == 1 else 'carry'} nothing"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _draw_box(axes: Axes, x: float, name: str, note: str, *, fill: str, dead: bool = False) -> None:
    line, ink, dashes = (FAINT_LINE, FAINT_INK, (0, (3, 2))) if dead else (INK, INK, "solid")
    corner, size = (x - HALF_NODE, -HALF_NODE), 2 * HALF_NODE
    box = FancyBboxPatch(corner, size, size, boxstyle="round,pad=0,rounding_size=5", facecolor=fill, zorder=3)
    box.set(edgecolor=line, linewidth=1.1, linestyle=dashes)
    axes.add_patch(box)
    _text(axes, x, 5 if note else 0, name, size=11, color=ink, weight="bold")
    _text(axes, x, -8.5, note, size=7, color=ink)


def _draw_node(axes: Axes, node: int, *, dead: bool) -> None:
    if dead:
        _draw_box(axes, NODE_X[node], str(node), "dead", fill="#f7f7f7", dead=True)
    elif node < NUM_INPUT_NODES:
        _draw_box(axes, NODE_X[node], str(node), f"c(k-{NUM_INPUT_NODES - node})", fill="#dfe3e8")
    else:
        _draw_box(axes, NODE_X[node], str(node), "", fill="white")


def _draw_output(axes: Axes) -> None:
    """The output concatenates all intermediate nodes: a band under them that ends in an arrow."""
    left, right = NODE_X[-NUM_INTERMEDIATE_NODES] - HALF_NODE - BAND_MARGIN, NODE_X[-1] + HALF_NODE + BAND_MARGIN
    half = HALF_NODE + BAND_MARGIN
    band = FancyBboxPatch((left, -half), right - left, 2 * half, boxstyle="round,pad=0,rounding_size=8", zorder=0)
    band.set(facecolor=BAND, edgecolor="#c9ced6", linewidth=0.8)
    axes.add_patch(band)
    end = OUTPUT_X - HALF_NODE
    axes.plot([right, end - ARROW_LENGTH], [0, 0], color=SOFT_INK, linewidth=2.4, solid_capstyle="butt", zorder=2)
    _draw_arrowhead(axes, end, 0, (1, 0), SOFT_INK)
    _draw_box(axes, OUTPUT_X, "c(k)", "concat", fill="#dfe3e8")


def _draw_edge(axes: Axes, edge: EdgeInfo, *, gid: str) -> None:
    look = edge.look
    colour, width = (look.colour, look.width) if edge.live else (FAINT, 0.75 * look.width)
    route = ROUTES[edge.source, edge.node]
    side = (route.lane > 0) - (route.lane < 0)
    lane_y = side * (FIRST_LANE + (abs(route.lane) - 1) * LANE_DISTANCE)
    if side == 0:
        start, end = NODE_X[edge.source] + HALF_NODE, NODE_X[edge.node] - HALF_NODE
        outline = Outline([(start, 0), (end - ARROW_LENGTH, 0)])
        _draw_arrowhead(axes, end, 0, (1, 0), colour)
    else:
        start = NODE_X[edge.source] + PORTS[edge.source, edge.node, edge.source]
        end = NODE_X[edge.node] + PORTS[edge.source, edge.node, edge.node]
        outline = _around(start, end, lane_y, side)
        _draw_arrowhead(axes, end, side * HALF_NODE, (0, -side), colour)
    line = PathPatch(outline, fill=False, edgecolor=colour, linewidth=width, capstyle="butt", zorder=2)
    line.set(linestyle=look.dashes, gid=f"{gid}-line")
    axes.add_patch(line)
    pill = {"boxstyle": "round,pad=0.22", "facecolor": "white", "edgecolor": colour, "linewidth": 0.7}
    ink = INK if edge.live else FAINT_INK
    _text(axes, _between_nodes(route.label_at), lane_y, edge.label, size=8, color=ink, gid=gid, bbox=pill)


def _around(start: float, end: float, lane_y: float, side: int) -> Outline:
    """From the source's port to the lane, along it, and down to just before the target's port."""
    port_y, turn_y = side * HALF_NODE, lane_y - side * CORNER
    points = [
        (Outline.MOVETO, (start, port_y)),
        (Outline.LINETO, (start, turn_y)),
        (Outline.CURVE3, (start, lane_y)),
        (Outline.CURVE3, (start + CORNER, lane_y)),
        (Outline.LINETO, (end - CORNER, lane_y)),
        (Outline.CURVE3, (end, lane_y)),
        (Outline.CURVE3, (end, turn_y)),
        (Outline.LINETO, (end, port_y + side * ARROW_LENGTH)),
    ]
    return Outline([point for _, point in points], [code for code, _ in points])


def _ports() -> dict[tuple[int, int, int], float]:
    """{(source, target, node): where on the node's side the edge leaves or lands, from its middle}."""
    # what lands stands left of what leaves, and the long ways in the middle: so nested ways do not cross
    ports: dict[tuple[int, int, int], float] = {}
    for node in range(NUM_NODES):
        for side in (1, -1):
            here = [edge for edge, route in ROUTES.items() if route.lane * side > 0 and node in edge]
            landing = sorted((edge for edge in here if edge[1] == node), key=lambda edge: -edge[0])
            leaving = sorted((edge for edge in here if edge[0] == node), key=lambda edge: -edge[1])
            for place, (source, target) in enumerate(landing + leaving):
                ports[source, target, node] = (place - (len(here) - 1) / 2) * PORT_DISTANCE
    return ports


PORTS = _ports()


def _between_nodes(position: float) -> float:
    left = int(position)
    return NODE_X[left] + (position - left) * (NODE_X[left + 1] - NODE_X[left])


def _draw_arrowhead(axes: Axes, x: float, y: float, into: tuple[int, int], colour: str) -> None:
    """A filled triangle whose tip is at (x, y); an arrow patch would dash the outline of its head too."""
    dx, dy = into
    base_x, base_y = x - dx * ARROW_LENGTH, y - dy * ARROW_LENGTH
    across_x, across_y = dy * ARROW_HALF_WIDTH, dx * ARROW_HALF_WIDTH
    corners = [(x, y), (base_x + across_x, base_y + across_y), (base_x - across_x, base_y - across_y)]
    axes.add_patch(Polygon(corners, closed=True, facecolor=colour, edgecolor="none", zorder=3.5))


def _draw_legend(figure: Figure, *, any_dead: bool) -> None:
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.dashes, linewidth=look.width, label=look.meaning)
        for look in looks()
    ]
    stride_mark = rf"$\mathregular{{{STRIDE_MARK}}}$"  # a marker may be a formula, not a plain text
    look = {"color": INK, "linestyle": "none", "markersize": 10, "markeredgewidth": 0}
    handles.append(Line2D([], [], marker=stride_mark, label="stride 2", **look))
    if any_dead:
        handles.append(Line2D([], [], color=FAINT, linewidth=1.5, label="leaves a dead node: carries nothing"))
    spacing: dict[str, Any] = {"ncols": 3, "handlelength": 3.4, "columnspacing": 2.2}
    prop = {"family": list(FONT), "size": 8}
    figure.legend(handles=handles, loc="lower center", frameon=False, labelcolor=INK, prop=prop, **spacing)
