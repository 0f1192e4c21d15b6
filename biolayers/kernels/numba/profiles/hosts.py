"""The profile-HMM ops on CPU: which arithmetic serves which sequences, and the kernels' arguments.

Sums of products are far cheaper than sums of logarithms, but their range is limited. Each sequence is tried
in its own dtype; one in which a sum became too small to be sure that it does not matter is computed again in
float64, and one that is too wide for that, too, by the reference.
"""

import numpy as np
import torch
from torch import Tensor

from biolayers.kernels.numba.profiles.counts import SUM_ENTRY, SUM_SYMBOLS, count_rows
from biolayers.kernels.numba.profiles.forward import FIT, forward_rows
from biolayers.kernels.numba.profiles.posterior import decode_rows
from biolayers.kernels.numba.profiles.tables import Tables, flanks_within_limits, in_order, odds, tables
from biolayers.kernels.numba.profiles.viterbi import best_rows
from biolayers.ops.hmm import check_grad, hmm_counts, hmm_forward
from biolayers.ops.hmm_paths import check
from biolayers.ops.hmm_posterior import hmm_posterior
from shared.threads import parallel

_CELLS = 200_000  # of the recursion: what takes about 0.2 ms
_SHARES = 32  # of the batch, whose counts are summed up apart


def forward(
    tokens: Tensor,
    lengths: Tensor,
    match: Tensor,
    insert: Tensor,
    transitions: Tensor,
    entry: Tensor,
    exit: Tensor,
    special: Tensor,
) -> Tensor:
    """`biolayers::hmm_forward` for float32 and float64."""
    check(tokens, lengths, match, insert, transitions, entry, exit, special)
    model = match, insert, transitions, entry, exit
    result = torch.empty(len(tokens), dtype=torch.float64)
    left, beyond = split(special)
    for dtype in arithmetics(match.dtype, exit):
        model_tables = tables(dtype, *model)
        if len(left) and model_tables.is_fit:
            arguments = sequences(tokens[left], lengths[left], special[left])
            found, marks = np.empty(len(left)), np.empty(len(left), np.uint8)
            spread(forward_rows, model_tables, *arguments, found, marks)
            result[left] = torch.from_numpy(found)
            left = left[torch.from_numpy(marks != FIT)]
    left = torch.cat([left, beyond])
    if len(left):
        wide = [p.detach().double() for p in model]
        result[left] = hmm_forward.reference(
            tokens[left], lengths[left], *wide, special[left].detach().double()
        )
    return result.to(match.dtype)


