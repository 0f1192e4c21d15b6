"""The forward score of a profile hidden Markov model, and its gradient: the expected counts."""

import torch
from torch import Tensor

from biolayers.ops.hmm_paths import check, emissions, or_minus_infinity, total_score
from shared import Cost, op
from shared.derive import loop_rule, reference_vjp
from shared.errors import UserError

FLOATS = (torch.float32, torch.float64)


@op("biolayers::hmm_forward")
def hmm_forward(
    tokens: Tensor,
    lengths: Tensor,
    match: Tensor,
    insert: Tensor,
    transitions: Tensor,
    entry: Tensor,
    exit: Tensor,
    special: Tensor,
) -> Tensor:
    """Score sequences under a profile HMM: the logarithm of the summed odds of all paths, in nats.

    Every parameter is a logarithm, -inf where something is impossible; none has to be normalised. See
    `biolayers.ops.hmm_paths` for the states and their transitions. HMMER's bit score is this score minus that
    of its null model, divided by log 2: see `biolayers.layers.ProfileHMM`.

    Args:
        tokens: (b, l) uint8. A token that is not below `symbols` is emitted by N, J and C alone.
        lengths: (b,) int64, how many tokens of each row are its sequence; larger ones count as l.
        match: (m, symbols) log-odds of each symbol in each match state, float32 or float64.
        insert: (m - 1, symbols) the same of the insert states; HMMER has zeros.
        transitions: (m - 1, 7) from node k to k + 1: M to M, I, D; I to M, I; D to M, D.
        entry: (m,) from the begin state to each match state.
        exit: (m,) from each match and delete state to the end state; HMMER has zeros, in glocal mode -inf
            but for the last.
        special: (b, 4, 2) of each sequence: N, E, J and C, to stay (E: to go on to J) and to move on.

    Returns:
        (b,) scores; -inf where no path is possible, as in an empty sequence.

    Raises:
        UserError: an argument has another shape or dtype.

    Example:
        >>> import torch
        >>> from biolayers.ops import hmm_forward
        >>> tokens = torch.tensor([[0, 1]], dtype=torch.uint8)  # A C
        >>> match = torch.tensor([[2.0, -1.0]])  # one node that likes A
        >>> nothing = torch.zeros(0, 2), torch.zeros(0, 7)
        >>> special = torch.tensor([[[0.0, 0.0], [-torch.inf, 0.0], [0.0, 0.0], [0.0, 0.0]]])
        >>> score = hmm_forward(tokens, torch.tensor([2]), match, *nothing, *torch.zeros(2, 1), special)
        >>> bool(torch.isclose(score, torch.tensor([2.0, -1.0]).logsumexp(0)))  # A or C stands in the model
        True
    """
    check(tokens, lengths, match, insert, transitions, entry, exit, special)
    score = total_score(
        emissions(tokens, match),
        emissions(tokens, insert),
        match.new_zeros(*tokens.shape, 4),
        lengths,
        transitions,
        entry,
        exit,
        special,
    )
    return or_minus_infinity(score)


