"""The best path of a sequence through a profile, as a value."""

from dataclasses import dataclass

from biolayers.profiles.errors import ProfileError


@dataclass(frozen=True)
class Hit:
    """One pass through a profile: which residues lie in which nodes.

    Args:
        start: the first residue in the model, from 0.
        end: one past the last.
        first: the node of the first residue, from 1.
        last: the node of the last residue.
        states: one per residue, and "D" for each node that is passed over between two match states.

    Example:
        >>> from biolayers.profiles.path import Hit
        >>> print(Hit(start=4, end=7, first=2, last=5, states="MDMM"))
        residues 5-7 in nodes 2-5: MDMM
    """

    start: int
    end: int
    first: int
    last: int
    states: str

    def __str__(self) -> str:
        return f"residues {self.start + 1}-{self.end} in nodes {self.first}-{self.last}: {self.states}"


def hits(states: list[int], passes: list[int], nodes: int) -> list[Hit]:
    """The passes of a path that `hmm_viterbi` found, in the order of the sequence.

    Args:
        states: the state of each residue: 0 to 2 outside of the model, then match, then insert states.
        passes: the number of the pass of each residue, -1 outside.
        nodes: of the model.

    Raises:
        ProfileError: a state is not one of the model's.
    """
    if max(states, default=0) > 2 * nodes + 1:
        raise ProfileError(f"path: expected states below {2 * nodes + 2}, received {max(states)}")
    found = []
    for number in range(max(passes, default=-1) + 1):
        places = [i for i, which in enumerate(passes) if which == number]
        text, node, first = "", 0, 0
        for i in places:
            inserted = states[i] >= 3 + nodes
            to = states[i] - 2 - nodes * inserted
            first = first or to
            text += "I" if inserted else "D" * (to - node - 1 if node else 0) + "M"
            node = to
        found.append(Hit(start=places[0], end=places[-1] + 1, first=first, last=node, states=text))
    return found
