"""A whole circuit on a whole batch of states: Pauli rotations, and the state that they lead to.

The companion of `qlayers.ops.pauli_expval` for everything that needs the state itself: probabilities of many
wires, density matrices, a state that is prepared before the circuit begins. A state is real and imaginary
part, (2, 2^n); complex numbers appear at the edge of the library only.
"""

import torch
from torch import Tensor

from qlayers.ops.pauli import apply_word, rotate, zero_state
from qlayers.ops.pauli_expval import FLOATS, _amplitudes, _angle_index, _angles, _fold, _rows_of, _size
from shared import Cost, op
from shared.derive import loop_rule


@op("qlayers::pauli_evolve")
def pauli_evolve(state: Tensor, shared: Tensor, batched: Tensor, rotations: Tensor, wires: int) -> Tensor:
    """The states that a sequence of Pauli rotations leads to.

    Args:
        state: (s, 2, 2^n) where the circuit begins, real and imaginary parts, need not be normalised. s = 0
            means |0...0>, s = 1 one state for all samples, s = b one for each.
        shared: (Ks,) angles in radians that all samples have in common, float32 or float64.
        batched: (b, Kb) angles of each sample, same dtype.
        rotations: (K, 4) int64, as in `qlayers.ops.pauli_expval`.
        wires: n, at least 1; masks are below 2^n, and wire 0 is the most significant bit of an index.

    Returns:
        (b, 2, 2^n) real and imaginary parts.

    Example:
        One wire, RX(pi) on |0>, and the probabilities after it:

        >>> import torch
        >>> from qlayers.ops import pauli_evolve
        >>> none, angle = torch.zeros(0, 2, 2), torch.tensor([[torch.pi]])
        >>> state = pauli_evolve(none, none.new_zeros(0), angle, torch.tensor([[1, 0, 1, 0]]), 1)
        >>> state.square().sum(1).round()
        tensor([[0., 1.]])
    """
    angles = _angles(shared, batched, rotations)
    re, im = _evolved(*_initial(state, angles, wires), angles, rotations)
    return torch.stack([re, im], 1)


