"""Scores of motifs at every offset of token sequences, and the best of each sequence.

A motif m has log-odds weight[m] (channels, width_m). At offset p of a sequence its score on the forward
strand is sum_j sum_c weight[m, c, j] letters[token[p + j], c]; on the reverse strand the weights are turned
round (positions backwards, letters complemented, which reverses A C G T). A window that holds a token without
a row in `letters`, or that reaches beyond the end, has the score -1e30: unlike -inf, it leaves derivatives
and sums of exponentials without NaN.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from biolayers.ops.token_conv1d import token_conv1d_backward
from shared import Cost, op
from shared.derive import loop_rule
from shared.errors import UserError

FLOATS = (torch.float32, torch.float64)
_PAD = 255  # a token that no table of letters has a row for
Size = int | torch.SymInt  # of a tensor; compiled for many sizes it is a symbol
NO_SITE = -1e30  # the score of a window that does not fit


@op("biolayers::motif_scan")
def motif_scan(
    tokens: Tensor, weight: Tensor, widths: Tensor, letters: Tensor, both_strands: bool = True
) -> Tensor:
    """Score motifs of unequal widths at every offset, the last window included.

    Args:
        tokens: (b, l) uint8.
        weight: (m, channels, w) floating and finite: the log-odds of each motif, in its first width columns.
        widths: (m,) int64: from 1 to w.
        letters: (rows, channels) of the same dtype: what each token below `rows` stands for, as shares of the
            letters; the identity for plain letters (`MotifBank.letters` makes all three policies for N).
        both_strands: whether the reverse strand is scored too.

    Returns:
        (b, m, strands, l): forward, then reverse; entry p belongs to the window that begins at p.

    Raises:
        UserError: an argument has another shape or dtype.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> from biolayers.ops import motif_scan
        >>> weight = torch.eye(4)[None, :, :2]  # 1 for A, then 1 for C
        >>> motif_scan(DNA.tokens(["ACGT"]), weight, torch.tensor([2]), torch.eye(4))
        tensor([[[[ 2.0000e+00,  0.0000e+00,  0.0000e+00, -1.0000e+30],
                  [ 0.0000e+00,  0.0000e+00,  2.0000e+00, -1.0000e+30]]]])
    """
    check(tokens, weight, widths, letters)
    k, l = weight.shape[2], tokens.shape[1]
    columns = letter_columns(tokens, letters)  # (b, channels, l)
    stacked = strands_of(weight, widths, both_strands).flatten(0, 1)  # (m * strands, channels, w)
    scores = F.conv1d(F.pad(columns, (0, k)), stacked)[:, :, :l].unflatten(1, (weight.shape[0], -1))
    return torch.where(fitting(tokens, widths, letters.shape[0]), scores, NO_SITE)


@op("biolayers::motif_best")
def motif_best(
    tokens: Tensor, weight: Tensor, widths: Tensor, letters: Tensor, both_strands: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """The best site of each motif in each sequence, without the scores of all others.

    Among equal scores the first site wins, and the forward strand before the reverse one. The gradient flows
    to the weights of the best site alone.

    Args:
        tokens: (b, l) uint8.
        weight: as of `motif_scan`.
        widths: as of `motif_scan`.
        letters: as of `motif_scan`.
        both_strands: as of `motif_scan`.

    Returns:
        score (b, m); place (b, m) int64, where the site begins; strand (b, m) int64, 0 forward and 1 reverse.
        A sequence without a site has -1e30, -1 and 0.

    Raises:
        UserError: an argument has another shape or dtype.

    Example:
        >>> import torch
        >>> from biolayers import DNA
        >>> from biolayers.ops import motif_best
        >>> weight = torch.eye(4)[None, :, :2]
        >>> motif_best(DNA.tokens(["GGT", "TAC"]), weight, torch.tensor([2]), torch.eye(4))
        (tensor([[2.],
                [2.]]), tensor([[1],
                [1]]), tensor([[1],
                [0]]))
    """
    scores = motif_scan.reference(tokens, weight, widths, letters, both_strands)
    strands = scores.shape[2]
    sites = F.pad(scores.transpose(2, 3).flatten(2), (0, 1), value=NO_SITE)  # (b, m, l * strands + 1)
    first = sites.argmax(2, keepdim=True)
    best = sites.gather(2, first).squeeze(2)
    none = best == NO_SITE
    first = first.squeeze(2)
    return best, torch.where(none, -1, first // strands), torch.where(none, 0, first % strands)


def check(tokens: Tensor, weight: Tensor, widths: Tensor, letters: Tensor) -> None:
    """Check everything that the ops expect.

    Raises:
        UserError: see `motif_scan`.
    """
    if weight.ndim != 3 or 0 in weight.shape:
        raise UserError(
            f"motif_scan: expected weight (m, channels, w), none of them 0, received {tuple(weight.shape)}"
        )
    if letters.ndim != 2 or letters.shape[1] != weight.shape[1] or letters.dtype != weight.dtype:
        raise UserError(
            f"motif_scan: expected letters (rows, {weight.shape[1]}) of {weight.dtype}, like weight, "
            f"received {tuple(letters.shape)} of {letters.dtype}"
        )
    if widths.shape != weight.shape[:1] or widths.dtype != torch.int64:
        raise UserError(
            f"motif_scan: expected widths ({weight.shape[0]},) int64, one for each motif of weight, received "
            f"{tuple(widths.shape)} {widths.dtype}"
        )
    if tokens.ndim != 2 or tokens.dtype != torch.uint8:
        raise UserError(
            f"motif_scan: expected tokens (b, l) uint8, received {tuple(tokens.shape)} {tokens.dtype}; "
            "biolayers.Alphabet makes tokens of text"
        )


def letter_columns(tokens: Tensor, letters: Tensor) -> Tensor:
    """The rows of `letters` of all tokens, zeros for a token without one: (b, channels, l)."""
    return torch.einsum("brl,rc->bcl", one_hot(tokens, letters), letters)


def one_hot(tokens: Tensor, letters: Tensor) -> Tensor:
    """One channel for each row of `letters`, of its dtype: (b, rows, l)."""
    rows = torch.arange(letters.shape[0], device=tokens.device)
    return (tokens.unsqueeze(1) == rows.unsqueeze(1)).to(letters.dtype)


def strands_of(weight: Tensor, widths: Tensor, both_strands: bool) -> Tensor:
    """Each motif as it reads on the forward and, if wanted, on the reverse strand: (m, strands, channels, w).

    Columns beyond the width are zeros. The map is linear, and its own adjoint on each strand.
    """
    column = torch.arange(weight.shape[2], device=weight.device)
    inside = (column < widths.unsqueeze(1)).unsqueeze(1)  # (m, 1, w)
    forward = torch.where(inside, weight, 0)
    if not both_strands:
        return forward.unsqueeze(1)
    mirror = (widths.unsqueeze(1) - 1 - column).clamp(0, weight.shape[2] - 1).unsqueeze(1)  # (m, 1, w)
    reverse = torch.where(inside, weight.flip(1).gather(2, mirror.expand_as(weight)), 0)
    return torch.stack([forward, reverse], 1)


def fitting(tokens: Tensor, widths: Tensor, rows: Size) -> Tensor:
    """Whether a window of each motif fits between its first letter and the next token without a row.

    Returns:
        (b, m, 1, l) bool.
    """
    l = tokens.shape[1]
    place = torch.arange(l, device=tokens.device)
    stops = torch.where(tokens >= rows, place, l)  # (b, l)
    following = stops.flip(1).cummin(1).values.flip(1)  # the next stop from each place on
    return (following - place)[:, None, None, :] >= widths[None, :, None, None]


# -- derivatives


@motif_scan.derivative(saves=lambda tokens, weight, widths, letters, both_strands: (
    tokens, weight, widths, letters, both_strands
))  # fmt: skip
def _(saved, needs, grad):
    tokens, weight, widths, letters, both_strands = saved
    rows, k = letters.shape[0], weight.shape[2]
    grad = torch.where(fitting(tokens, widths, rows), grad, 0)
    grad = grad.reshape(tokens.shape[0], (1 + both_strands) * weight.shape[0], tokens.shape[1])
    padded, grad = F.pad(tokens, (0, k), value=_PAD), F.pad(grad, (0, 1))
    found, _ = token_conv1d_backward(padded, grad, rows, k)  # (m * strands, rows, w)
    grad_letters = None
    if needs[3]:
        stacked = strands_of(weight, widths, both_strands).reshape(-1, *weight.shape[1:])
        grad_letters = (found @ stacked.transpose(1, 2)).sum(0)
    turned = letters.T @ found  # (m * strands, channels, w)
    turned = turned.reshape(weight.shape[0], -1, *weight.shape[1:])
    return None, _fold(turned, widths), None, grad_letters, None


def _fold(turned: Tensor, widths: Tensor) -> Tensor:
    """The adjoint of `strands_of`: (m, strands, channels, w) to (m, channels, w)."""
    forward = strands_of(turned[:, 0], widths, False)[:, 0]
    return forward if turned.shape[1] == 1 else forward + strands_of(turned[:, 1], widths, True)[:, 1]


@motif_scan.tangent
def _(args, tangents):
    tokens, weight, widths, letters, both_strands = args
    _, along_weight, _, along_letters, _ = tangents
    parts = []
    if along_weight is not None:
        parts.append(motif_scan(tokens, along_weight, widths, letters, both_strands))
    if along_letters is not None:
        parts.append(motif_scan(tokens, weight, widths, along_letters, both_strands))
    fits = fitting(tokens, widths, letters.shape[0])
    return sum(torch.where(fits, part, 0) for part in parts)


@motif_best.derivative(
    saves=lambda tokens, weight, widths, letters, both_strands, output: (
        tokens, weight, widths, letters, *output[1:]
    )
)  # fmt: skip
def _(saved, needs, grad, _, __):
    tokens, weight, widths, letters, place, strand = saved
    grad = torch.where(place >= 0, grad, 0)
    words = _words(tokens, place, weight.shape[2], letters)  # (b, m, w, rows)
    found = (words @ letters).transpose(2, 3)  # (b, m, channels, w)
    turned = torch.stack([(_on(grad, strand, side) * found).sum(0) for side in (0, 1)], 1)
    grad_letters = None
    if needs[3]:
        read = _read(strands_of(weight, widths, True), grad, strand).transpose(2, 3)  # (b, m, w, channels)
        grad_letters = (words.transpose(2, 3) @ read).sum((0, 1))
    return None, _fold(turned, widths), None, grad_letters, None


@motif_best.tangent
def _(args, tangents):
    tokens, weight, widths, letters, both_strands = args
    _, along_weight, _, along_letters, _ = tangents
    _, place, strand = motif_best(tokens, weight.detach(), widths, letters.detach(), both_strands)
    words = _words(tokens, place, weight.shape[2], letters)
    chosen = (place >= 0).to(weight.dtype)
    total = torch.zeros_like(chosen)
    for some, shares in ((along_weight, letters), (weight, along_letters)):
        if some is not None and shares is not None:
            read = _read(strands_of(some, widths, True), chosen, strand)
            total = total + (read * (words @ shares).transpose(2, 3)).sum((2, 3))
    return total, None, None


def _read(both: Tensor, factor: Tensor, strand: Tensor) -> Tensor:
    """The weights of each best site's strand, times a factor (b, m): (b, m, channels, w)."""
    return sum(_on(factor, strand, side) * both[:, side] for side in (0, 1))


