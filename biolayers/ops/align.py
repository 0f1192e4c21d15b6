"""Alignment of pairs of sequences with affine gaps, as sums over all paths: Smith-Waterman and the like.

A path aligns letters in pairs, each worth its entry of the similarity, and leaves runs of letters in gaps; a
run of k letters is worth gap_open + (k - 1) gap_extend, as in Biopython's `PairwiseAligner` (so both are
usually negative). With the sum over all paths of exp(worth / T) = Z the score is T log Z: the hard maximum
for T -> 0, and differentiable above it, where the gradient is what the paths contain on average.
"""

import torch
from torch import Tensor

from biolayers.ops import align_recursions as recursions
from shared import Cost, op
from shared.errors import UserError

FLOATS = (torch.float32, torch.float64)
MODES = ("global", "local")


@op("biolayers::align")
def align(
    similarity: Tensor,
    lengths: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    temperature: float = 1.0,
    mode: str = "global",
) -> Tensor:
    """Score all alignments of each pair together: T log of the sum of exp(worth / T) over all paths.

    Mode "global" (Needleman & Wunsch 1970) aligns both sequences from end to end. Mode "local" (Smith &
    Waterman 1981) aligns any part of each: a path begins and ends with a pair of letters, or is the empty
    one, worth 0. Gaps follow Gotoh (1982): a gap in one sequence may stand directly next to one in the other,
    and opens anew there.

    Args:
        similarity: (b, n, m) floating: what pairing letter i of the first with j of the second is worth.
        lengths: (b, 2) int64: how many letters of each count; the rest of `similarity` is not looked at.
        gap_open: (b,) of the same dtype: what the first letter of a gap is worth.
        gap_extend: (b,): what each further letter is worth.
        temperature: T, above 0.
        mode: "global" or "local".

    Returns:
        (b,) scores.

    Raises:
        UserError: an argument has another shape, dtype or value.

    Example:
        >>> import torch
        >>> from biolayers.ops import align
        >>> similarity, lengths = torch.eye(2)[None], torch.tensor([[2, 2]])
        >>> align(similarity, lengths, torch.tensor([-2.0]), torch.tensor([-1.0]), 0.01)
        tensor([2.])
    """
    check(similarity, lengths, gap_open, gap_extend, temperature, mode)
    given = recursions.model(similarity, lengths, gap_open, gap_extend, temperature, mode)
    return temperature * recursions.total(given, recursions.before(given))


