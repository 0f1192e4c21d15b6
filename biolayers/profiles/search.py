"""How a profile is laid over sequences: HMMER's local and glocal modes, length model and null model.

See Eddy, PLoS Comput Biol 4:e1000069 (2008), and HMMER's own configuration of its profiles.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def entries(weights: Tensor) -> Tensor:
    """Local entry: log-probabilities (m,) to begin at each node, from log-weights of the nodes.

    Every pair of a first and a last node is as likely as the first node's weight: a share of the sum of all
    pairs', so that leaving costs nothing.
    """
    ends = torch.arange(len(weights), 0, -1, device=weights.device, dtype=weights.dtype)
    return weights - torch.logsumexp(weights + ends.log(), -1)


def occupancies(transitions: Tensor) -> Tensor:
    """The log-probability (m,) that a path from end to end uses each match state, from steps (m + 1, 7)."""
    mm, mi, _, _, _, dm, _ = transitions.exp().unbind(-1)
    found = [(mm + mi)[0]]
    for k in range(1, len(transitions) - 1):
        found.append(found[-1] * (mm + mi)[k] + (1 - found[-1]) * dm[k])
    return torch.stack(found).log()


def whole_entries(begin: Tensor, transitions: Tensor) -> Tensor:
    """Glocal entry: (m,) from the begin state straight to node 1, or through delete states to a later one.

    Args:
        begin: (2,) log-probabilities of the first match and the first delete state.
        transitions: (m - 1, 7) log-probabilities of the steps between nodes.
    """
    through = F.pad(transitions[:, 6].cumsum(0), (1, 0))[:-1]  # D_1 to D_k
    return torch.cat([begin[:1], begin[1] + through + transitions[:, 5]])


def exits(nodes: int, *, local: bool, like: Tensor) -> Tensor:
    """(m,) from each node to the end: for nothing in local mode, from the last alone in glocal mode."""
    found = like.new_zeros(nodes)
    if not local:
        found[:-1] = -torch.inf
    return found


def length_model(lengths: Tensor, *, multihit: bool, like: Tensor) -> Tensor:
    """(b, 4, 2) log-probabilities to stay in and to leave N, E, J and C, for sequences of these lengths.

    The residues outside of the model are as many as expected of the length, in three stretches (two without
    J); of a multihit model each pass is followed by another with probability one half.
    """
    stretches = 3.0 if multihit else 2.0
    length = lengths.to(like)
    stay, move = (length / (length + stretches)).log(), (stretches / (length + stretches)).log()
    flank = torch.stack([stay, move], -1)  # (b, 2)
    again = like.new_tensor([0.5, 0.5] if multihit else [0.0, 1.0]).log().expand_as(flank)
    return torch.stack([flank, again, flank, flank], 1)


def null_score(lengths: Tensor, *, like: Tensor) -> Tensor:
    """HMMER's first null model, (b,) in nats: residues of the background in a sequence of expected length."""
    length = lengths.to(like)
    return torch.xlogy(length, length / (length + 1)) - torch.log(length + 1)
