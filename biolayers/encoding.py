"""Tokens to one channel per plain letter, for layers that want it."""

import torch
from torch import Tensor

from biolayers.alphabet import DNA, Alphabet
from shared.errors import UserError
from shared.threads import parallel

_SHARE = 100_000  # letters that one thread writes in about 0.1 ms
_SIZES = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # integers to write any dtype as


def one_hot(tokens: Tensor, alphabet: Alphabet = DNA, dtype: torch.dtype = torch.float32) -> Tensor:
    """One channel per plain letter: 1 where the letter stands, else 0.

    Ambiguous letters, gaps and padding are zeros in all channels; `Alphabet.one_hot` can spread ambiguous
    letters over those that they stand for.

    Args:
        tokens: (..., l) uint8.
        alphabet: Whose plain letters are the channels.
        dtype: Of the result: a float or an integer, or bool.

    Returns:
        (..., channels, l).

    Raises:
        UserError: `tokens` is not uint8, or has no dimension, or `dtype` is complex.

    Example:
        >>> one_hot(DNA.tokens("ACN"))
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 0.],
                [0., 0., 0.]])
    """
    if tokens.dtype != torch.uint8 or tokens.dim() == 0 or dtype.is_complex:
        raise UserError(
            f"one_hot: expected uint8 tokens (..., l) and a real dtype, received {tokens.dtype} "
            f"{tuple(tokens.shape)} and {dtype}"
        )
    if tokens.device.type != "cpu":
        letters = torch.arange(alphabet.channels, device=tokens.device, dtype=torch.uint8)
        return (tokens.unsqueeze(-2) == letters.unsqueeze(-1)).to(dtype)
    from biolayers.kernels.numba import one_hot as kernel
    from biolayers.kernels.numba.memory import fresh

    length = tokens.shape[-1]
    out = fresh(torch.empty(0, dtype=dtype), *tokens.shape[:-1], alphabet.channels, length)
    bits = _SIZES[out.element_size()]
    one = torch.ones(1, dtype=dtype).view(bits).numpy()
    rows = tokens.contiguous().view(-1, length) if tokens.numel() else tokens.new_empty((0, length))
    parallel(
        kernel.one_hot, len(rows) * kernel.parts(length), rows.numpy(), one, alphabet.channels,
        out.view(bits).view(-1).numpy(), out.nbytes >= kernel.LARGE,
        grain=max(1, _SHARE // max(1, min(length, kernel.PART))),
    )  # fmt: skip
    return out
