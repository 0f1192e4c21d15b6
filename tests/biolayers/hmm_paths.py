"""Every path of a tiny profile HMM, one by one: the oracle of the HMM ops."""

import math
from collections import Counter
from typing import NamedTuple


class Path(NamedTuple):
    """Its log-odds, the state that emits each residue, in which pass, and how often each step was taken."""

    score: float
    states: tuple[str, ...]  # N, J, C, M1, I1, ...
    passes: tuple[int, ...]  # -1 in N, J and C
    steps: Counter


def paths(tokens, match, insert, transitions, entry, exit, special):
    """All paths of one sequence (a list of tokens); the parameters are nested lists of log-odds."""
    nodes, end = len(match), len(tokens)
    names = "MM", "MI", "MD", "IM", "II", "DM", "DD"

    def steps_from(state, k):
        """The next states with the step that leads there."""
        if state in "NEJC":
            row = "NEJC".index(state)
            stay, move = {"N": "NB", "E": "JC", "J": "JB", "C": "CT"}[state]
            yield stay, 0, special[row][0], ("special", row, 0)
            yield move, 0, special[row][1], ("special", row, 1)
        elif state == "B":
            for node in range(nodes):
                yield "M", node + 1, entry[node], ("entry", node)
        else:
            if state in "MD":
                yield "E", 0, exit[k - 1], ("exit", k - 1)
            for column, name in enumerate(names):
                if name[0] == state and k < nodes:
                    to = k if name[1] == "I" else k + 1
                    yield name[1], to, transitions[k - 1][column], ("transitions", k - 1, column)

    def emit(state, k, token, looped):
        """The score of a residue in a state that it comes into, or None if the state is silent there."""
        if state in "MI":
            table = match if state == "M" else insert
            return table[k - 1][token] if token < len(match[0]) else -math.inf
        return 0.0 if looped and state in "NJC" else None

    def walk(state, k, i, score, states, passes, taken, number):
        if score == -math.inf:
            return
        if state == "T":
            if i == end:
                yield Path(score, states, passes, Counter(taken))
            return
        for to, node, cost, step in steps_from(state, k):
            emitted = emit(to, node, tokens[i] if i < end else 0, to == state)
            number_next = number + (to == "B")
            if emitted is None:
                yield from walk(to, node, i, score + cost, states, passes, (*taken, step), number_next)
            elif i < end:
                name = to + (str(node) if node else "")
                seen = (*taken, step, *([("emit", name, i)]))
                inside = number if node else -1
                yield from walk(
                    to,
                    node,
                    i + 1,
                    score + cost + emitted,
                    (*states, name),
                    (*passes, inside),
                    seen,
                    number_next,
                )

    yield from walk("N", 0, 0, 0.0, (), (), (), -1)


def log_sum(scores):
    """The logarithm of the sum of exponentials."""
    scores = list(scores)
    top = max(scores, default=-math.inf)
    return top if top == -math.inf else top + math.log(sum(math.exp(s - top) for s in scores))
