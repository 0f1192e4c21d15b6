"""A recorded forward pass as boxes: one for each call of a module or function, few enough to read."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import networkx as nx

from shared.graph.analysis import Analysis, longest
from shared.graph.recording import Frame, Step

MOST = 60  # boxes; with more than that, modules are shown without what is in them
LISTED = 3  # functions that a box names


@dataclass
class Box:
    """Some steps of a forward pass under one name.

    Args:
        names: of the module, or of the functions that run one after the other, with their FLOPs.
        place: the path of the module, or of that which calls the functions.
        module: whether it is a module.
        steps: by their positions.
        flops: of all steps.
        bytes: that all steps read and write.
        shape: of what comes out.
    """

    names: list[tuple[str, int]]
    place: str
    module: bool
    steps: list[int] = field(default_factory=list)
    flops: int = 0
    bytes: int = 0
    shape: str = ""

    @property
    def title(self) -> str:
        """What it computes; of many functions, the one with most FLOPs."""
        if len(self.names) <= LISTED:
            return " · ".join(name for name, _ in self.names)
        name, _ = max(self.names, key=lambda each: each[1])
        return f"{name} and {len(self.names) - 1} more"

    def take(self, number: int, step: Step) -> None:
        """One step more, the latest so far."""
        self.steps.append(number)
        name, flops = self.names[-1]
        self.names[-1] = (name, flops + step.flops)
        self.flops += step.flops
        self.bytes += step.bytes
        self.shape = step.shape or self.shape


def boxes_of(analysis: Analysis, *, most: int = MOST) -> nx.DiGraph:
    """The boxes, numbered in the order in which they run; edges lead from a result to where it is read.

    What no output depends on, such as a check of the inputs, is left out.

    Args:
        analysis: of a model.
        most: boxes that are wanted at most; where even the outermost modules are more, there are more.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from shared.graph import analyse
        >>> graph = boxes_of(analyse(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.rand(2, 3)))
        >>> [graph.nodes[each]["box"].title for each in graph], list(graph.edges)
        (['Linear', 'ReLU'], [(0, 1)])
    """
    deepest = max((len(step.frames) for step in analysis.steps), default=0)
    for depth in range(deepest, 0, -1):
        graph = _joined(_needed(_graph(analysis.steps, depth), set(analysis.results)))
        if len(graph) <= most or depth == 1:
            return graph
    return _needed(_graph(analysis.steps, 0), set(analysis.results))


def _graph(steps: Sequence[Step], depth: int) -> nx.DiGraph:
    """A box for each call down to a depth, and for each operation outside of these."""
    graph, number, box_of = nx.DiGraph(), {}, {}
    for i, step in enumerate(steps):
        frames, name = _shown(step, depth), step.name
        key: Hashable = frames if frames else i
        if key not in number:
            number[key] = len(number)
            graph.add_node(number[key], box=_empty(frames[-1] if frames else None, step, name))
        box_of[i] = number[key]
        graph.nodes[box_of[i]]["box"].take(i, step)
        graph.add_edges_from((box_of[each], box_of[i]) for each in step.sources if box_of[each] != box_of[i])
    return graph


def _needed(graph: nx.DiGraph, results: set[int]) -> nx.DiGraph:
    """The graph without boxes that no result depends on."""
    ends = [each for each in graph if results & set(graph.nodes[each]["box"].steps)]
    needed = set(ends).union(*(nx.ancestors(graph, each) for each in ends))
    graph.remove_nodes_from([each for each in graph if each not in needed])
    return graph


def _shown(step: Step, depth: int) -> tuple[Frame, ...]:
    """The calls down to the first that is shown as one; none if it ran in the open."""
    for i, frame in enumerate(step.frames):
        if frame.closed or i + 1 >= depth:
            return step.frames[: i + 1]
    return ()


def _empty(frame: Frame | None, step: Step, name: str) -> Box:
    if frame is None:
        return Box([(name, 0)], step.place, module=False)
    return Box([(frame.kind, 0)], frame.place, module=not frame.function)


def _joined(graph: nx.DiGraph) -> nx.DiGraph:
    """Functions of one module that only follow each other become one box."""
    for number in list(graph):
        box = graph.nodes[number]["box"]
        before = list(graph.predecessors(number))
        if box.module or len(before) != 1 or graph.out_degree(before[0]) != 1:
            continue
        first = graph.nodes[before[0]]["box"]
        if first.module or first.place != box.place:
            continue
        joined = Box(
            [*first.names, *box.names], box.place, False, [*first.steps, *box.steps],
            first.flops + box.flops, first.bytes + box.bytes, box.shape,
        )  # fmt: skip
        graph.nodes[number]["box"] = joined
        graph.add_edges_from((each, number) for each in graph.predecessors(before[0]))
        graph.remove_node(before[0])
    return graph


def critical(analysis: Analysis) -> list[int]:
    """The steps on the longest path, in their order."""
    ends, steps = longest(analysis.steps), analysis.steps
    path = [max(range(len(ends)), key=ends.__getitem__)] if ends else []
    while path and steps[path[-1]].sources:
        path.append(max(steps[path[-1]].sources, key=ends.__getitem__))
    return path[::-1]


def new_in(graph: nx.DiGraph, other: nx.DiGraph) -> set[int]:
    """The boxes that have no like in another graph."""
    there = Counter(_likeness(other.nodes[each]["box"]) for each in other)
    new = set()
    for each in graph:
        like = _likeness(graph.nodes[each]["box"])
        if there[like]:
            there[like] -= 1
        else:
            new.add(each)
    return new


def _likeness(box: Box) -> tuple:
    return (box.title, box.place, len(box.steps), box.flops)