@op("biolayers::align_backward")
def align_backward(
    similarity: Tensor,
    lengths: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    grad: Tensor,
    temperature: float = 1.0,
    mode: str = "global",
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `align`: what its paths contain on average, times `grad`.

    The average weighs each path by exp(worth / T). It counts how often letters i and j are paired, how many
    gaps are opened, and how many letters extend them.

    Args:
        similarity: (b, n, m) floating.
        lengths: (b, 2) int64.
        gap_open: (b,).
        gap_extend: (b,).
        grad: (b,): what multiplies the averages of each pair of sequences.
        temperature: T, above 0.
        mode: "global" or "local".

    Returns:
        For similarity (b, n, m), zero beyond the lengths; for gap_open (b,); for gap_extend (b,).

    Raises:
        UserError: an argument has another shape, dtype or value.

    Example:
        >>> import torch
        >>> from biolayers.ops import align_backward
        >>> similarity, lengths = torch.eye(2)[None], torch.tensor([[2, 2]])
        >>> gaps = torch.tensor([-2.0]), torch.tensor([-1.0])
        >>> expected, opened, extended = align_backward(similarity, lengths, *gaps, torch.ones(1), 0.01)
        >>> expected
        tensor([[[1., 0.],
                 [0., 1.]]])
    """
    check(similarity, lengths, gap_open, gap_extend, temperature, mode)
    check_grad(similarity, grad)
    given = recursions.model(similarity, lengths, gap_open, gap_extend, temperature, mode)
    ways, on = recursions.before(given), recursions.after(given)
    total = recursions.total(given, ways)[:, None, None]
    opening, extension = given.opening[:, None] - total, given.extension[:, None] - total
    pair, down, right = ways
    opened = torch.exp(recursions.either(pair, right)[:, :-1] + opening + on.down[:, 1:]).sum((1, 2))
    beside = recursions.either(pair, down)[..., :-1] + opening + on.right[..., 1:]
    opened = opened + torch.exp(beside).sum((1, 2))
    extended = torch.exp(down[:, :-1] + extension + on.down[:, 1:]).sum((1, 2))
    extended = extended + torch.exp(right[..., :-1] + extension + on.right[..., 1:]).sum((1, 2))
    expected = torch.exp(pair + on.pair - total)[:, 1:, 1:]
    return grad[:, None, None] * expected, grad * opened, grad * extended


def check(
    similarity: Tensor, lengths: Tensor, gap_open: Tensor, gap_extend: Tensor, temperature: float, mode: str
) -> None:
    """Check everything that `align` expects, but for the values of `lengths`.

    Raises:
        UserError: see `align`.
    """
    check_pairs(similarity, lengths, gap_open, gap_extend, mode)
    if not temperature > 0:
        raise UserError(
            f"align: expected a temperature above 0, received {temperature}; the hard maximum is "
            "biolayers.alignment.align(..., temperature=0)"
        )


def check_pairs(similarity: Tensor, lengths: Tensor, gap_open: Tensor, gap_extend: Tensor, mode: str) -> None:
    """The same without a temperature.

    Raises:
        UserError: see `align`.
    """
    if similarity.ndim != 3 or not similarity.is_floating_point():
        raise UserError(
            f"align: expected similarity (b, n, m) of floats, received {tuple(similarity.shape)} of dtype "
            f"{_name(similarity)}"
        )
    if tuple(lengths.shape) != (similarity.shape[0], 2) or lengths.dtype != torch.int64:
        raise UserError(
            f"align: expected lengths ({similarity.shape[0]}, 2) of dtype int64, one pair for each row of "
            f"similarity, received {tuple(lengths.shape)} of dtype {_name(lengths)}"
        )
    _check_vector("gap_open", gap_open, similarity)
    _check_vector("gap_extend", gap_extend, similarity)
    if mode not in MODES:
        raise UserError(f"align: expected mode {' or '.join(map(repr, MODES))}, received {mode!r}")


def check_grad(similarity: Tensor, grad: Tensor) -> None:
    """Check the gradient of the scores.

    Raises:
        UserError: it has another shape or dtype than they.
    """
    _check_vector("grad", grad, similarity)


def check_lengths(lengths: Tensor, n: int, m: int) -> None:
    """Check that no sequence is longer than its axis, which takes a look at the values.

    Raises:
        UserError: one is, or a length is negative.
    """
    wrong = (lengths < 0) | (lengths > lengths.new_tensor([n, m]))
    if wrong.any():
        row = int(wrong.any(1).nonzero()[0])
        raise UserError(
            f"align: expected lengths of at most {n} and {m}, the sizes of similarity, received "
            f"{tuple(lengths[row].tolist())} for pair {row}"
        )


def _check_vector(name: str, vector: Tensor, similarity: Tensor) -> None:
    if tuple(vector.shape) != (similarity.shape[0],) or vector.dtype != similarity.dtype:
        raise UserError(
            f"align: expected {name} ({similarity.shape[0]},) of dtype {_name(similarity)}, as similarity "
            f"has, received {tuple(vector.shape)} of dtype {_name(vector)}"
        )


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@align.fake
def _(similarity, lengths, gap_open, gap_extend, temperature, mode):
    check(similarity, lengths, gap_open, gap_extend, temperature, mode)
    return similarity.new_empty(similarity.shape[:1])


@align_backward.fake
def _(similarity, lengths, gap_open, gap_extend, grad, temperature, mode):
    check(similarity, lengths, gap_open, gap_extend, temperature, mode)
    check_grad(similarity, grad)
    b = similarity.shape[:1]
    return similarity.new_empty(similarity.shape), similarity.new_empty(b), similarity.new_empty(b)


@align.derivative(
    saves=lambda similarity, lengths, gap_open, gap_extend, temperature, mode: (
        similarity,
        lengths,
        gap_open,
        gap_extend,
        temperature,
        mode,
    )
)
def _(saved, needs, grad):
    *tensors, temperature, mode = saved
    expected, opened, extended = align_backward(*tensors, grad, temperature, mode)
    return expected, None, opened, extended, None, None


@align.tangent
def _(args, tangents):
    similarity, lengths, gap_open, gap_extend, temperature, mode = args
    ones = torch.ones_like(gap_open)
    averages = align_backward(similarity, lengths, gap_open, gap_extend, ones, temperature, mode)
    along = torch.zeros_like(gap_open)
    for average, direction in zip(averages, (tangents[0], *tangents[2:4]), strict=True):
        if direction is not None:
            moved = average * direction
            along = along + (moved.sum((1, 2)) if moved.ndim == 3 else moved)
    return along


def fold(again, dims, args, tensors):
    """The batch rule: the mapped axis of the first `tensors` arguments is folded into the batch."""
    size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    batch = next(length for axis, length in enumerate(args[1].shape) if axis != dims[1])
    folded = []
    for a, d in zip(args[:tensors], dims[:tensors], strict=True):
        mapped = a.expand(size, *a.shape) if d is None else a.movedim(d, 0)
        folded.append(mapped.flatten(0, 1))
    found = again(*folded, *args[tensors:])
    shape = (size, batch)
    if isinstance(found, tuple):
        return tuple(part.unflatten(0, shape) for part in found), (0,) * len(found)
    return found.unflatten(0, shape), 0


@align.batch
def _(again, dims, similarity, lengths, gap_open, gap_extend, temperature, mode):
    return fold(again, dims, (similarity, lengths, gap_open, gap_extend, temperature, mode), 4)


@align_backward.batch
def _(again, dims, similarity, lengths, gap_open, gap_extend, grad, temperature, mode):
    return fold(again, dims, (similarity, lengths, gap_open, gap_extend, grad, temperature, mode), 5)


for _op, _kernel in ((align, "score"), (align_backward, "expect")):
    _op.kernel(
        "numba",
        device="cpu",
        dtypes=FLOATS,
        needs=("numba",),
        target=f"biolayers.kernels.numba.alignment.run:{_kernel}",
    )
    _op.autocast(cpu=torch.float32, cuda=torch.float32)


@align.cost
def _(similarity, lengths, gap_open, gap_extend, temperature, mode):
    """Eight operations and one exponential (12) for each cell; similarity is read once."""
    cells = similarity.numel()
    return Cost(flops=20 * cells, bytes=similarity.element_size() * cells)


@align_backward.cost
def _(similarity, lengths, gap_open, gap_extend, grad, temperature, mode):
    """Forward (20), then 8 operations of the way back and 10 of the averages; one read and one write."""
    cells = similarity.numel()
    return Cost(flops=38 * cells, bytes=2 * similarity.element_size() * cells)


# (b, n, m, temperature, mode)
_SAMPLES = (
    (2, 3, 4, 1.0, "global"),
    (3, 4, 2, 0.7, "local"),
    (1, 1, 19, 2.0, "global"),
    (2, 2, 0, 1.0, "local"),
)


def sample(seed: int, b: int, n: int, m: int) -> list[Tensor]:
    """Similarity, lengths and gaps of some random pairs."""
    rng = torch.Generator().manual_seed(seed)
    similarity = torch.randn(b, n, m, generator=rng, dtype=torch.float64)
    lengths = torch.tensor([[n, m]]) - torch.randint(0, 2, (b, 2), generator=rng)
    gaps = -1 - torch.rand(2, b, generator=rng, dtype=torch.float64)
    return [similarity, lengths.clamp(min=0), *gaps]


@align.samples(batch_axes={"similarity": 0, "lengths": 0, "gap_open": 0, "gap_extend": 0})
def _():
    for seed, (b, n, m, temperature, mode) in enumerate(_SAMPLES):
        yield (*sample(seed, b, n, m), temperature, mode)


@align_backward.samples(batch_axes={"similarity": 0, "lengths": 0, "gap_open": 0, "gap_extend": 0, "grad": 0})
def _():
    for seed, (b, n, m, temperature, mode) in enumerate(_SAMPLES):
        grad = torch.linspace(-1, 2, b, dtype=torch.float64)
        yield (*sample(seed, b, n, m), grad, temperature, mode)