@op("qlayers::pauli_evolve_vjp")
def pauli_evolve_vjp(
    state: Tensor, shared: Tensor, batched: Tensor, rotations: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The vector-Jacobian product of `pauli_evolve` with `grad` (b, 2, 2^n), by the adjoint method.

    With f = Re <c|psi> and the costate c = grad, the derivative with respect to the angle of rotation k is
    Im <c|P_k|psi> / 2, both states taken just after it; undoing the rotations one by one on both reaches
    every k, and what is left of c is the gradient of the initial state.

    Returns:
        The gradients of `state` (s, 2, 2^n), `shared` (Ks,) and `batched` (b, Kb).
    """
    angles = _angles(shared, batched, rotations)
    re, im = _evolved(*_initial(state, angles, wires), angles, rotations)
    co_re, co_im = grad.unbind(1)
    slopes = []
    for rotation, angle in zip(rotations.unbind(0)[::-1], angles.unbind(-1)[::-1], strict=True):
        x, z = rotation[0], rotation[1]
        p_re, p_im = apply_word(re, im, x, z)
        slopes.append((co_re * p_im - co_im * p_re).sum(-1) / 2)
        re, im = rotate(re, im, x, z, -angle)
        co_re, co_im = rotate(co_re, co_im, x, z, -angle)
    slope = torch.stack(slopes[::-1], -1) if slopes else angles  # (b, K)
    columns = torch.zeros_like(torch.cat([_rows_of(shared, batched), batched], -1))
    columns = columns.index_add(-1, _angle_index(shared, rotations), slope)
    costate = torch.stack([co_re, co_im], 1)
    return _of_state(costate, state), columns[:, : len(shared)].sum(0), columns[:, len(shared) :].clone()


def _initial(state: Tensor, angles: Tensor, wires: int) -> tuple[Tensor, Tensor]:
    # sizes are taken from shapes: `len` would make an integer of a size that a compiler keeps open
    if state.shape[0] == 0:
        return zero_state(angles.shape[0], wires, like=angles)
    return tuple(state.expand(angles.shape[0], -1, -1).unbind(1))


def _evolved(re: Tensor, im: Tensor, angles: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
    for rotation, angle in zip(rotations.unbind(0), angles.unbind(-1), strict=True):
        re, im = rotate(re, im, rotation[0], rotation[1], angle)
    return re, im


def _of_state(costate: Tensor, state: Tensor) -> Tensor:
    """The gradient of the initial state from the costates (b, 2, 2^n) at the beginning."""
    if state.shape[0] == 0:
        return state.new_zeros(state.shape)
    return costate if state.shape[0] == costate.shape[0] else costate.sum(0, keepdim=True)


@pauli_evolve.fake
def _(state, shared, batched, rotations, wires):
    return batched.new_empty((batched.shape[0], 2, 2**wires))


@pauli_evolve_vjp.fake
def _(state, shared, batched, rotations, wires, grad):
    return state.new_empty(state.shape), shared.new_empty(shared.shape), batched.new_empty(batched.shape)


@pauli_evolve.derivative(saves=lambda *args: args)
def _(saved, needs, grad):
    return (*pauli_evolve_vjp(*saved, grad), None, None)


@pauli_evolve.batch
def _(again, dims, state, shared, batched, rotations, wires):
    args = (state, shared, batched, rotations, wires)
    size = _size(dims, args)
    if dims[3] is not None or size == 0:
        return loop_rule(again, size, dims, args)
    angles, moved = _fold(size, dims[1:4], shared, batched, rotations)
    begin = _fold_state(size, dims[0], state, angles.shape[1])
    out = again(begin, shared.new_empty(0), angles.flatten(0, 1), moved, wires)
    return out.unflatten(0, (size, angles.shape[1])), 0


@pauli_evolve_vjp.batch
def _(again, dims, state, shared, batched, rotations, wires, grad):
    args = (state, shared, batched, rotations, wires, grad)
    size = _size(dims, args)
    if dims[3] is not None or size == 0:
        return loop_rule(again, size, dims, args)
    angles, moved = _fold(size, dims[1:4], shared, batched, rotations)  # (v, b, Kb + Ks)
    begin = _fold_state(size, dims[0], state, angles.shape[1])
    grads = grad.expand(size, *grad.shape) if dims[5] is None else grad.movedim(dims[5], 0)
    of_state, _, slopes = again(
        begin, shared.new_empty(0), angles.flatten(0, 1), moved, wires, grads.flatten(0, 1)
    )
    one = state if dims[0] is None else state.select(dims[0], 0)
    if one.shape[0] == 0:
        of_state = state.new_zeros(size, *one.shape)
    else:
        of_state = of_state.unflatten(0, (size, angles.shape[1]))
        if one.shape[0] != angles.shape[1]:
            of_state = of_state.sum(1, keepdim=True)
    slopes = slopes.reshape(angles.shape)
    own = batched.shape[-1] if dims[2] is None else batched.select(dims[2], 0).shape[-1]
    return (of_state, slopes[..., own:].sum(1), slopes[..., :own]), (0, 0, 0)


def _fold_state(size: int, dim: int | None, state: Tensor, batch: int) -> Tensor:
    """One initial state for each of the size * batch samples; none stays none."""
    state = state.expand(size, *state.shape) if dim is None else state.movedim(dim, 0)  # (v, s, 2, N)
    if state.shape[1] == 0:
        return state[0]
    return state.expand(size, batch, *state.shape[2:]).flatten(0, 1)


@pauli_evolve.cost
def _(state, shared, batched, rotations, wires):
    amplitudes = _amplitudes(batched, wires)
    read = shared.numel() + batched.numel() + state.numel()
    return Cost(
        flops=6 * amplitudes * rotations.shape[0], bytes=batched.element_size() * (read + 2 * amplitudes)
    )


@pauli_evolve_vjp.cost
def _(state, shared, batched, rotations, wires, grad):
    amplitudes = _amplitudes(batched, wires)
    moved = 2 * (shared.numel() + batched.numel() + state.numel()) + grad.numel()
    return Cost(flops=22 * amplitudes * rotations.shape[0], bytes=batched.element_size() * moved)


def _samples(states=(0, 1, 1)):
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    for wires, batch, given, count in zip((1, 2, 2), (1, 3, 1), states, (2, 5, 4), strict=True):
        masks = torch.randint(2**wires, (count, 2), generator=generator)
        source = torch.arange(count) % 2
        rotations = torch.cat([masks, source[:, None], (torch.arange(count) // 2)[:, None]], 1)
        state = numbers(given, 2, 2**wires) / 2
        yield state, numbers((count + 1) // 2), numbers(batch, count // 2), rotations, wires


@pauli_evolve.samples(batch_axes={"batched": 0})
def _():
    return list(_samples())


@pauli_evolve_vjp.samples(batch_axes={"batched": 0, "grad": 0})
def _():
    generator = torch.Generator().manual_seed(1)
    return [
        (*sample, torch.randn(len(sample[2]), 2, 2 ** sample[4], generator=generator, dtype=torch.float64))
        for sample in _samples(states=(1, 1, 1))  # without elements the first output has no gradient to check
    ]


def _refuse(rotations: Tensor) -> str | None:
    return None if rotations.dtype == torch.int64 else f"rotations must be int64, got {rotations.dtype}"


for _op in (pauli_evolve, pauli_evolve_vjp):
    _op.autocast(cpu=torch.float32, cuda=torch.float32)

pauli_evolve.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="qlayers.kernels.numba.evolve:forward",
    when=lambda state, shared, batched, rotations, wires: _refuse(rotations),
)
pauli_evolve_vjp.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="qlayers.kernels.numba.evolve:backward",
    when=lambda state, shared, batched, rotations, wires, grad: _refuse(rotations),
)
