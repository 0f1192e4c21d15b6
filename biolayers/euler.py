"""The uniform shuffle that keeps every k-let, in plain Python: the definition that the kernel is held to.

The overlapping k-lets of a sequence are the edges of a graph whose nodes are its (k-1)-lets, and a sequence
with the same k-lets is an Eulerian path of that graph. A path is drawn uniformly (Kandel, Matias, Unger &
Winkler, Discrete Applied Mathematics 71, 1996, doi:10.1016/S0166-218X(97)81456-4, after Altschul & Erickson,
Molecular Biology and Evolution 2, 1985): the last exits of all nodes form a tree that leads to the last node,
drawn uniformly by loop-erased random walks (Wilson; Propp & Wilson, Journal of Algorithms 27, 1998,
doi:10.1006/jagm.1997.0917), and before that every node is left by a random one of its other exits.
"""

from bisect import insort
from collections.abc import Sequence

Node = tuple[int, ...]

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


class Draws:
    """The random numbers of the stretch of a copy of a row that begins at `start`; see the kernels' `draws`.

    Example:
        >>> draws = Draws(seed=0, row=0, copy=0)
        >>> [draws.below(6) for _ in range(5)]
        [5, 4, 2, 0, 4]
    """

    def __init__(self, seed: int, row: int, copy: int, start: int = 0) -> None:
        self.key = seed + _GAMMA
        for number in (row, copy, start):
            self.key = _mix(self.key) + number * _GAMMA
        self.key = _mix(self.key)
        self.count = 0

    def below(self, bound: int) -> int:
        """A number from 0 to `bound` - 1."""
        threshold = (2**32 - bound) % bound
        while True:
            self.count += 1
            product = (_mix(self.key + self.count * _GAMMA) >> 32) * bound
            if product % 2**32 >= threshold:
                return product >> 32


def _mix(value: int) -> int:
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def shuffled(letters: Sequence[int], k: int, draws: Draws) -> list[int]:
    """A sequence drawn uniformly from all with the same k-lets (and so the same k - 1 letters at both ends).

    Args:
        letters: (l,) the sequence.
        k: From 1 on; 1 is a plain permutation.
        draws: The random numbers.

    Example:
        >>> shuffled([0, 1, 0, 2, 0, 3, 0], 2, Draws(seed=2, row=0, copy=0))
        [0, 2, 0, 3, 0, 1, 0]
    """
    if len(letters) <= k:
        return list(letters)
    nodes = [tuple(letters[i : i + k - 1]) for i in range(len(letters) - k + 2)]
    exits: dict[Node, list[int]] = {node: [] for node in nodes}  # the letters that follow, in order
    for i, letter in enumerate(letters[k - 1 :]):
        insort(exits[nodes[i]], letter)
    last = _last_exits(exits, nodes[-1], draws)
    for node, letter in last.items():
        exits[node].remove(letter)
    node, result = nodes[0], list(letters[: k - 1])
    for _ in range(len(letters) - k + 1):
        left = exits[node]
        letter = left.pop(draws.below(len(left))) if left else last[node]
        node = _after(node, letter)
        result.append(letter)
    return result


def _last_exits(exits: dict[Node, list[int]], root: Node, draws: Draws) -> dict[Node, int]:
    """The letter with which each node but `root` is left for good; together they form a tree to `root`."""
    last: dict[Node, int] = {}
    reached = {root}
    for start in exits:
        node = start
        while node not in reached:
            last[node] = exits[node][draws.below(len(exits[node]))]
            node = _after(node, last[node])
        node = start
        while node not in reached:  # the walk without its loops
            reached.add(node)
            node = _after(node, last[node])
    return last


def _after(node: Node, letter: int) -> Node:
    return (*node, letter)[1:]
