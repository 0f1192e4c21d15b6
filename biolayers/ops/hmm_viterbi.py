"""The best path through a profile hidden Markov model."""

import torch
from torch import Tensor

from biolayers.ops.hmm import FLOATS, over_sequences, sample
from biolayers.ops.hmm_paths import best, check, or_minus_infinity, shares
from shared import Cost, op

FLANKS = 3  # states before the first match state, in the order N, J, C


@op("biolayers::hmm_viterbi")
def hmm_viterbi(
    tokens: Tensor,
    lengths: Tensor,
    match: Tensor,
    insert: Tensor,
    transitions: Tensor,
    entry: Tensor,
    exit: Tensor,
    special: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the best path of each sequence: its score in nats, and the state that emits each residue.

    States have the numbers of the columns of `hmm_posterior`: 0 N, 1 J, 2 C, then m match states, then m - 1
    insert states. Delete states emit nothing: within a pass they lie between two match states that are not
    neighbours. Of several best paths one is returned.

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
        The scores (b,), -inf where no path is possible; the states (b, l) int64, -1 beyond the end of a
        sequence and where no path is possible; and the number of the pass through the model (b, l) int64,
        from 0, -1 in N, J and C.

    Raises:
        UserError: an argument has another shape or dtype.

    Example:
        >>> import torch
        >>> from biolayers.ops import hmm_viterbi
        >>> tokens, match = torch.tensor([[1, 0, 1]], dtype=torch.uint8), torch.tensor([[2.0, -1.0]])
        >>> nothing = torch.zeros(0, 2), torch.zeros(0, 7)
        >>> special = torch.tensor([[[0.0, 0.0], [-torch.inf, 0.0], [0.0, 0.0], [0.0, 0.0]]])
        >>> hmm_viterbi(tokens, torch.tensor([3]), match, *nothing, *torch.zeros(2, 1), special)
        (tensor([2.]), tensor([[0, 3, 2]]), tensor([[-1,  0, -1]]))
    """
    check(tokens, lengths, match, insert, transitions, entry, exit, special)
    score, taken, begins = shares(
        tokens, lengths, match, insert, transitions, entry, exit, special, join=best
    )
    emitted = taken.detach().sum(-1) > 0.5
    states = torch.where(emitted, taken.argmax(-1), -1)
    passes = begins.round().long().cumsum(-1) - 1
    return or_minus_infinity(score), states, torch.where(states >= FLANKS, passes, -1)


@hmm_viterbi.fake
def _(tokens, lengths, match, insert, transitions, entry, exit, special):
    check(tokens, lengths, match, insert, transitions, entry, exit, special)
    places = [tokens.new_empty(tokens.shape, dtype=torch.int64) for _ in range(2)]
    return match.new_empty(tokens.shape[0]), *places


@hmm_viterbi.batch
def _(again, dims, *args):
    return over_sequences(again, dims, args)


hmm_viterbi.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="biolayers.kernels.numba.profiles.hosts:viterbi",
)
hmm_viterbi.autocast(cpu=torch.float32, cuda=torch.float32)


@hmm_viterbi.cost
def _(tokens, lengths, match, insert, transitions, entry, exit, special):
    """An addition and a comparison for each way into each state of each position."""
    cells = tokens.numel() * match.shape[0]
    return Cost(flops=18 * cells, bytes=17 * tokens.numel() + match.numel() * match.element_size())


@hmm_viterbi.samples(batch_axes={"tokens": 0, "lengths": 0, "special": 0})
def _():
    return [sample(seed, *sizes) for seed, sizes in enumerate(((2, 3, 2, 3), (2, 2, 1, 2)))]
