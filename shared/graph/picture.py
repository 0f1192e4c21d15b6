"""A model's graph as a picture: what runs after what, how large it is, what an optimization changed."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx

from shared.errors import UserError
from shared.graph.analysis import Analysis
from shared.graph.boxes import Box, boxes_of, critical, new_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 2.7, 0.66  # of a box, in inches
LANE = 0.5  # of an edge that passes by
BESIDE, BELOW = 0.3, 0.34  # between boxes
HEAD, MARGIN = 0.9, 0.35  # of a panel
SWEEPS = 8
LETTERS = 34  # of a place that fit into a box

INK, FAINT, PLAIN, EDGE = "#1b2733", "#5d6b78", "#f3f5f7", "#a3aeb8"
NEW, NEW_EDGE, PATH = "#fdebd8", "#d9731a", "#2f6fb5"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: sharp, and found by a search
    "svg.hashsalt": "qbio",  # the same picture is the same file
    "font.family": "sans-serif",
    "text.color": INK,
    "text.parse_math": False,
}
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def draw(path: str | Path, panels: Mapping[str, Analysis]) -> None:
    """Write the graphs of some analyses side by side as SVG.

    Boxes are calls of modules and functions, with what comes out of them and their cost; what is in one of
    two graphs alone is marked, and so is the longest path.

    Args:
        path: of the file.
        panels: analyses by their titles.

    Raises:
        UserError: matplotlib is not installed, or nothing can be written at `path`.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UserError(
            "a picture: expected matplotlib, which is not installed; install it with: "
            'pip install "qbio[train]"'
        ) from error
    graphs = [boxes_of(each) for each in panels.values()]
    paths = [_path(*each) for each in zip(graphs, panels.values(), strict=True)]
    layouts = [_layout(*each) for each in zip(graphs, paths, strict=True)]
    width = sum(_width(each) for each in layouts) + MARGIN * (len(layouts) + 1)
    height = max(_height(each) for each in layouts) + HEAD + 2 * MARGIN
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        left = MARGIN
        for i, (title, analysis) in enumerate(panels.items()):
            others = graphs[1 - i] if len(graphs) == 2 else graphs[i]
            _head(axes, left, title, analysis)
            _panel(axes, left, graphs[i], layouts[i], paths[i], new_in(graphs[i], others))
            left += _width(layouts[i]) + MARGIN
        _key(axes, height, marked=len(graphs) == 2)
        _write(figure, Path(path))


def _write(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, format="svg", metadata=NO_METADATA)
    except OSError as error:
        raise UserError(f"{path}: expected a file that can be written, but it cannot ({error})") from error


# where things stand


def _path(graph: nx.DiGraph, analysis: Analysis) -> list[int]:
    """The boxes on the longest path."""
    box_of = {step: each for each in graph for step in graph.nodes[each]["box"].steps}
    return list(dict.fromkeys(box_of[step] for step in critical(analysis) if step in box_of))


def _layout(graph: nx.DiGraph, path: list[int]) -> dict[Any, tuple[float, float]]:
    """The middle of each box, and of the lanes of edges that pass by; inches from the panel's upper left.

    The longest path runs straight down.
    """
    straight = {*path, *itertools.pairwise(path)}
    found = {}
    for depth, row in enumerate(_without_crossings(_with_lanes(graph))):
        ends = list(itertools.accumulate(_room(each) for each in row))
        middles = [end - _room(each) / 2 for each, end in zip(row, ends, strict=True)]
        pillar = next((i for i, each in enumerate(row) if _trunk(each) in straight), None)
        shift = middles[pillar] if pillar is not None else ends[-1] / 2
        for each, x in zip(row, middles, strict=True):
            found[each] = (x - shift, depth * (HEIGHT + BELOW) + HEIGHT / 2)
    left = min((x - _room(each) / 2 for each, (x, _) in found.items()), default=0)
    return {each: (x - left, y) for each, (x, y) in found.items()}


def _trunk(node: Any) -> Any:
    """A box, or the edge of a lane."""
    return node[:2] if isinstance(node, tuple) else node


def _with_lanes(graph: nx.DiGraph) -> nx.DiGraph:
    """The same graph in rows; an edge over more than one row has a lane, a tuple, in each row between."""
    spread = nx.DiGraph()
    for row, boxes in enumerate(nx.topological_generations(graph)):
        spread.add_nodes_from(boxes, row=row)
    row_of = dict(spread.nodes(data="row"))
    for start, end in graph.edges:
        rows = range(row_of[start] + 1, row_of[end])
        spread.add_nodes_from(((start, end, row), {"row": row}) for row in rows)
        nx.add_path(spread, [start, *((start, end, row) for row in rows), end])
    return spread


def _without_crossings(spread: nx.DiGraph) -> list[list]:
    """The rows, each in an order that crosses few edges: everything near the mean of its neighbours."""
    row_of: dict[Any, int] = dict(spread.nodes(data="row"))  # pyright: ignore[reportAssignmentType]
    rows: list[list] = [[] for _ in range(1 + max(row_of.values(), default=0))]
    for each, row in row_of.items():
        rows[row].append(each)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        place = {each: (i + 0.5) / len(row) for row in rows for i, each in enumerate(row)}
        for row in rows if down else rows[::-1]:
            near = {e: list(spread.predecessors(e) if down else spread.successors(e)) for e in row}
            mean = {e: sum(place[o] for o in n) / len(n) if n else place[e] for e, n in near.items()}
            row.sort(key=mean.__getitem__)
            place |= {each: (i + 0.5) / len(row) for i, each in enumerate(row)}
    return rows


