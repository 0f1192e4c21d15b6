"""A profile HMM from an alignment: weighted counts with pseudocounts."""

from typing import Any

import torch
from torch import Tensor

from biolayers.alphabet import Alphabet
from biolayers.letters import of_biopython
from biolayers.ops.hmm_paths import STEPS
from biolayers.profiles.background import background
from biolayers.profiles.errors import ProfileError
from biolayers.profiles.profile import ProfileHMM, log

GAPS = "-.~"
_M, _I, _D = range(3)
_COLUMN = {(_M, _M): 0, (_M, _I): 1, (_M, _D): 2, (_I, _M): 3, (_I, _I): 4, (_D, _M): 5, (_D, _D): 6}
# what is expected of the steps before any is seen: to M, I, D; to M, I; to M, D
_PRIOR = (0.97, 0.015, 0.015, 0.6, 0.4, 0.6, 0.4)


def estimate(
    alignment: Any,
    alphabet: Alphabet,
    *,
    name: str = "profile",
    occupancy: float = 0.5,
    pseudocount: float = 1.0,
) -> ProfileHMM:
    """Estimate a profile HMM from aligned sequences.

    Columns in which residues have at least `occupancy` of the weight become match states. Sequences are
    weighted by the diversity of each column (Henikoff and Henikoff, J Mol Biol 243:574, 1994), so that many
    copies of one count little; the weights add up to the number of sequences. HMMER's `hmmbuild` has
    Dirichlet mixtures for priors and tunes the number of sequences: its profiles find more remote relatives.

    Args:
        alignment: Biopython's `MultipleSeqAlignment` or `Alignment`, or sequences of one length (strings,
            `Seq`, `SeqRecord`) with gaps `-`, `.` or `~`.
        alphabet: of the letters. Letters that stand for several add nothing to the emissions.
        name: of the profile.
        occupancy: share of residues that makes a column a match state, above 0 and at most 1.
        pseudocount: how many residues (and steps) the prior is worth: the background's letters, and few
            insertions and deletions.

    Returns:
        The profile, with the alignment's column of each node as its annotation "map".

    Raises:
        ProfileError: there is no sequence, lengths differ, or no column is occupied.

    Example:
        >>> from biolayers import DNA
        >>> from biolayers.profiles.estimate import estimate
        >>> estimate(["AC-GT", "AC-GT", "ACTGT"], DNA).annotation["map"]
        ('1', '2', '4', '5')
    """
    rows = [str(of_biopython(row)) for row in alignment]
    if not rows or len({len(row) for row in rows}) != 1 or not rows[0]:
        lengths = ", ".join(sorted({str(len(row)) for row in rows})) or "none"
        raise ProfileError(f"alignment: expected aligned sequences of one length, received lengths {lengths}")
    if not 0 < occupancy <= 1 or not pseudocount > 0:
        raise ProfileError(
            "estimate: expected occupancy in (0, 1] and a positive pseudocount, "
            f"received {occupancy}, {pseudocount}"
        )
    gap = torch.tensor([[letter in GAPS for letter in row] for row in rows])  # (n, columns)
    plain = ["".join(c if c not in GAPS else (alphabet.gap or alphabet.unknown) for c in row) for row in rows]
    tokens = alphabet.tokens(plain, record="alignment")
    weights = _weights(tokens, gap)
    matched = (weights @ (~gap).double()) / weights.sum() >= occupancy
    if not matched.any():
        raise ProfileError(
            f"alignment: expected columns with residues in {occupancy:.0%} of the rows, received none"
        )
    emitted = alphabet.one_hot(tokens, dtype=torch.float64)  # (n, K, columns)
    prior = background(alphabet)
    counts = torch.einsum("n,nkc->ck", weights, emitted)[matched] + pseudocount * prior
    steps = _steps(gap.tolist(), matched.tolist(), weights.tolist())
    match = counts / counts.sum(-1, keepdim=True)
    return ProfileHMM(
        name,
        alphabet,
        log(match),
        log(prior).repeat(len(match) + 1, 1),
        log(_normalised(steps + pseudocount * torch.tensor(_PRIOR).double())),
        composition=log(match.mean(0)),
        annotation={"map": tuple(str(column + 1) for column in matched.nonzero().flatten().tolist())},
        header=(("NSEQ", str(len(rows))),),
    )


def _weights(tokens: Tensor, gap: Tensor) -> Tensor:
    """The weight of each sequence, (n,), n in all: rare letters of a column weigh more."""
    weights = torch.zeros(len(tokens), dtype=torch.float64)
    for column, absent in zip(tokens.T, gap.T, strict=True):
        kinds, which, sizes = column[~absent].unique(return_inverse=True, return_counts=True)
        if len(kinds):
            weights[~absent] += 1 / (len(kinds) * sizes[which].double())
    if not weights.sum() > 0:
        raise ProfileError("alignment: expected residues, received gaps alone")
    return weights * len(weights) / weights.sum()


def _steps(gap: list[list[bool]], matched: list[bool], weights: list[float]) -> Tensor:
    """Weighted counts of the steps from the begin state and each node, (m + 1, 7).

    Steps between insert and delete states, which the model does not have, are not counted.
    """
    counts = torch.zeros(sum(matched) + 1, len(STEPS), dtype=torch.float64)
    for row, weight in zip(gap, weights, strict=True):
        node, state = 0, _M
        for absent, is_match in zip(row, matched, strict=True):
            if not is_match and absent:
                continue
            to = _I if not is_match else _D if absent else _M
            if (state, to) in _COLUMN:
                counts[node, _COLUMN[state, to]] += weight
            node, state = node + is_match, to
        if (state, _M) in _COLUMN:
            counts[node, _COLUMN[state, _M]] += weight  # to the end, which counts as a match state
    return counts


def _normalised(steps: Tensor) -> Tensor:
    """The steps from each state add up to one; the last node leads to the end alone, the first has no D."""
    parts = [part / part.sum(-1, keepdim=True) for part in steps.split((3, 2, 2), -1)]
    steps = torch.cat(parts, -1)
    steps[-1, 2], steps[-1, 5:], steps[0, 5:] = 0.0, torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])
    steps[-1, :2] /= steps[-1, :2].sum()
    return steps
