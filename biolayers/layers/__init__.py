"""The layers of `biolayers`: ordinary `torch.nn` modules that take tokens."""

from biolayers.layers.token_conv1d import TokenConv1d

__all__ = ["TokenConv1d"]