def _on(values: Tensor, strand: Tensor, side: int) -> Tensor:
    """(b, m) to (b, m, 1, 1), zero on the other strand."""
    return torch.where(strand == side, values, 0)[:, :, None, None]


def _words(tokens: Tensor, place: Tensor, k: Size, letters: Tensor) -> Tensor:
    """The tokens of the windows that begin at `place` (b, m), one-hot: (b, m, w, rows)."""
    m = place.shape[1]
    padded = F.pad(tokens, (0, k), value=_PAD)
    window = place.clamp(min=0).unsqueeze(2) + torch.arange(k, device=place.device)  # (b, m, w)
    found = padded.gather(1, window.reshape(tokens.shape[0], m * k))
    return one_hot(found, letters).transpose(1, 2).reshape(tokens.shape[0], m, k, letters.shape[0])


# -- batches, kernels, costs


def _fold_batch(again, dims, tokens, weight, widths, letters, both_strands, *, axis):
    """The mapped axis as more sequences or more motifs, else a loop; the motifs are axis 1 of all results."""
    over_tokens, over_weight, over_widths, over_letters = dims[:4]
    plain = over_letters is None
    if plain and over_tokens is not None and over_weight is None and over_widths is None:
        tokens = tokens.movedim(over_tokens, 0)  # (v, b, l)
        found = again(tokens.flatten(0, 1), weight, widths, letters, both_strands)
        return _each(found, lambda part: part.unflatten(0, tokens.shape[:2])), axis(0)
    if plain and over_tokens is None and over_weight is not None and weight.shape[over_weight]:
        weight = weight.movedim(over_weight, 0)  # (v, m, channels, w)
        v, m = weight.shape[:2]
        each = widths.expand(v, m) if over_widths is None else widths.movedim(over_widths, 0)
        found = again(tokens, weight.flatten(0, 1), each.flatten(), letters, both_strands)
        return _each(found, lambda part: part.unflatten(1, (v, m))), axis(1)
    args = (tokens, weight, widths, letters, both_strands)
    size = next(a.shape[d] for a, d in zip(args[:4], dims[:4], strict=True) if d is not None)
    return loop_rule(again, size, dims, args)


