"""Shuffled sequences with the same k-lets: backgrounds and null models, every one equally probable."""

from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor

from biolayers.alphabet import DNA, PAD, Alphabet
from shared.errors import UserError
from shared.threads import parallel

_SHARE = 20_000  # letters that one thread shuffles in about 0.2 ms


def shuffle(
    tokens: Tensor,
    k: int = 2,
    *,
    seed: int | None = None,
    generator: Generator | None = None,
    lengths: Tensor | None = None,
    count: int | None = None,
    unknown: Literal["stay", "letter"] = "stay",
    rows: Tensor | None = None,
    alphabet: Alphabet = DNA,
) -> Tensor:
    """Shuffle sequences so that each keeps the counts of its k-lets, all such sequences equally probable.

    With k = 2 (dinucleotides) this is the usual background of motif finding and attribution. The first and
    the last k - 1 letters stay, as they must where k-lets are kept; k = 1 permutes the letters. A row's
    result depends on the seed and the row's number alone, not on the other rows or the number of threads.

    The method is that of Altschul & Erickson (1985) made uniform by Kandel et al. (1996) with Wilson's trees
    (Propp & Wilson, 1998); see `biolayers.euler`.

    Args:
        tokens: (..., l) uint8. `PAD` stays where it is.
        k: The length of the words whose counts are kept, from 1 on.
        seed: From 0 up to 2**64; the same seed gives the same result.
        generator: Draws the seed where none is given; by default PyTorch's own, so that `torch.manual_seed`
            counts.
        lengths: (...) integers: the true length of each row; what lies beyond stays. By default whole rows.
        count: How many shuffled copies of each row: a dimension more. The first copies do not depend on it.
        unknown: What becomes of letters that are not plain, such as N or gaps: "stay" leaves them where they
            are and shuffles each stretch between them by itself; "letter" treats each as a letter of its own.
        rows: (...) integers from 0 on: the number of each row, for the random numbers; by default 0, 1, ...
            Give them where a large set is shuffled in several calls.
        alphabet: Says which tokens are plain letters.

    Returns:
        The shuffled tokens on the same device: (..., l), or (..., count, l) with `count`. Work is done on the
        CPU.

    Raises:
        UserError: An argument is not as described.

    Example:
        >>> tokens = DNA.tokens(["ACACGTGTNNACCA"])
        >>> DNA.text(shuffle(tokens, seed=2))
        ['ACACGTGTNNACCA']
        >>> shuffle(tokens, 1, seed=1, count=3).shape
        torch.Size([1, 3, 14])
    """
    _check(tokens, k, count, unknown)
    flat = tokens.detach().reshape(tokens.shape[:-1].numel(), tokens.shape[-1]).cpu().contiguous()  # (n, l)
    column = _column("lengths", lengths, tokens, default=torch.full((len(flat),), flat.shape[1]))
    if lengths is not None and ((column < 0) | (column > flat.shape[1])).any():
        raise UserError(f"shuffle: expected lengths from 0 to {flat.shape[1]}, received {lengths}")
    numbers = _column("rows", rows, tokens, default=torch.arange(len(flat)))
    if (numbers < 0).any():
        raise UserError(f"shuffle: expected rows from 0 on, received {int(numbers.min())}")
    copies = 1 if count is None else count
    letters = alphabet.channels if unknown == "stay" else PAD
    out = _shuffled(flat, column, numbers, copies, k, letters, _seed(seed, generator))
    shape = tokens.shape if count is None else (*tokens.shape[:-1], count, tokens.shape[-1])
    return out.view(shape).to(tokens.device)


def _shuffled(
    flat: Tensor, lengths: Tensor, numbers: Tensor, copies: int, k: int, letters: int, seed: int
) -> Tensor:
    from biolayers.kernels.numba import shuffle as general
    from biolayers.kernels.numba import shuffle4
    from biolayers.kernels.numba.memory import fresh

    out = fresh(flat, len(flat) * copies, flat.shape[1])
    rows = (flat.numpy(), lengths.numpy(), numbers.numpy().astype(np.uint64), copies)
    few = letters == 4 and k <= shuffle4.MOST and flat.shape[1] < shuffle4.LONGEST
    parallel(
        shuffle4.shuffle if few else general.shuffle,
        len(out),
        *rows,
        min(k, flat.shape[1] + 1),
        *(() if few else (letters,)),
        np.uint64(seed),
        out.numpy(),
        grain=max(1, _SHARE // max(1, flat.shape[1])),
    )
    return out


def _check(tokens: Tensor, k: int, count: int | None, unknown: str) -> None:
    if tokens.dtype != torch.uint8 or tokens.dim() < 1:
        raise UserError(
            f"shuffle: expected uint8 tokens (..., l), received {tokens.dtype} {tuple(tokens.shape)}"
        )
    if k < 1:
        raise UserError(f"shuffle: expected k from 1 on, received {k}; 2 keeps dinucleotides")
    if count is not None and count < 0:
        raise UserError(f"shuffle: expected a count from 0 on, received {count}")
    if unknown not in ("stay", "letter"):
        raise UserError(f"shuffle: expected unknown to be 'stay' or 'letter', received {unknown!r}")


def _column(name: str, given: Tensor | None, tokens: Tensor, *, default: Tensor) -> Tensor:
    """One whole number for each row: (n,) int64."""
    if given is None:
        return default
    whole = not (given.is_floating_point() or given.is_complex() or given.dtype == torch.bool)
    if given.shape != tokens.shape[:-1] or not whole:
        raise UserError(
            f"shuffle: expected {name} as integers {tuple(tokens.shape[:-1])}, one per row, "
            f"received {given.dtype} {tuple(given.shape)}"
        )
    return given.reshape(-1).cpu().long().contiguous()


def _seed(seed: int | None, generator: Generator | None) -> int:
    if seed is not None and generator is not None:
        raise UserError("shuffle: expected a seed or a generator, received both; leave one out")
    if seed is None:
        device = "cpu" if generator is None else generator.device
        return int(torch.randint(2**63 - 1, (), generator=generator, device=device))
    if not 0 <= seed < 2**64:
        raise UserError(f"shuffle: expected a seed from 0 up to 2**64, received {seed}")
    return seed
