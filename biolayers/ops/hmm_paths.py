"""The recursion of profile hidden Markov models, in plain PyTorch and in logarithms: what the HMM ops mean.

The model is HMMER's Plan 7 (Eddy, PLoS Comput Biol 4:e1000069, 2008; Durbin et al., Biological Sequence
Analysis, 1998): m nodes of a match, an insert and a delete state; N and C for the residues before and after,
J for those between two passes through the model, B and E where a pass begins and ends. All scores are natural
logarithms of odds against the background, so that N, J and C emit for nothing.

    N -> N | B     B -> M_k (entry)     M_k, D_k -> E (exit)     E -> J | C     J -> J | B     C -> C | end
    M_k -> M_k+1 | I_k | D_k+1             I_k -> M_k+1 | I_k        D_k -> M_k+1 | D_k+1
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.errors import UserError

FLOOR = -1e30  # stands for log 0: the sums of it are finite, so that no derivative is 0 times infinity
N, E, J, C = range(4)  # the rows of `special`
LOOP, MOVE = range(2)  # its columns
STEPS = ("MM", "MI", "MD", "IM", "II", "DM", "DD")  # the columns of `transitions`
PARAMETERS = ("match", "insert", "transitions", "entry", "exit", "special")

Parameters = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def check(tokens: Tensor, lengths: Tensor, *parameters: Tensor) -> None:
    """Check the arguments that the HMM ops have in common.

    Raises:
        UserError: one has another shape or dtype than expected.
    """
    match = parameters[0]
    if tokens.dtype != torch.uint8 or tokens.ndim != 2:
        raise UserError(
            f"hmm: expected tokens (b, l) of dtype uint8, received {tuple(tokens.shape)} of dtype "
            f"{str(tokens.dtype).removeprefix('torch.')}; encode text with an Alphabet"
        )
    if match.ndim != 2 or 0 in match.shape:
        raise UserError(f"hmm: expected match (m, symbols), at least 1 by 1, received {tuple(match.shape)}")
    batch, (nodes, symbols) = tokens.shape[0], match.shape
    shapes = ((nodes, symbols), (nodes - 1, symbols), (nodes - 1, 7), (nodes,), (nodes,), (batch, 4, 2))
    for name, value, shape in zip(PARAMETERS, parameters, shapes, strict=True):
        if value.shape != shape or value.dtype != match.dtype:
            raise UserError(
                f"hmm: expected {name} {shape} of dtype {match.dtype} for {nodes} nodes, {symbols} symbols "
                f"and {batch} sequences, received {tuple(value.shape)} of dtype {value.dtype}"
            )
    if lengths.shape != (batch,) or lengths.dtype != torch.int64:
        raise UserError(
            f"hmm: expected lengths ({batch},) of dtype int64, one per row of tokens, received "
            f"{tuple(lengths.shape)} of dtype {str(lengths.dtype).removeprefix('torch.')}"
        )


def emissions(tokens: Tensor, table: Tensor) -> Tensor:
    """The score of each residue in each state: (b, l, states) for a table (states, symbols).

    A token that is not below `symbols` can be emitted by N, J and C alone.
    """
    rows = F.pad(table.clamp(min=FLOOR).mT, (0, 0, 0, 1), value=FLOOR)  # (symbols + 1, states)
    places = tokens.long().clamp(max=table.shape[1])
    return rows.index_select(0, places.flatten()).unflatten(0, tokens.shape)


def log_sum(*ways: Tensor) -> Tensor:
    """The logarithm of the sum of what the logarithms stand for: over all paths.

    The formula of `torch.logsumexp`, whose own dual numbers cannot be differentiated once more.
    """
    stacked = torch.stack(ways)
    peak = stacked.detach().amax(0)
    return peak + (stacked - peak).exp().sum(0).log()


def best(*ways: Tensor) -> Tensor:
    """The largest: the best path. Its derivative is one for one of the best, never shared among them."""
    return torch.stack(ways).max(0).values


def total_score(
    matches: Tensor,
    inserts: Tensor,
    flanks: Tensor,
    lengths: Tensor,
    transitions: Tensor,
    entry: Tensor,
    exit: Tensor,
    special: Tensor,
    *,
    join: Callable[..., Tensor] = log_sum,
) -> Tensor:
    """The score of all paths of each sequence together, or of the best: (b,), `FLOOR` / 2 or less if none.

    Args:
        matches: (b, l, m) the score of each residue in each match state.
        inserts: (b, l, m - 1) and in each insert state.
        flanks: (b, l, 4) zeros, to differentiate by: in N, J and C, and of a pass that begins with a residue.
        lengths: (b,) of the sequences.
        transitions: (m - 1, 7) from each node but the last: `STEPS`.
        entry: (m,) from B to each match state.
        exit: (m,) from each match and delete state to E.
        special: (b, 4, 2) to stay in N, E (there: on to J), J and C, and to move on.
        join: how the scores of several ways into a state make one: `log_sum` or `best`.
    """
    batch, length, nodes = matches.shape
    transitions, entry, exit, special = (t.clamp(min=FLOOR) for t in (transitions, entry, exit, special))
    mm, mi, md, im, ii, dm, dd = transitions.unbind(-1)  # each (m - 1,)
    stay, move = special.unbind(-1)  # each (b, 4)
    chain = chains(dd)
    m = d = matches.new_full((batch, nodes), FLOOR)
    i = matches.new_full((batch, nodes - 1), FLOOR)
    n, j, c = matches.new_zeros(batch), matches.new_full((batch,), FLOOR), matches.new_full((batch,), FLOOR)
    ends = [c]
    for t in range(length):
        begin = (join(n + move[:, N], j + move[:, J]) + flanks[:, t, 3]).unsqueeze(-1) + entry
        arrive = join(m[:, :-1] + mm, i + im, d[:, :-1] + dm)
        i = join(m[:, :-1] + mi, i + ii) + inserts[:, t]
        m = join(F.pad(arrive, (1, 0), value=FLOOR), begin) + matches[:, t]
        d = delete_scores(m[:, :-1] + md, chain, join)
        e = join(*(torch.cat([m, d], -1) + exit.repeat(2)).unbind(-1))
        n = n + stay[:, N] + flanks[:, t, 0]
        j = join(j + stay[:, J] + flanks[:, t, 1], e + stay[:, E])
        c = join(c + stay[:, C] + flanks[:, t, 2], e + move[:, E])
        ends.append(c)
    places = lengths.clamp(0, length).unsqueeze(-1)
    return torch.stack(ends, -1).gather(-1, places).squeeze(-1) + move[:, C]


def shares(
    tokens: Tensor,
    lengths: Tensor,
    match: Tensor,
    insert: Tensor,
    *rest: Tensor,
    join: Callable[..., Tensor] = log_sum,
) -> tuple[Tensor, Tensor, Tensor]:
    """The scores (b,), the share of the paths that emit each residue in each state, and that begin with it.

    A residue's emission is part of a path's score once, in the state that emits it. So the derivative of the
    score by that emission is the share of that state: a probability, or, of the best path alone, 0 or 1.

    Returns:
        Scores (b,); shares (b, l, 2 m + 2) of N, J, C, the match and the insert states; begins (b, l).
    """

    def score(flanks: Tensor, matches: Tensor, inserts: Tensor) -> Tensor:
        return total_score(matches, inserts, flanks, lengths, *rest, join=join)

    residues = match.new_zeros(*tokens.shape, 4), emissions(tokens, match), emissions(tokens, insert)
    found, pull_back = torch.func.vjp(score, *residues)
    flanks, matches, inserts = pull_back((found > FLOOR / 2).to(found.dtype))
    return found, torch.cat([flanks[..., :3], matches, inserts], -1), flanks[..., 3]


def chains(dd: Tensor) -> list[Tensor]:
    """What 1, 2, 4, ... delete steps that end at each delete state cost together: each (m - 1,).

    dd (m - 1,) is the step from node k to k + 1; the first step of a delete state's run is not one of them.
    """
    steps = F.pad(dd[1:], (1, 0), value=FLOOR) if dd.numel() else dd
    found, size = [], 1
    while size < steps.numel():
        found.append(steps)
        steps, size = steps + F.pad(steps[:-size], (size, 0), value=FLOOR), 2 * size
    return found


def delete_scores(opened: Tensor, chain: list[Tensor], join: Callable[..., Tensor]) -> Tensor:
    """The delete states of one position, (b, m), from the scores of opening each: (b, m - 1) of D_2, D_3, ...

    D_k is opened from M_k-1 or carried on from D_k-1: a prefix scan, here by doubling.
    """
    for power, steps in enumerate(chain):
        size = 1 << power
        opened = join(opened, F.pad(opened[:, :-size], (size, 0), value=FLOOR) + steps)
    return F.pad(opened, (1, 0), value=FLOOR)


def or_minus_infinity(score: Tensor) -> Tensor:
    """The score, -inf where no path is possible."""
    return torch.where(score < FLOOR / 2, -torch.inf, score)