@op("biolayers::hmm_counts")
def hmm_counts(
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
    """How often each emission and transition is used, on average over the paths of each sequence.

    That is the gradient of `hmm_forward` by its parameters (Baum-Welch's expected counts), where `grad` is
    the weight of each sequence in the sums over the batch.

    Args:
        tokens: as in `hmm_forward`, and so on.
        lengths: (b,) int64.
        match: (m, symbols).
        insert: (m - 1, symbols).
        transitions: (m - 1, 7).
        entry: (m,).
        exit: (m,).
        special: (b, 4, 2).
        grad: (b,) the gradient of the scores.

    Returns:
        The counts of match, insert, transitions, entry, exit and special, each in its parameter's shape; a
        sequence without any path adds nothing.

    Raises:
        UserError: an argument has another shape or dtype.

    Example:
        >>> import torch
        >>> from biolayers.ops import hmm_counts
        >>> tokens = torch.tensor([[0, 1]], dtype=torch.uint8)
        >>> special = torch.tensor([[[0.0, 0.0], [-torch.inf, 0.0], [0.0, 0.0], [0.0, 0.0]]])
        >>> nothing = torch.zeros(0, 2), torch.zeros(0, 7)
        >>> lengths, entry_and_exit = torch.tensor([2]), torch.zeros(2, 1)
        >>> match = torch.zeros(1, 2)
        >>> hmm_counts(tokens, lengths, match, *nothing, *entry_and_exit, special, torch.ones(1))[0]
        tensor([[0.5000, 0.5000]])
    """
    arguments = (tokens, lengths, match, insert, transitions, entry, exit, special)
    check_grad(*arguments, grad)
    found = reference_vjp(hmm_forward.reference, arguments, (False, False, *(True,) * 6), (grad,))
    return tuple(found[2:])  # type: ignore[return-value]


def check_grad(tokens: Tensor, *rest: Tensor) -> None:
    """Check everything that `hmm_counts` expects.

    Raises:
        UserError: see `hmm_counts`.
    """
    *arguments, grad = rest
    check(tokens, *arguments)
    if grad.shape != tokens.shape[:1]:
        raise UserError(
            f"hmm_counts: expected grad ({tokens.shape[0]},), one per sequence, received {tuple(grad.shape)}"
        )


@hmm_forward.fake
def _(tokens, lengths, match, insert, transitions, entry, exit, special):
    check(tokens, lengths, match, insert, transitions, entry, exit, special)
    return match.new_empty(tokens.shape[0])


@hmm_counts.fake
def _(tokens, lengths, match, insert, transitions, entry, exit, special, grad):
    check_grad(tokens, lengths, match, insert, transitions, entry, exit, special, grad)
    return tuple(p.new_empty(p.shape) for p in (match, insert, transitions, entry, exit, special))


@hmm_forward.derivative(saves=lambda *args: args)
def _(saved, needs, grad):
    return None, None, *hmm_counts(*saved, grad)


@hmm_forward.batch
def _(again, dims, *args):
    return over_sequences(again, dims, args)


def over_sequences(again, dims, args):
    """The batch rule of an op on (tokens, lengths, five parameters, special): one large batch where it can.

    Many sets of sequences under one model are one set; many models are a loop.
    """
    per_sequence = (0, 1, len(args) - 1)
    size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    if size == 0 or any(d is not None for i, d in enumerate(dims) if i not in per_sequence):
        return loop_rule(again, size, dims, args)
    args = list(args)
    for i in per_sequence:
        mapped = args[i].expand(size, *args[i].shape) if dims[i] is None else args[i].movedim(dims[i], 0)
        args[i] = mapped.flatten(0, 1)
    found = again(*args)
    parts = found if isinstance(found, tuple) else (found,)
    unfolded = tuple(part.unflatten(0, (size, part.shape[0] // size)) for part in parts)
    return (unfolded, (0,) * len(unfolded)) if isinstance(found, tuple) else (unfolded[0], 0)


for _op, _function in ((hmm_forward, "forward"), (hmm_counts, "counts")):
    _op.kernel(
        "numba",
        device="cpu",
        dtypes=FLOATS,
        needs=("numba",),
        target=f"biolayers.kernels.numba.profiles.hosts:{_function}",
    )
    _op.autocast(cpu=torch.float32, cuda=torch.float32)


@hmm_forward.cost
def _(tokens, lengths, match, insert, transitions, entry, exit, special):
    """Each position and node: ten multiplications and eight additions; everything is read once."""
    cells = tokens.numel() * match.shape[0]
    return Cost(
        flops=18 * cells, bytes=_bytes(tokens, lengths, match, insert, transitions, entry, exit, special)
    )


@hmm_counts.cost
def _(tokens, lengths, match, insert, transitions, entry, exit, special, grad):
    """The forward and the backward sums, and eleven products added up; all parameters are written."""
    cells = tokens.numel() * match.shape[0]
    parameters = _bytes(match, insert, transitions, entry, exit, special)
    return Cost(flops=58 * cells, bytes=2 * parameters + _bytes(tokens, lengths, grad))


def _bytes(*tensors: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


_SAMPLES = ((2, 3, 2, 3), (3, 4, 3, 2), (2, 2, 1, 2))  # (b, l, m, symbols)


def sample(seed: int, b: int, l: int, m: int, symbols: int) -> tuple[Tensor, ...]:
    """Random arguments of `hmm_forward`, float64; some tokens have no symbol, the first row is full."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    tokens = torch.randint(0, symbols + 1, (b, l), generator=rng).to(torch.uint8)
    tokens[:, 0] %= symbols  # a path for each
    lengths = torch.tensor([max(1, l - row) for row in range(b)], dtype=torch.int64)
    steps = draw(m - 1, 7) - 1
    return tokens, lengths, draw(m, symbols), draw(m - 1, symbols), steps, draw(m), draw(m), draw(b, 4, 2) - 1


@hmm_forward.samples(batch_axes={"tokens": 0, "lengths": 0, "special": 0})
def _():
    return [sample(seed, *sizes) for seed, sizes in enumerate(_SAMPLES)]


@hmm_counts.samples(batch_axes={"tokens": 0, "lengths": 0, "special": 0, "grad": 0})
def _():
    for seed, sizes in enumerate(_SAMPLES):
        weights = torch.linspace(1.0, -0.5, sizes[0], dtype=torch.float64)
        yield (*sample(seed, *sizes), weights)
