"""Translation of tokens, three at a time, by a table: codons to residues."""

import torch
from torch import Tensor

from biolayers.alphabet import PAD
from shared import Cost, op
from shared.derive import loop_rule
from shared.errors import UserError

DIGITS = 17  # tokens 0 to 15 (ACGT, N, the other IUPAC letters, the gap), and 16 for any other


@op("biolayers::translate", differentiable=False)
def translate(tokens: Tensor, table: Tensor, start: int = 0, reverse: bool = False) -> Tensor:
    """Read tokens three at a time and look each word up in a table.

    Read backwards, a row starts at its last token that is not `PAD`, so that rows of different lengths are
    read as each would be alone; the complement of the letters is then the table's affair. A word with `PAD`
    in it is `PAD`. `biolayers.layers.Translate` has the tables of the genetic codes.

    Args:
        tokens: (b, l) uint8.
        table: (17, 17, 17) uint8: the result for each word, by its tokens in the order in which they are
            read; index 16 stands for every token from 16 on.
        start: tokens that are passed over at first: the reading frame 0, 1 or 2, or more.
        reverse: whether rows are read from their ends backwards.

    Returns:
        (b, n) uint8, n = max(0, l - start) // 3.

    Raises:
        UserError: an argument has another shape or dtype, or `start` is negative.

    Example:
        >>> import torch
        >>> from biolayers.ops import translate
        >>> first = torch.arange(17, dtype=torch.uint8).reshape(17, 1, 1).expand(17, 17, 17)
        >>> translate(torch.tensor([[0, 1, 2, 3, 0, 1, 2]], dtype=torch.uint8), first)  # ACG, TAC
        tensor([[0, 3]], dtype=torch.uint8)
    """
    check(tokens, table, start)
    word, padded = words(tokens, start, reverse)
    return torch.where(padded, PAD, table.flatten()[word])


def words(tokens: Tensor, start: int, reverse: bool) -> tuple[Tensor, Tensor]:
    """The place (b, n) int64 of each word in a table of 17 x 17 x 17, and whether there is `PAD` in it."""
    b, l = tokens.shape
    if reverse:
        place = torch.arange(l, device=tokens.device)  # (l,)
        last = (place * (tokens != PAD)).amax(1, keepdim=True) if l else tokens.long()  # (b, 1)
        mirror = last - place  # (b, l)
        tokens = torch.where(mirror < 0, PAD, tokens.gather(1, mirror.clamp(min=0)))
    count = max(0, l - start) // 3
    triples = tokens[:, start : start + 3 * count].reshape(b, count, 3)
    first, second, third = triples.clamp(max=DIGITS - 1).long().unbind(2)
    return (first * DIGITS + second) * DIGITS + third, (triples == PAD).any(2)


def check(tokens: Tensor, table: Tensor, start: int) -> None:
    """Check everything that `translate` expects.

    Raises:
        UserError: see `translate`.
    """
    if tokens.dtype != torch.uint8 or tokens.ndim != 2:
        raise UserError(
            f"translate: expected tokens (b, l) of dtype uint8, received {tuple(tokens.shape)} of dtype "
            f"{str(tokens.dtype).removeprefix('torch.')}; encode text with biolayers.DNA or biolayers.RNA"
        )
    if table.dtype != torch.uint8 or table.shape != (DIGITS,) * 3:
        raise UserError(
            "translate: expected a table (17, 17, 17) of dtype uint8, received "
            f"{tuple(table.shape)} of dtype {str(table.dtype).removeprefix('torch.')}"
        )
    if start < 0:
        raise UserError(f"translate: expected start of at least 0, received {start}")


translate.kernel("numba", device="cpu", needs=("numba",), target="biolayers.kernels.numba.translate:forward")


@translate.batch
def _(again, dims, tokens, table, start, reverse):
    over_tokens, over_table = dims[:2]
    if over_table is None:
        tokens = tokens.movedim(over_tokens, 0)  # (v, b, l)
        found = again(tokens.flatten(0, 1), table, start, reverse)
        return found.unflatten(0, tokens.shape[:2]), 0
    return loop_rule(again, table.shape[over_table], dims, (tokens, table, start, reverse))


@translate.cost
def _(tokens, table, start, reverse):
    """Tokens and table are read once and a third as many residues written; nothing floats."""
    residues = tokens.shape[0] * (max(0, tokens.shape[1] - start) // 3)
    return Cost(flops=0, bytes=tokens.numel() + table.numel() + residues)


@translate.samples(batch_axes={"tokens": 0})
def _():
    table = torch.randint(0, 28, (DIGITS,) * 3, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for seed, (b, l, start, reverse) in enumerate(((3, 13, 0, False), (2, 11, 1, True), (2, 4, 2, False))):
        rng = torch.Generator().manual_seed(seed)
        tokens = torch.randint(0, 18, (b, l), generator=rng).to(torch.uint8)
        tokens[0, l - 2 :] = PAD
        yield tokens, table, start, reverse
