"""An order of a graph's calls in which less memory lives at once.

Between the places of calls that must stay where they are, every order is allowed in which a call comes after
those that it depends on. The search keeps, after each further call, the sets of calls that may have run by
then, each with the best order that leads to it: all of them in a small graph, the best in a large one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import fx, nn

from shared.graph.effects import CALLS, Effects, observe
from shared.graph.report import Change

NAME = "schedule"
LEAST = 0.05  # of the peak that a new order must save
STATES = 10_000  # sets of calls that are looked at, in all, before the search stops being complete


@dataclass(frozen=True)
class Task:
    """A call in an order; sets of tasks and of pieces of memory are bits.

    Args:
        after: tasks that come before it.
        peak: bytes that it takes while it runs, its result included.
        makes: pieces of memory that it is the first to hold.
        touches: pieces that it holds or is given.
    """

    after: int
    peak: int
    makes: tuple[int, ...]
    touches: tuple[int, ...]


class State(NamedTuple):
    """What is known of a set of tasks that have run; compared by the first two."""

    peak: int
    total: int  # bytes that live after each task, added up
    live: int
    order: tuple | None  # (the latest task, the order before it)


def schedule(
    module: nn.Module, graph: fx.Graph, inputs: tuple, *, training: bool, path: str = ""
) -> list[Change]:
    """Put the calls of a graph of evaluation into the order of the lowest peak of memory, if it is far lower.

    A graph of training stays as it is: there, memory is held for the backward pass in any order, and sums of
    gradients would be rounded otherwise.

    Args:
        module: whose forward the graph is.
        graph: changed in place.
        inputs: for which memory is counted.
        training: the mode of the graph.
        path: of the module, for the report.
    """
    nodes = [node for node in graph.nodes if node.op in CALLS]
    if training or len(nodes) < 3:
        return []
    effects = observe(module, graph, inputs, training=False)
    tasks, last = tasks_of(graph, nodes, effects)
    written = peak_of(tasks, effects.sizes, last, range(len(tasks)))
    order = best_order(tasks, effects.sizes, last)
    found = peak_of(tasks, effects.sizes, last, order)
    if found > (1 - LEAST) * written:
        return []
    _rearrange(graph, [nodes[each] for each in order])
    return [Change(NAME, path, f"calls as written, {written:,} bytes at once", f"reordered, {found:,} bytes")]


def tasks_of(graph: fx.Graph, nodes: Sequence[fx.Node], effects: Effects) -> tuple[list[Task], list[int]]:
    """The calls as tasks, and for each piece of memory the tasks that need it; -1 if the caller does, too."""
    number = {node: i for i, node in enumerate(nodes)}
    users = [0] * len(effects.sizes)
    tasks, seen, barrier, drawn = [], set(), 0, 0
    for i, node in enumerate(nodes):
        effect = effects.of[node]
        given = [number[each] for each in node.all_input_nodes if each in number]
        touches = set(effect.holds).union(*(effects.of[nodes[each]].holds for each in given))
        for piece in touches:
            users[piece] |= 1 << i
        after = barrier | sum({1 << each for each in given})
        if effect.random:
            after, drawn = after | drawn, 1 << i
        if effect.fixed:
            after, barrier = (1 << i) - 1, (1 << i)
        tasks.append(Task(after, effect.peak, tuple(effect.holds - seen), tuple(touches)))
        seen |= effect.holds
    for node in next(iter(each for each in reversed(graph.nodes) if each.op == "output")).all_input_nodes:
        for piece in effects.of[node].holds if node in number else ():
            users[piece] = -1
    return tasks, users


def best_order(tasks: Sequence[Task], sizes: Sequence[int], users: Sequence[int]) -> list[int]:
    """The order with the lowest peak, and of those the one with the least memory on the whole."""
    states = {0: State(0, 0, 0, None)}
    width = max(8, STATES // max(1, len(tasks)))
    for _ in tasks:
        further: dict[int, State] = {}
        for done, state in states.items():
            for i, task in enumerate(tasks):
                if not done >> i & 1 and not task.after & ~done:
                    new, mask = _run(task, i, state, done, sizes, users), done | 1 << i
                    if mask not in further or new[:2] < further[mask][:2]:
                        further[mask] = new
        if len(further) > width:
            kept = sorted(further.items(), key=lambda item: item[1][:2])[:width]
            further = dict(kept)
        states = further
    (end,) = states.values()
    order, rest = [], end.order
    while rest is not None:
        order.append(rest[0])
        rest = rest[1]
    return order[::-1]


def peak_of(tasks: Sequence[Task], sizes: Sequence[int], users: Sequence[int], order: Sequence[int]) -> int:
    """Bytes that live at once, at most, in an order."""
    state, done = State(0, 0, 0, None), 0
    for i in order:
        state, done = _run(tasks[i], i, state, done, sizes, users), done | 1 << i
    return state.peak


def _run(task: Task, i: int, state: State, done: int, sizes: Sequence[int], users: Sequence[int]) -> State:
    done |= 1 << i
    live = state.live + sum(sizes[piece] for piece in task.makes)
    live -= sum(sizes[piece] for piece in task.touches if not users[piece] & ~done)
    return State(max(state.peak, state.live + task.peak), state.total + live, live, (i, state.order))


def _rearrange(graph: fx.Graph, order: Sequence[fx.Node]) -> None:
    """Parameters are read first, then calls run in this order."""
    end = next(node for node in graph.nodes if node.op == "output")
    read = [node for node in graph.nodes if node.op == "get_attr"]
    for node in (*read, *order):
        end.prepend(node)
    graph.lint()