def _room(node: Any) -> float:
    return LANE if isinstance(node, tuple) else WIDTH + BESIDE


def _width(layout: Mapping[Any, tuple[float, float]]) -> float:
    return max((x + _room(each) / 2 for each, (x, _) in layout.items()), default=WIDTH)


def _height(layout: Mapping[Any, tuple[float, float]]) -> float:
    return max((y for _, y in layout.values()), default=0) + HEIGHT


# what is drawn


def _head(axes: "Axes", left: float, title: str, analysis: Analysis) -> None:
    axes.text(left, MARGIN + 0.14, title, fontsize=13, weight="bold", va="center")
    axes.text(left, MARGIN + 0.42, _total(analysis), fontsize=8.5, color=FAINT, va="center")


def _panel(
    axes: "Axes", left: float, graph: nx.DiGraph, layout: Mapping[Any, tuple[float, float]],
    path: list[int], new: set[int],
) -> None:  # fmt: skip
    places = {each: (left + x, MARGIN + HEAD + y) for each, (x, y) in layout.items()}
    on_path = set(itertools.pairwise(path))
    for start, end in sorted(graph.edges, key=on_path.__contains__):
        lanes = sorted(each for each in places if isinstance(each, tuple) and each[:2] == (start, end))
        _edge(axes, [places[each] for each in (start, *lanes, end)], marked=(start, end) in on_path)
    for each in graph:
        _box(axes, places[each], graph.nodes[each]["box"], new=each in new, marked=each in path)


def _box(axes: "Axes", middle: tuple[float, float], box: Box, *, new: bool, marked: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = middle
    axes.add_patch(
        FancyBboxPatch(
            (x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=NEW if new else PLAIN,
            edgecolor=PATH if marked else NEW_EDGE if new else EDGE,
            linewidth=1.8 if marked else 1,
            zorder=2,
        )
    )  # fmt: skip
    cost = f"{box.shape}   {amount(box.flops, 'FLOP')}   {amount(box.bytes, 'B')}"
    lines = [(box.title, 9.5, INK, "bold"), (box.place, 8, FAINT, "normal"), (cost, 7.5, INK, "normal")]
    lines = [line for line in lines if line[0]]
    for i, (text, size, color, weight) in enumerate(lines):
        at = y + 0.2 * (i - (len(lines) - 1) / 2)
        shown = text if text is cost else _short(text)
        axes.text(x, at, shown, fontsize=size, color=color, weight=weight, ha="center", va="center", zorder=3)


def _edge(axes: "Axes", points: list[tuple[float, float]], *, marked: bool) -> None:
    """A line from the lower side of a box to the upper side of another, smooth through its lanes."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Line

    (x, y), *lanes, (to_x, to_y) = points
    stops = [(x, y + HEIGHT / 2)]
    for lane_x, lane_y in lanes:
        stops += [(lane_x, lane_y - HEIGHT / 2), (lane_x, lane_y + HEIGHT / 2)]
    stops.append((to_x, to_y - HEIGHT / 2))
    vertices, codes = [stops[0]], [Line.MOVETO]
    for i, (a, b) in enumerate(itertools.pairwise(stops)):
        if i % 2:  # along a lane
            vertices, codes = [*vertices, b], [*codes, Line.LINETO]
        else:
            bend = (a[1] + b[1]) / 2
            vertices += [(a[0], bend), (b[0], bend), b]
            codes += [Line.CURVE4] * 3
    style = {"color": PATH if marked else EDGE, "linewidth": 1.8 if marked else 1}
    axes.add_patch(
        FancyArrowPatch(path=Line(vertices, codes), arrowstyle="-|>", mutation_scale=8, fill=False, **style)
    )


def _key(axes: "Axes", height: float, *, marked: bool) -> None:
    """What the colours mean."""
    from matplotlib.patches import Rectangle

    entries = [("longest path", "white", PATH)]
    if marked:
        entries.append(("in this graph alone", NEW, NEW_EDGE))
    for i, (text, face, edge) in enumerate(entries):
        x, y = MARGIN + 1.5 * i, height - MARGIN
        axes.add_patch(Rectangle((x, y - 0.07), 0.2, 0.14, facecolor=face, edgecolor=edge, linewidth=1.5))
        axes.text(x + 0.27, y, text, fontsize=8, color=FAINT, va="center")


def _total(analysis: Analysis) -> str:
    peak = amount(analysis.peak, "B")
    trained = "" if analysis.training_peak is None else f", {amount(analysis.training_peak, 'B')} in training"
    return (
        f"{analysis.operations:,} operations   {amount(analysis.flops, 'FLOP')}   "
        f"{amount(analysis.bytes, 'B')} moved\npeak memory {peak}{trained}"
    )


def amount(number: int, unit: str) -> str:
    """A number with a prefix.

    >>> amount(1_234_567, "FLOP"), amount(12, "B")
    ('1.23 MFLOP', '12 B')
    """
    for size, prefix in PREFIXES:
        if number >= size:
            return f"{number / size:.3g} {prefix}{unit}"
    return f"{number} {unit}"


def _short(text: str) -> str:
    half = LETTERS // 2
    return text if len(text) <= LETTERS else f"{text[: half - 1]}…{text[-half:]}"