def _each(found, change):
    return tuple(map(change, found)) if isinstance(found, tuple) else change(found)


@motif_scan.batch
def _(again, dims, tokens, weight, widths, letters, both_strands):
    return _fold_batch(again, dims, tokens, weight, widths, letters, both_strands, axis=lambda at: at)


@motif_best.batch
def _(again, dims, tokens, weight, widths, letters, both_strands):
    return _fold_batch(again, dims, tokens, weight, widths, letters, both_strands, axis=lambda at: (at,) * 3)


motif_scan.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="biolayers.kernels.numba.motif_scan:scan",
)
motif_best.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="biolayers.kernels.numba.motif_scan:best",
)
for _op in (motif_scan, motif_best):
    _op.autocast(cpu=torch.float32, cuda=torch.float32)


@motif_scan.cost
def _(tokens, weight, widths, letters, both_strands):
    """One addition per column and score; the scores are written once, tokens and weights are read."""
    check(tokens, weight, widths, letters)
    scores = tokens.numel() * weight.shape[0] * (1 + both_strands)
    moved = tokens.numel() + (scores + weight.numel()) * weight.element_size()
    return Cost(flops=scores * weight.shape[2], bytes=moved)


@motif_best.cost
def _(tokens, weight, widths, letters, both_strands):
    """One addition per column and score, one comparison per score; only the best are written."""
    check(tokens, weight, widths, letters)
    scores = tokens.numel() * weight.shape[0] * (1 + both_strands)
    written = tokens.shape[0] * weight.shape[0] * (weight.element_size() + 16)
    return Cost(
        flops=scores * (weight.shape[2] + 1),
        bytes=tokens.numel() + weight.numel() * weight.element_size() + written,
    )


