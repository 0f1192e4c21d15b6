"""The ops of `biolayers`: functions of whole batches of token sequences."""

from biolayers.ops.token_conv1d import token_conv1d, token_conv1d_backward

__all__ = ["token_conv1d", "token_conv1d_backward"]
