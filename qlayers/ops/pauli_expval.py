"""A whole circuit on a whole batch: Pauli rotations, then expectation values of Pauli words.

Every unitary circuit is a product of Pauli rotations exp(-i theta/2 P) once its Clifford gates have been
moved to the end, where they turn the observables into other Pauli words (Gottesman, arXiv:quant-ph/9807006;
Litinski, arXiv:1808.02892). So this one op serves every circuit, and a Clifford gate costs nothing.
"""

import torch
from torch import Tensor

from qlayers.ops import engines
from qlayers.ops.pauli import apply_word, rotate, zero_state
from qlayers.ops.pauli_jet import vjp_derivative
from shared import Cost, op
from shared.declare import Op
from shared.derive import loop_rule
from shared.dispatch import preference

FLOATS = (torch.float32, torch.float64)


@op("qlayers::pauli_expval")
def pauli_expval(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Tensor:
    """Expectation values of Pauli words after a sequence of Pauli rotations on |0...0>.

    Args:
        shared: (Ks,) angles in radians that all samples have in common, float32 or float64.
        batched: (b, Kb) angles of each sample, same dtype.
        rotations: (K, 4) int64, one row per rotation in order of application: masks x and z of its Pauli word
            (see `qlayers.ops.pauli`), source (0: `shared`, 1: `batched`) and column of its angle there.
        words: (T, 2) int64, the masks x and z of each observable.
        wires: n, at least 1; masks are below 2^n.

    Returns:
        (b, T) expectation values in [-1, 1].

    Example:
        One wire, RX(theta), <Z> = cos(theta):

        >>> import torch
        >>> from qlayers.ops import pauli_expval
        >>> theta = torch.tensor([[0.0], [torch.pi]])
        >>> pauli_expval(theta[0, :0], theta, torch.tensor([[1, 0, 1, 0]]), torch.tensor([[0, 1]]), 1)
        tensor([[ 1.],
                [-1.]])
    """
    re, im = _final_state(_angles(shared, batched, rotations), rotations, wires)
    return torch.stack([_expval(re, im, word) for word in words.unbind(0)], -1) if len(words) else re[:, :0]


@op("qlayers::pauli_expval_vjp")
def pauli_expval_vjp(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """The vector-Jacobian product of `pauli_expval` with `grad` (b, T), by the adjoint method.

    With f = sum_t grad_t <psi|P_t|psi> and the costate |c> = sum_t grad_t P_t|psi>, the derivative with
    respect to the angle of rotation k is Im <c|P_k|psi>, both states taken just after it; undoing the
    rotations one by one on both reaches every k (Jones and Gacon, arXiv:2009.02823).

    Returns:
        The gradients of `shared` (Ks,) and `batched` (b, Kb).
    """
    angles = _angles(shared, batched, rotations)
    re, im = _final_state(angles, rotations, wires)
    co_re, co_im = torch.zeros_like(re), torch.zeros_like(im)
    for word, weight in zip(words.unbind(0), grad.unbind(-1), strict=True):
        p_re, p_im = apply_word(re, im, word[0], word[1])
        co_re, co_im = co_re + weight.unsqueeze(-1) * p_re, co_im + weight.unsqueeze(-1) * p_im
    slopes = []
    for rotation, angle in zip(rotations.unbind(0)[::-1], angles.unbind(-1)[::-1], strict=True):
        x, z = rotation[0], rotation[1]
        p_re, p_im = apply_word(re, im, x, z)
        slopes.append((co_re * p_im - co_im * p_re).sum(-1))
        re, im = rotate(re, im, x, z, -angle)
        co_re, co_im = rotate(co_re, co_im, x, z, -angle)
    slope = torch.stack(slopes[::-1], -1) if slopes else angles  # (b, K)
    columns = torch.zeros_like(torch.cat([_rows_of(shared, batched), batched], -1))
    columns = columns.index_add(-1, _angle_index(shared, rotations), slope)
    return columns[:, : len(shared)].sum(0), columns[:, len(shared) :].clone()


def _rows_of(shared: Tensor, batched: Tensor) -> Tensor:
    return shared.expand(batched.shape[0], -1)  # (b, Ks)


def _angle_index(shared: Tensor, rotations: Tensor) -> Tensor:
    """(K,): the column of each rotation's angle in [shared, batched]."""
    return rotations[:, 3] + len(shared) * rotations[:, 2]


def _angles(shared: Tensor, batched: Tensor, rotations: Tensor) -> Tensor:
    """(b, K): the angle of each rotation for each sample."""
    return torch.cat([_rows_of(shared, batched), batched], -1).index_select(
        -1, _angle_index(shared, rotations)
    )


def _final_state(angles: Tensor, rotations: Tensor, wires: int) -> tuple[Tensor, Tensor]:
    re, im = zero_state(angles.shape[0], wires, like=angles)
    for rotation, angle in zip(rotations.unbind(0), angles.unbind(-1), strict=True):
        re, im = rotate(re, im, rotation[0], rotation[1], angle)
    return re, im


def _expval(re: Tensor, im: Tensor, word: Tensor) -> Tensor:
    """(b,): Re <state|P|state>."""
    p_re, p_im = apply_word(re, im, word[0], word[1])
    return (re * p_re + im * p_im).sum(-1)


@pauli_expval.fake
def _(shared, batched, rotations, words, wires):
    return batched.new_empty((batched.shape[0], words.shape[0]))


@pauli_expval_vjp.fake
def _(shared, batched, rotations, words, wires, grad):
    return torch.empty_like(shared, memory_format=torch.contiguous_format), batched.new_empty(batched.shape)


@pauli_expval.derivative(
    saves=lambda shared, batched, rotations, words, wires: (shared, batched, rotations, words, wires)
)
def _(saved, needs, grad):
    return (*pauli_expval_vjp(*saved, grad), None, None, None)


@pauli_expval_vjp.derivative(saves=lambda *args: args)
def _(saved, needs, along_shared, along_batched):
    # the same on jets of order 0, which have one row
    shared, batched, *tables, grad = saved
    saved = (shared[None], batched[None], *tables, grad[None])
    found = vjp_derivative(saved, needs, along_shared[None], along_batched[None])
    return tuple(None if gradient is None else gradient[0] for gradient in found)


@pauli_expval.batch
def _(again, dims, shared, batched, rotations, words, wires):
    args = (shared, batched, rotations, words, wires)
    if dims[2] is not None or dims[3] is not None:
        return loop_rule(again, _size(dims, args), dims, args)
    size = _size(dims, args)
    angles, moved = _fold(size, dims, shared, batched, rotations)
    values = again(shared.new_empty(0), angles.flatten(0, 1), moved, words, wires)
    return values.unflatten(0, (size, -1)) if len(values) else values.new_empty(
        *angles.shape[:2], len(words)
    ), 0


@pauli_expval_vjp.batch
def _(again, dims, shared, batched, rotations, words, wires, grad):
    args = (shared, batched, rotations, words, wires, grad)
    if dims[2] is not None or dims[3] is not None:
        return loop_rule(again, _size(dims, args), dims, args)
    size = _size(dims, args)
    angles, moved = _fold(size, dims, shared, batched, rotations)  # (v, b, Kb + Ks)
    grads = grad.expand(size, *grad.shape) if dims[5] is None else grad.movedim(dims[5], 0)
    _, slopes = again(shared.new_empty(0), angles.flatten(0, 1), moved, words, wires, grads.flatten(0, 1))
    slopes = slopes.reshape(angles.shape)
    own = (
        batched.shape[-1]
        if dims[1] is None
        else angles.shape[-1] - shared.shape[0 if dims[0] is None else 1 - dims[0]]
    )
    return (slopes[..., own:].sum(1), slopes[..., :own]), (0, 0)


def _size(dims, args) -> int:
    return next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)


def _fold(size, dims, shared, batched, rotations) -> tuple[Tensor, Tensor]:
    """All angles as angles of samples, (v, b, Kb + Ks), and the rotations that point there."""
    batched = batched.expand(size, *batched.shape) if dims[1] is None else batched.movedim(dims[1], 0)
    shared = shared.expand(size, *shared.shape) if dims[0] is None else shared.movedim(dims[0], 0)
    angles = torch.cat([batched, shared.unsqueeze(1).expand(-1, batched.shape[1], -1)], -1)
    x, z, source, column = rotations.unbind(-1)
    column = column + batched.shape[-1] * (1 - source)
    return angles, torch.stack([x, z, torch.ones_like(source), column], -1)


def _amplitudes(batched: Tensor, wires: int) -> int:
    return batched.shape[0] * 2**wires


@pauli_expval.cost
def _(shared, batched, rotations, words, wires):
    # a rotation is two fused multiply-adds and two products per real part; a word one complex product
    flops = _amplitudes(batched, wires) * (6 * rotations.shape[0] + 4 * words.shape[0])
    return Cost(
        flops=flops,
        bytes=batched.element_size() * (shared.numel() + batched.numel() + batched.shape[0] * words.shape[0]),
    )


@pauli_expval_vjp.cost
def _(shared, batched, rotations, words, wires, grad):
    # forward again, then both states undone and one inner product per rotation
    flops = _amplitudes(batched, wires) * (22 * rotations.shape[0] + 4 * words.shape[0])
    return Cost(
        flops=flops, bytes=batched.element_size() * (2 * shared.numel() + 2 * batched.numel() + grad.numel())
    )


def _samples():
    generator = torch.Generator().manual_seed(0)

    def angles(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    for wires, batch, count in ((1, 1, 2), (2, 3, 5), (3, 2, 7)):
        masks = torch.randint(2**wires, (count, 2), generator=generator)
        source = torch.arange(count) % 2
        rotations = torch.cat([masks, source[:, None], (torch.arange(count) // 2)[:, None]], 1)
        words = torch.randint(1, 2**wires, (2, 2), generator=generator)
        yield angles((count + 1) // 2), angles(batch, count // 2), rotations, words, wires


@pauli_expval.samples(batch_axes={"batched": 0})
def _():
    return list(_samples())


@pauli_expval_vjp.samples(batch_axes={"batched": 0, "grad": 0})
def _():
    return [
        (*sample, torch.linspace(-1, 1, len(sample[1]) * 2, dtype=torch.float64).reshape(-1, 2))
        for sample in _samples()
    ]


_MOST_WIRES = 30  # 2^30 amplitudes take 8 GiB in float32, and backward two states and a half


def _refuse(rotations: Tensor, words: Tensor, wires: int) -> str | None:
    if rotations.dtype != torch.int64 or words.dtype != torch.int64:
        return f"rotations and words must be int64, got {rotations.dtype} and {words.dtype}"
    if wires > _MOST_WIRES:
        return f"holds the whole state, too large at {wires} wires (at most {_MOST_WIRES})"
    return None


for _op in (pauli_expval, pauli_expval_vjp):
    _op.autocast(cpu=torch.float32, cuda=torch.float32)

# engine: its module and priority
_ENGINES = {"numba-gemm": ("gemm", 20), "numba-single": ("single", 10), "numba": ("pauli_expval", 0)}


def _add_engine(operation: Op, function: str, provider: str) -> None:
    module, priority = _ENGINES[provider]

    def when(shared, batched, rotations, words, wires, *grad):
        costs = priority and engines.against(provider, batched, rotations, wires)
        if costs and provider not in preference(operation):
            return costs
        return _refuse(rotations, words, wires)

    operation.kernel(
        provider,
        device="cpu",
        dtypes=FLOATS,
        needs=("numba",),
        target=f"qlayers.kernels.numba.{module}:{function}",
        when=when,
        priority=priority,
    )


for _provider in _ENGINES:
    _add_engine(pauli_expval, "forward", _provider)
    _add_engine(pauli_expval_vjp, "backward", _provider)