# (b, l, widths, rows of letters, both strands)
_SAMPLES = (
    (2, 18, (3, 7, 4), 4, True),
    (3, 6, (8, 3), 6, True),  # a motif wider than the sequences
    (2, 11, (4,), 5, False),
    (2, 9, (4, 3, 9, 5, 6, 4, 4, 4, 3), 4, True),
)


def _samples():
    for seed, (b, l, widths, rows, both) in enumerate(_SAMPLES):
        rng = torch.Generator().manual_seed(seed)
        tokens = torch.stack([_without_repeats(l, rows, rng) for _ in range(b)])
        weight = torch.randn(len(widths), 4, max(widths), generator=rng, dtype=torch.float64)
        letters = torch.cat([torch.eye(4), torch.rand(rows - 4, 4, generator=rng)]).double()
        yield tokens, weight, torch.tensor(widths), letters, both


def _without_repeats(l: int, rows: int, rng: torch.Generator) -> Tensor:
    """Random tokens, one or none of them beyond `rows`, in which no word of three comes twice on any strand.

    Otherwise several sites would be the best one up to rounding.
    """
    while True:
        tokens = torch.randint(0, rows, (l,), generator=rng)
        triples = tokens.unfold(0, 3, 1)
        reverse = torch.where(triples < 4, 3 - triples, triples).flip(1)
        both = torch.cat([triples, reverse])
        if len(both.unique(dim=0)) == len(both):
            break
    place = int(torch.randint(0, 2 * l, (1,), generator=rng))
    return torch.where(torch.arange(l) == place, _PAD, tokens).to(torch.uint8)


@motif_scan.samples(batch_axes={"tokens": 0})
def _():
    return _samples()


@motif_best.samples(batch_axes={"tokens": 0})
def _():
    return _samples()
