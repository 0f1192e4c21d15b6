"""`motif_scan` and `motif_best` on CPU, by sums of rows of k-mer tables (see `kmer`).

All scores come from the convolution of tokens, after which the few windows that do not fit are marked. The
best scores need none of that memory: a line holds the strands of several motifs, one row per group of letters
is added up for each place, and only the best so far and its place stay in registers.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor

from biolayers.kernels.numba.kmer import Words, build_rows, choose_group, words
from biolayers.kernels.numba.simd import LINE_BYTES, add, lanes_of, read, write
from biolayers.ops.motif_scan import NO_SITE, check, strands_of
from biolayers.ops.token_conv1d import token_conv1d
from shared.simd import Lowering, splat_vector
from shared.threads import parallel

_PAD = 255


def scan(
    tokens: Tensor, weight: Tensor, widths: Tensor, letters: Tensor, both_strands: bool = True
) -> Tensor:
    """`biolayers::motif_scan` for float32 and float64."""
    check(tokens, weight, widths, letters)
    (b, l), (m, _, k), strands = tokens.shape, weight.shape, 1 + both_strands
    if l == 0:
        return weight.new_empty(b, m, strands, 0)
    padded = F.pad(tokens, (0, k - 1), value=_PAD)
    scores = token_conv1d(padded, _by_token(weight, widths, letters, both_strands))
    needed = widths.repeat_interleave(strands).numpy()
    grain = max(1, (1 << 20) // (m * strands * l))
    parallel(
        refuse, b, tokens.contiguous().numpy(), letters.shape[0], needed, NO_SITE,
        scores.numpy(), grain=grain,
    )  # fmt: skip
    return scores.unflatten(1, (m, strands))


def best(
    tokens: Tensor, weight: Tensor, widths: Tensor, letters: Tensor, both_strands: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """`biolayers::motif_best` for float32 and float64."""
    check(tokens, weight, widths, letters)
    (b, l), m, strands, rows = tokens.shape, len(weight), 1 + both_strands, len(letters)
    lanes = lanes_of(weight.element_size())
    values = tokens.detach().contiguous().numpy()
    found, tables = _sums(values, _by_token(weight, widths, letters, both_strands), lanes)
    whole = np.int32 if weight.element_size() == 4 else np.int64  # as many to a line as scores
    needed = np.full(len(tables) * lanes, l + 1, whole)  # the lanes that are left over never fit
    needed[: m * strands] = widths.repeat_interleave(strands).numpy()
    runs = np.empty((b, l), whole)
    parallel(count_runs, b, values, rows, runs, grain=max(1, (1 << 18) // max(1, l)))
    score = weight.new_empty(b, m)
    place, strand = (torch.empty(b, m, dtype=torch.int64) for _ in range(2))
    grain = max(1, (1 << 15) // max(1, l))
    parallel(
        best_rows, b * len(tables), found.codes, found.starts, tables, runs, needed, NO_SITE,
        score.numpy(), place.numpy(), strand.numpy(), strands, grain=grain,
    )  # fmt: skip
    return score, place, strand


def _sums(tokens: np.ndarray, weight: Tensor, lanes: int) -> tuple[Words, np.ndarray]:
    """The words of tokens (b, l), and the tables (tiles, groups, words, lanes) whose rows add up to scores.

    weight is what `_by_token` gives.
    """
    (b, l), (outputs, rows, k) = tokens.shape, weight.shape
    tiles = -(-outputs // lanes)
    group = choose_group(k, rows, max(1, b * l), line=LINE_BYTES, copies=1, spill=0.3)
    found = words(tokens, rows, k, l, 1, 0, 1, group=group, lanes=lanes)
    columns = weight.new_zeros(found.groups * group, rows + 1, tiles * lanes)
    columns[:k, :rows, :outputs] = weight.permute(2, 1, 0)
    none = np.zeros(tiles * lanes, columns.numpy().dtype)
    tables = weight.new_empty(tiles, found.groups, (rows + 1) ** group, lanes).numpy()
    parallel(build_rows, tiles * found.groups, columns.numpy(), none, tables, group, grain=8)
    return found, tables


def _by_token(weight: Tensor, widths: Tensor, letters: Tensor, both_strands: bool) -> Tensor:
    """What each token adds at each position of each strand: (m * strands, rows, w)."""
    stacked = strands_of(weight.detach(), widths, both_strands).flatten(0, 1)
    if letters.shape[0] == letters.shape[1] and torch.equal(letters, torch.eye(len(letters)).to(letters)):
        return stacked
    return torch.einsum("rc,ocj->orj", letters.detach(), stacked)


@njit(nogil=True, cache=True)
def refuse(start, stop, tokens, rows, needed, worst, scores):
    """Write `worst` where a window meets a token that is not below `rows`, or the end; rows are sequences."""
    length = tokens.shape[1]
    widest = needed.max()
    for b in range(start, stop):
        run = 0
        for p in range(length - 1, -1, -1):
            run = run + 1 if tokens[b, p] < rows else 0
            if run < widest:
                for o in range(needed.shape[0]):
                    if run < needed[o]:
                        scores[b, o, p] = worst


@njit(nogil=True, cache=True)
def count_runs(start, stop, tokens, rows, out):
    """out[b, p] = how many tokens below `rows` follow each other from p on."""
    for b in range(start, stop):
        run = 0
        for p in range(tokens.shape[1] - 1, -1, -1):
            run = run + 1 if tokens[b, p] < rows else 0
            out[b, p] = run


@njit(nogil=True, cache=True)
def best_rows(start, stop, codes, starts, tables, runs, needed, worst, score, place, strand, strands):
    """The best of each motif in each sequence; rows (tile, b)."""
    _, groups, rows, lanes = tables.shape
    batch, length = runs.shape
    flat, line = tables.reshape(-1), codes.reshape(-1)
    value, where = np.empty(lanes, tables.dtype), np.empty(lanes, needed.dtype)
    for row in range(start, stop):
        tile, b = divmod(row, batch)
        first, shift = tile * groups * rows * lanes, b * codes.shape[1]
        value[:] = worst
        where[:] = -1
        top, at, width = read(value, 0), read(where, 0), read(needed, tile * lanes)
        for p in range(length):
            total = read(flat, first + np.int64(line[shift + p + starts[0]]))
            for i in range(1, groups):
                table = first + i * rows * lanes + np.int64(line[shift + p + starts[i]])
                total = add(total, read(flat, table))
            top, at = keep(top, at, total, p, runs[b, p], width)
        write(value, 0, top)
        write(where, 0, at)
        choose(value, where, tile * lanes // strands, strands, score[b], place[b], strand[b])


@njit(nogil=True, cache=True)
def choose(value, where, first, strands, score, place, strand):
    """From the best of each lane, that of each motif from `first` on: at one place, the forward strand."""
    lanes = value.shape[0]
    for motif in range(first, min(first + lanes // strands, score.shape[0])):
        lane = (motif - first) * strands
        side = 0
        if strands == 2:
            better = value[lane + 1] > value[lane]
            if better or (value[lane + 1] == value[lane] and where[lane + 1] < where[lane]):
                side = 1
        score[motif], place[motif], strand[motif] = value[lane + side], where[lane + side], side


@intrinsic
def keep(typing: Any, top: Any, at: Any, total: Any, p: Any, run: Any, width: Any) -> Lowering:
    """`keep(top, at, total, p, run, width)`: take `total` and p in lanes where it is better and the run fits.

    top and total are lines of scores; at and width are as many whole numbers.
    """
    result = types.Tuple((top, at))

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        best, places, new, place, letters, needed = args
        fits = builder.icmp_signed(">=", splat_vector(builder, letters, at), needed)
        chosen = builder.and_(builder.fcmp_ordered(">", new, best), fits)
        values = (
            builder.select(chosen, new, best),
            builder.select(chosen, splat_vector(builder, place, at), places),
        )
        return context.make_tuple(builder, result, values)

    return result(top, at, total, at.scalar, at.scalar, width), lower
