"""Posterior decoding of a profile hidden Markov model: the probability of each state at each residue."""

import torch
from torch import Tensor

from biolayers.ops.hmm import FLOATS, over_sequences, sample
from biolayers.ops.hmm_paths import check, shares
from shared import Cost, op


@op("biolayers::hmm_posterior")
def hmm_posterior(
    tokens: Tensor,
    lengths: Tensor,
    match: Tensor,
    insert: Tensor,
    transitions: Tensor,
    entry: Tensor,
    exit: Tensor,
    special: Tensor,
) -> Tensor:
    """Which state emits each residue, as probabilities over all paths.

    Args:
        tokens: as in `hmm_forward`, and so on.
        lengths: (b,) int64.
        match: (m, symbols).
        insert: (m - 1, symbols).
        transitions: (m - 1, 7).
        entry: (m,).
        exit: (m,).
        special: (b, 4, 2).

    Returns:
        (b, l, 2 m + 2) probabilities of N, J, C, the m match states and the m - 1 insert states. Those of a
        residue add up to one; they are zeros beyond the end of a sequence and where no path is possible.

    Raises:
        UserError: an argument has another shape or dtype.

    Example:
        >>> import torch
        >>> from biolayers.ops import hmm_posterior
        >>> tokens, match = torch.tensor([[0, 1]], dtype=torch.uint8), torch.tensor([[3.0, 3.0]]).log()
        >>> nothing = torch.zeros(0, 2), torch.zeros(0, 7)
        >>> special = torch.tensor([[[0.0, 0.0], [-torch.inf, 0.0], [0.0, 0.0], [0.0, 0.0]]])
        >>> hmm_posterior(tokens, torch.tensor([2]), match, *nothing, *torch.zeros(2, 1), special)
        tensor([[[0.5000, 0.0000, 0.0000, 0.5000],
                 [0.0000, 0.0000, 0.5000, 0.5000]]])
    """
    check(tokens, lengths, match, insert, transitions, entry, exit, special)
    return shares(tokens, lengths, match, insert, transitions, entry, exit, special)[1]


@hmm_posterior.fake
def _(tokens, lengths, match, insert, transitions, entry, exit, special):
    check(tokens, lengths, match, insert, transitions, entry, exit, special)
    return match.new_empty(*tokens.shape, 2 * match.shape[0] + 2)


@hmm_posterior.batch
def _(again, dims, *args):
    return over_sequences(again, dims, args)


hmm_posterior.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="biolayers.kernels.numba.profiles.hosts:posterior",
)
hmm_posterior.autocast(cpu=torch.float32, cuda=torch.float32)


@hmm_posterior.cost
def _(tokens, lengths, match, insert, transitions, entry, exit, special):
    """The forward and the backward sums; each probability is written once."""
    cells = tokens.numel() * match.shape[0]
    return Cost(flops=38 * cells, bytes=2 * cells * match.element_size() + tokens.numel())


@hmm_posterior.samples(batch_axes={"tokens": 0, "lengths": 0, "special": 0})
def _():
    return [sample(seed, *sizes) for seed, sizes in enumerate(((2, 3, 2, 3), (2, 2, 1, 2)))]