def counts(
    tokens: Tensor,
    lengths: Tensor,
    match: Tensor,
    insert: Tensor,
    transitions: Tensor,
    entry: Tensor,
    exit: Tensor,
    special: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`biolayers::hmm_counts` for float32 and float64."""
    check_grad(tokens, lengths, match, insert, transitions, entry, exit, special, grad)
    model = tuple(p.detach().double() for p in (match, insert, transitions, entry, exit))
    sums = tuple(torch.zeros_like(p) for p in model)
    flanks = torch.zeros(special.shape, dtype=torch.float64)
    left, beyond = split(special)
    for dtype in arithmetics(match.dtype, exit):
        model_tables = tables(dtype, *model)
        if len(left) and model_tables.is_fit:
            arguments = sequences(tokens[left], lengths[left], special[left])
            found, marks = _count(model_tables, match.shape, arguments, grad[left], flanks, left)
            weights = (1.0, 1.0, *map(odds, model[2:]))
            sums = tuple(a + b * w for a, b, w in zip(sums, found, weights, strict=True))
            left = left[marks != FIT]
    left = torch.cat([left, beyond])
    if len(left):
        exact = hmm_counts.reference(
            tokens[left], lengths[left], *model, special[left].detach().double(), grad[left].detach().double()
        )
        sums = tuple(a + b for a, b in zip(sums, exact[:-1], strict=True))
        flanks[left] = exact[-1]
    return tuple(p.to(match.dtype).contiguous() for p in (*sums, flanks))


def _count(
    model: Tables,
    shape: torch.Size,
    arguments: tuple[np.ndarray, np.ndarray, np.ndarray],
    grad: Tensor,
    flanks: Tensor,
    places: Tensor,
) -> tuple[list[Tensor], Tensor]:
    """Sums by parameter, without the weights of the steps, of the sequences that fit; adds their flanks'."""
    (nodes, symbols), batch = shape, len(places)
    share_count = min(
        batch, _SHARES
    )  # by shapes alone: the same sums in the same order for all thread counts
    shares = np.empty((share_count, SUM_SYMBOLS + 2 * (symbols + 1), model.width))
    special, marks = np.empty((batch, 4, 2)), np.empty(batch, np.uint8)
    grads = grad.detach().double().contiguous().numpy()
    spread(count_rows, model, *arguments, grads, shares, special, marks, rows=share_count)
    rows = torch.from_numpy(in_order(shares.sum(0), model.lanes, nodes))  # (rows of sums, m)
    steps, (entry, exit) = rows[:SUM_ENTRY, : nodes - 1].mT, rows[SUM_ENTRY:SUM_SYMBOLS]
    match, _, insert, _ = rows[SUM_SYMBOLS:].split((symbols, 1, symbols, 1))
    flanks[places] = torch.from_numpy(special)
    return [match.mT, insert[:, : nodes - 1].mT, steps, entry, exit], torch.from_numpy(marks)


def posterior(
    tokens: Tensor,
    lengths: Tensor,
    match: Tensor,
    insert: Tensor,
    transitions: Tensor,
    entry: Tensor,
    exit: Tensor,
    special: Tensor,
) -> Tensor:
    """`biolayers::hmm_posterior` for float32 and float64."""
    check(tokens, lengths, match, insert, transitions, entry, exit, special)
    model = match, insert, transitions, entry, exit
    result = match.new_empty(*tokens.shape, 2 * len(match) + 2)
    left, beyond = split(special)
    for dtype in arithmetics(match.dtype, exit):
        model_tables = tables(dtype, *model)
        if len(left) and model_tables.is_fit:
            arguments = sequences(tokens[left], lengths[left], special[left])
            whole = dtype == result.dtype and len(left) == len(result)
            found = result if whole else torch.empty(len(left), *result.shape[1:], dtype=dtype)
            marks = np.empty(len(left), np.uint8)
            spread(decode_rows, model_tables, *arguments, found.numpy(), marks)
            if not whole:
                result[left] = found.to(result.dtype)
            left = left[torch.from_numpy(marks != FIT)]
    left = torch.cat([left, beyond])
    if len(left):
        wide = [p.detach().double() for p in model]
        exact = hmm_posterior.reference(tokens[left], lengths[left], *wide, special[left].detach().double())
        result[left] = exact.to(result.dtype)
    return result


def viterbi(
    tokens: Tensor,
    lengths: Tensor,
    match: Tensor,
    insert: Tensor,
    transitions: Tensor,
    entry: Tensor,
    exit: Tensor,
    special: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """`biolayers::hmm_viterbi` for float32 and float64."""
    check(tokens, lengths, match, insert, transitions, entry, exit, special)
    model = tables(match.dtype, match, insert, transitions, entry, exit, best=True)
    within = lengths.clamp(0, tokens.shape[1]).contiguous().numpy()
    scores = np.empty(len(tokens))
    states, passes = (torch.empty(tokens.shape, dtype=torch.int64) for _ in range(2))
    parts = model.weights, model.best, model.matches, model.inserts, model.lanes, model.width
    flanks = special.detach().double().contiguous().numpy()
    parallel(
        best_rows,
        len(tokens),
        *parts,
        tokens.contiguous().numpy(),
        within,
        flanks,
        len(match),
        scores,
        states.numpy(),
        passes.numpy(),
        grain=max(1, _CELLS // max(1, tokens.shape[1] * model.width)),
    )
    return torch.from_numpy(scores).to(match.dtype), states, passes


def split(special: Tensor) -> tuple[Tensor, Tensor]:
    """Which sequences the kernels may try, and which are the reference's because of their flanks."""
    fit = flanks_within_limits(special)
    return fit.nonzero().flatten(), (~fit).nonzero().flatten()


def arithmetics(dtype: torch.dtype, exit: Tensor) -> tuple[torch.dtype, ...]:
    """The dtypes to try: in glocal mode, without exits, scores are too far apart for float32."""
    if dtype == torch.float64 or bool(torch.isinf(exit).any()):
        return (torch.float64,)
    return (torch.float32, torch.float64)


def sequences(tokens: Tensor, lengths: Tensor, special: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, lengths within them, and the odds of the states outside of the nodes, float64."""
    within = lengths.clamp(0, tokens.shape[1])
    return (
        tokens.contiguous().numpy(),
        within.contiguous().numpy(),
        odds(special.detach().double().contiguous()).numpy(),
    )


def spread(
    kernel,
    model: Tables,
    tokens: np.ndarray,
    lengths: np.ndarray,
    flanks: np.ndarray,
    *rest,
    rows: int | None = None,
) -> None:
    """Run a kernel over the sequences, or over so many rows of them."""
    rows = len(tokens) if rows is None else rows
    cells = tokens.shape[1] * model.width * len(tokens) // max(1, rows)
    grain = max(1, _CELLS // max(1, cells))
    parts = model.weights, model.scan, model.matches, model.inserts, model.lanes, model.width
    parallel(kernel, rows, *parts, tokens, lengths, flanks, tuple(model.limits), *rest, grain=grain)
