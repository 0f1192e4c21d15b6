"""CPU kernel of `rc_token_conv1d`: one pass over the tokens for the filters of both strands.

The words of the tokens are found once; their tables hold the filters of the given strand and of the other one
side by side, as tiles of one call. Tying the weights costs a copy of the few weights alone.
"""

from torch import Tensor

from biolayers.kernels.numba import token_conv1d
from biolayers.ops.rc_token_conv1d import both_strands, check_pair


def forward(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """`biolayers::rc_token_conv1d` for float32 and float64."""
    check_pair(tokens, weight, bias, stride, padding, dilation)
    both = None if bias is None else both_strands(bias.detach())
    return token_conv1d.forward(tokens, both_strands(weight.detach()), both, stride, padding, dilation)
