"""The best single alignment of each pair of sequences: what `align` becomes at temperature 0."""

import torch
from torch import Tensor

from biolayers.ops.align import FLOATS, check_pairs, fold, sample
from biolayers.ops.align_recursions import NOTHING
from shared import Cost, op

STATES = 4  # a pair, down (a letter of the first faces a gap), right (one of the second), beyond the path


@op("biolayers::align_path", differentiable=False)
def align_path(
    similarity: Tensor, lengths: Tensor, gap_open: Tensor, gap_extend: Tensor, mode: str = "global"
) -> tuple[Tensor, Tensor]:
    """Find the alignment of the highest worth; of equally good ones, one.

    Args:
        similarity: (b, n, m) floating, as for `align`.
        lengths: (b, 2) int64.
        gap_open: (b,).
        gap_extend: (b,).
        mode: "global" or "local".

    Returns:
        partner (b, n) int64: the letter of the second sequence that each letter of the first is paired with,
        or -1; and gaps (b, 2) int64: how many gaps the path opens, and how many letters extend them.

    Raises:
        UserError: an argument has another shape, dtype or value.

    Example:
        >>> import torch
        >>> from biolayers.ops import align_path
        >>> similarity, lengths = torch.eye(2, 3)[None], torch.tensor([[2, 3]])
        >>> align_path(similarity, lengths, torch.tensor([-2.0]), torch.tensor([-1.0]))
        (tensor([[0, 1]]), tensor([[1, 0]]))
    """
    check_pairs(similarity, lengths, gap_open, gap_extend, mode)
    local = mode == "local"
    worth, came = _best(similarity, gap_open, gap_extend, local)
    b, n, m = similarity.shape
    batch = torch.arange(b, device=similarity.device)
    if local:
        rows, columns = (torch.arange(size + 1, device=lengths.device) for size in (n, m))
        inside = (rows[:, None] <= lengths[:, 0, None, None]) & (columns <= lengths[:, 1, None, None])
        flat = torch.where(inside, worth[..., 0], worth.new_zeros(()) + 2 * NOTHING).flatten(1)
        best, place = flat.max(1)
        i, j = place // (m + 1), place % (m + 1)
        state = torch.where(best > 0, 0, STATES - 1)
    else:
        i, j = lengths.unbind(1)
        state = worth[batch, i, j].argmax(-1)
    partner = torch.full((b, n + 1), -1, device=similarity.device)
    gaps = torch.zeros(b, 2, dtype=torch.int64, device=similarity.device)
    for _ in range(n + m):
        state = torch.where((i == 0) & (j == 0), STATES - 1, state)
        paired, gapped = state == 0, (state == 1) | (state == 2)
        before = came[batch, i, j, state.clamp(max=2)]
        partner = partner.scatter(
            1, torch.where(paired, i - 1, n)[:, None], torch.where(paired, j - 1, -1)[:, None]
        )
        further = gapped & (before == state)
        gaps = gaps + torch.stack([gapped & ~further, further], 1)
        i, j = i - (paired | (state == 1)).long(), j - (paired | (state == 2)).long()
        state = torch.where(state == STATES - 1, state, before)
    return partner[:, :n].contiguous(), gaps


def _best(similarity: Tensor, gap_open: Tensor, gap_extend: Tensor, local: bool) -> tuple[Tensor, Tensor]:
    """The worth of the best way to each state, and the state before it, (b, n + 1, m + 1, 3) each."""
    b, n, m = similarity.shape
    nothing = similarity.new_full((b,), NOTHING)
    whence = torch.zeros((b,), dtype=torch.int64, device=similarity.device)
    begin = nothing if local else torch.zeros_like(nothing)
    cells = {(0, 0): (torch.stack([begin, nothing, nothing], 1), torch.stack([whence] * 3, 1))}
    step = torch.stack([gap_open, gap_extend, gap_open, gap_open], 1)  # what a gap costs from each state
    outside = torch.stack([nothing] * 3, 1), torch.stack([whence] * 3, 1)
    for i in range(n + 1):
        for j in range(m + 1):
            if (i, j) == (0, 0):
                continue
            over, left, across = (
                cells.get(at, outside)[0] for at in ((i - 1, j), (i, j - 1), (i - 1, j - 1))
            )
            down, from_down = (over + torch.stack([step[:, 0], step[:, 1], step[:, 0]], 1)).max(1)
            right, from_right = (left + torch.stack([step[:, 0], step[:, 0], step[:, 1]], 1)).max(1)
            pair, from_pair = nothing, whence
            if i > 0 and j > 0:
                pair, from_pair = across.max(1)
                if local:
                    from_pair = torch.where(pair > 0, from_pair, STATES - 1)
                    pair = pair.clamp(min=0)
                pair = pair + similarity[:, i - 1, j - 1]
            cells[i, j] = (
                torch.stack([pair, down, right], 1),
                torch.stack([from_pair, from_down, from_right], 1),
            )
    order = [cells[i, j] for i in range(n + 1) for j in range(m + 1)]
    worth, came = (torch.stack(part, 1).unflatten(1, (n + 1, m + 1)) for part in zip(*order, strict=True))
    return worth, came


@align_path.fake
def _(similarity, lengths, gap_open, gap_extend, mode):
    check_pairs(similarity, lengths, gap_open, gap_extend, mode)
    b, n, _ = similarity.shape
    return lengths.new_empty((b, n)), lengths.new_empty((b, 2))


@align_path.batch
def _(again, dims, similarity, lengths, gap_open, gap_extend, mode):
    return fold(again, dims, (similarity, lengths, gap_open, gap_extend, mode), 4)


align_path.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="biolayers.kernels.numba.alignment.path:path",
)
align_path.autocast(cpu=torch.float32, cuda=torch.float32)


@align_path.cost
def _(similarity, lengths, gap_open, gap_extend, mode):
    """Twelve operations for each cell, which is read once."""
    return Cost(flops=12 * similarity.numel(), bytes=similarity.element_size() * similarity.numel())


@align_path.samples(batch_axes={"similarity": 0, "lengths": 0, "gap_open": 0, "gap_extend": 0})
def _():
    for seed, (b, n, m, mode) in enumerate(((2, 3, 4, "global"), (3, 4, 2, "local"), (1, 2, 0, "global"))):
        yield (*sample(seed, b, n, m), mode)
