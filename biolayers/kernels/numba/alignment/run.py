"""`align` and `align_backward` on CPU: pairs in weights, and those that weights cannot hold in logarithms."""

import numpy as np
import torch
from torch import Tensor

from biolayers.kernels.numba.alignment.logarithms import average_in_logarithms, score_in_logarithms
from biolayers.kernels.numba.alignment.pairs import average_pairs, score_pairs
from biolayers.kernels.numba.memory import fresh
from biolayers.kernels.numba.simd import lanes_of
from biolayers.ops.align import check, check_grad, check_lengths
from shared.threads import parallel

_GRAIN = 1 << 17  # cells that are worth a thread


def score(
    similarity: Tensor,
    lengths: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    temperature: float = 1.0,
    mode: str = "global",
) -> Tensor:
    """`biolayers::align` for float32 and float64."""
    check(similarity, lengths, gap_open, gap_extend, temperature, mode)
    given = _arrays(similarity, lengths, gap_open, gap_extend)
    scores, trouble = np.zeros(len(similarity)), np.zeros(len(similarity), np.bool_)
    rest = (float(temperature), lanes_of(similarity.element_size()), mode == "local", scores, trouble)
    parallel(score_pairs, len(similarity), *given, *rest, grain=_grain(similarity))
    found = torch.from_numpy(scores).to(similarity.dtype)
    if trouble.any():
        bad = torch.from_numpy(np.flatnonzero(trouble))
        again = score if similarity.dtype == torch.float32 else _score_in_logarithms
        parts = (similarity[bad].double(), lengths[bad], gap_open[bad].double(), gap_extend[bad].double())
        found[bad] = again(*parts, temperature, mode).to(similarity.dtype)
    return found


def expect(
    similarity: Tensor,
    lengths: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    grad: Tensor,
    temperature: float = 1.0,
    mode: str = "global",
) -> tuple[Tensor, Tensor, Tensor]:
    """`biolayers::align_backward` for float32 and float64."""
    check(similarity, lengths, gap_open, gap_extend, temperature, mode)
    check_grad(similarity, grad)
    given = _arrays(similarity, lengths, gap_open, gap_extend)
    out, counts = fresh(similarity, *similarity.shape), np.zeros((len(similarity), 2))
    trouble = np.zeros(len(similarity), np.bool_)
    lanes, slopes = lanes_of(similarity.element_size()), grad.detach().double().contiguous().numpy()
    rest = (slopes, float(temperature), lanes, mode == "local", out.numpy(), counts, trouble)
    parallel(average_pairs, len(similarity), *given, *rest, grain=_grain(similarity))
    opened, extended = torch.from_numpy(counts).to(similarity.dtype).T.contiguous()
    if trouble.any():
        bad = torch.from_numpy(np.flatnonzero(trouble))
        again = expect if similarity.dtype == torch.float32 else _expect_in_logarithms
        parts = [similarity, lengths, gap_open, gap_extend, grad]
        parts = [t[bad].double() if t.is_floating_point() else t[bad] for t in parts]
        for whole, part in zip((out, opened, extended), again(*parts, temperature, mode), strict=True):
            whole[bad] = part.to(similarity.dtype)
    return out, opened.clone(), extended.clone()


def _score_in_logarithms(similarity, lengths, gap_open, gap_extend, temperature, mode):
    given = _arrays(similarity, lengths, gap_open, gap_extend)
    scores = np.zeros(len(similarity))
    parallel(
        score_in_logarithms, len(similarity), *given, float(temperature), mode == "local", scores, grain=1
    )
    return torch.from_numpy(scores)


def _expect_in_logarithms(similarity, lengths, gap_open, gap_extend, grad, temperature, mode):
    given = _arrays(similarity, lengths, gap_open, gap_extend)
    out, counts = np.zeros(similarity.shape), np.zeros((len(similarity), 2))
    rest = (grad.contiguous().numpy(), float(temperature), mode == "local", out, counts)
    parallel(average_in_logarithms, len(similarity), *given, *rest, grain=1)
    return torch.from_numpy(out), *torch.from_numpy(counts).T


def _arrays(similarity, lengths, gap_open, gap_extend):
    """Arrays: similarity (b, n, m), lengths (b, 2) and gaps (b, 2) float64."""
    check_lengths(lengths, *similarity.shape[1:])
    gaps = torch.stack([gap_open, gap_extend], 1).detach().double()
    return similarity.detach().contiguous().numpy(), lengths.contiguous().numpy(), gaps.numpy()


def _grain(similarity: Tensor) -> int:
    return max(1, _GRAIN // max(1, similarity.shape[1] * similarity.shape[2]))
