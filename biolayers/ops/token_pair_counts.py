"""How often two letters stand under two taps: all that the moments of a token convolution depend on.

With x[p] the one-hot columns under the taps at position p, flattened to channels * k numbers, the sums over
the positions of a batch are G = sum_p x[p] x[p]^T and m = sum_p x[p], which is the diagonal of G. A filter w
then has the mean w . m / n and the mean square w^T G w / n over the n positions, exactly, however long the
batch is.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from biolayers.ops.token_conv1d import check, columns
from shared import Cost, op
from shared.derive import loop_rule


@op("biolayers::token_pair_counts", differentiable=False)
def token_pair_counts(
    tokens: Tensor, channels: int, k: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Tensor:
    """Count, over all positions of a convolution, which letters stand under which two taps at once.

    Args:
        tokens: (b, l) uint8.
        channels: letters; tokens from `channels` on, and padding, are not counted.
        k: taps.
        stride: as in `token_conv1d`.
        padding: as in `token_conv1d`.
        dilation: as in `token_conv1d`.

    Returns:
        G (channels k, channels k) int64; the row of letter c under tap j is c * k + j, as in
        `weight.flatten(1)`.

    Raises:
        UserError: an argument has another shape or dtype, or the sequence is shorter than the taps.

    Example:
        >>> import torch
        >>> from biolayers.ops import token_pair_counts
        >>> tokens = torch.tensor([[0, 1, 1]], dtype=torch.uint8)  # the words A C and C C
        >>> token_pair_counts(tokens, 2, 2)
        tensor([[1, 0, 0, 1],
                [0, 0, 0, 0],
                [0, 0, 1, 1],
                [1, 0, 1, 2]])
    """
    check_counts(tokens, channels, k, stride, padding, dilation)
    like = torch.zeros(1, dtype=torch.float64, device=tokens.device)
    x = F.pad(columns(tokens, channels, like), (padding, padding))  # (b, channels, l + 2 padding)
    length = (x.shape[2] - dilation * (k - 1) - 1) // stride + 1
    last = (length - 1) * stride + 1
    under = [x[:, :, j * dilation : j * dilation + last : stride] for j in range(k)]
    words = torch.stack(under, 2).flatten(1, 2)  # (b, channels k, l')
    return torch.einsum("bip,bjp->ij", words, words).long()


def check_counts(tokens: Tensor, channels: int, k: int, stride: int, padding: int, dilation: int) -> int:
    """The number of positions of each sequence, after a check of everything that the op expects.

    Raises:
        UserError: see `token_pair_counts`.
    """
    weight = torch.empty(1, device=tokens.device).expand(1, max(0, channels), max(0, k))
    return check(tokens, weight, None, stride, padding, dilation)


@token_pair_counts.batch
def _(again, dims, tokens, *plain):
    return loop_rule(again, tokens.shape[dims[0]], dims, (tokens, *plain))


token_pair_counts.kernel(
    "numba", device="cpu", needs=("numba",), target="biolayers.kernels.numba.token_pair_counts:count"
)


@token_pair_counts.cost
def _(tokens, channels, k, stride, padding, dilation):
    """One count for each position and distance between taps; tokens are read, the counts written."""
    return Cost(flops=tokens.numel() * k, bytes=tokens.numel() + 8 * (channels * k) ** 2)


@token_pair_counts.samples(batch_axes={"tokens": 0})
def _():
    rng = torch.Generator().manual_seed(0)
    for b, l, channels, k, *geometry in (
        (2, 23, 4, 5, 1, 2, 1),
        (3, 17, 5, 3, 1, 0, 2),
        (2, 19, 3, 4, 3, 7, 2),
    ):
        tokens = torch.randint(0, channels + 2, (b, l), generator=rng).to(torch.uint8)
        yield (tokens, channels, k, *geometry)
