"""A whole noisy circuit on a whole batch, in the Pauli transfer picture.

A density matrix of n wires is its 4^n real numbers r_Q = Tr(Q rho), one for each Pauli word Q: no complex
numbers, and the expectation value of a word is one of them. A rotation exp(-i t/2 P) turns the pairs r_Q and
r_iPQ of words Q that anticommute with P; a channel on k wires is a real 4^k x 4^k matrix (Greenbaum,
arXiv:1509.02921). Clifford gates are absorbed into the words, as in `qlayers.ops.pauli_expval`: a channel
then acts on the words that the gates made of the X and Z of its wires, here called its generators.
"""

import torch
from torch import Tensor

from qlayers.ops.pauli_cosets import map_vjp, mapped, turn_vjp, turned
from qlayers.ops.pauli_expval import FLOATS, _rows_of, _size
from shared import Cost, op
from shared.derive import loop_rule

_ORDERS = {"r": 0, "d": -1, "1": 1, "2": 2, "3": 3, "4": 4}


@op("qlayers::pauli_transfer")
def pauli_transfer(
    state: Tensor,
    shared: Tensor,
    batched: Tensor,
    steps: Tensor,
    generators: Tensor,
    words: Tensor,
    forms: str,
    wires: int,
) -> Tensor:
    """Expectation values of Pauli words after a sequence of rotations and channels.

    Args:
        state: (s, 4^n) where the circuit begins, by Pauli words: number x 2^n + z is Tr(P rho) of the word
            with masks x and z (see `qlayers.ops.pauli`). s = 0 means |0...0>, s = 1 one state for all
            samples, s = b one for each.
        shared: (Ks,) numbers that all samples have in common: angles in radians, and entries of channels,
            float32 or float64.
        batched: (b, Kb) numbers of each sample, same dtype.
        steps: (S, 3) int64, one row per step in order of application: its first generator, and the source (0:
            `shared`, 1: `batched`) and column of its first number.
        generators: (G, 3) int64, words as masks x and z and a sign, 1 or -1. A rotation has one, its word
            (the sign is ignored); a channel on k wires has 2k: what stands for X and Z of each of its wires,
            which commutes with those of the others and anticommutes with its partner.
        words: (T, 2) int64, the masks x and z of each observable.
        forms: a letter for each step: "r" is a rotation by its number; "1" to "4" a channel on so many (k)
            wires whose 16^k numbers map the words I, X, Y, Z of its wires (the first is the slowest), row
            after row; "d" the diagonal of such a map of one wire, 4 numbers.
        wires: n, at least 1; masks are below 2^n.

    Returns:
        (b, T) expectation values.

    Example:
        One wire, X with probability 0.25 on |0>, and <Z> = 1 - 2 * 0.25:

        >>> import torch
        >>> from qlayers.ops import pauli_transfer
        >>> flip = torch.tensor([[1.0, 1.0, 0.5, 0.5]])
        >>> steps, generators = torch.tensor([[0, 1, 0]]), torch.tensor([[1, 0, 1], [0, 1, 1]])
        >>> words = torch.tensor([[0, 1]])
        >>> pauli_transfer(torch.zeros(0, 4), torch.zeros(0), flip, steps, generators, words, "d", 1)
        tensor([[0.5000]])
    """
    numbers = _numbers(shared, batched)
    values = _initial(state, batched, wires)
    for form, step in zip(orders(forms), steps.unbind(0), strict=True):
        own, entries = _of_step(form, step, generators, numbers, shared)
        values = (mapped if form else turned)(values, entries, own, form, wires)
    return values.index_select(-1, (words[:, 0] << wires) | words[:, 1])


@op("qlayers::pauli_transfer_vjp")
def pauli_transfer_vjp(
    state: Tensor,
    shared: Tensor,
    batched: Tensor,
    steps: Tensor,
    generators: Tensor,
    words: Tensor,
    forms: str,
    wires: int,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The vector-Jacobian product of `pauli_transfer` with `grad` (b, T).

    The costate, sum_t grad_t <Q_t|, goes back through the steps. Rotations are orthogonal, so that their
    transpose undoes them on state and costate alike; channels have no inverse, so a state from before each
    is needed. The kernel keeps some and computes others anew, see `qlayers.kernels.numba.transfer_sweeps`.

    Returns:
        The gradients of `state` (s, 4^n), `shared` (Ks,) and `batched` (b, Kb).
    """
    numbers = _numbers(shared, batched)
    kept = [_initial(state, batched, wires)]
    for form, step in zip(orders(forms), steps.unbind(0), strict=True):
        own, entries = _of_step(form, step, generators, numbers, shared)
        kept.append((mapped if form else turned)(kept[-1], entries, own, form, wires))
    costate = torch.zeros_like(kept[0]).index_add(-1, (words[:, 0] << wires) | words[:, 1], grad)
    slopes = torch.zeros_like(numbers)
    for form, step, before in zip(orders(forms)[::-1], steps.unbind(0)[::-1], kept[-2::-1], strict=True):
        own, entries = _of_step(form, step, generators, numbers, shared)
        slope, costate = (map_vjp if form else turn_vjp)(before, costate, entries, own, form, wires)
        slopes = slopes.index_add(-1, _columns(form, step, shared), slope)
    begin = costate.sum(0, keepdim=True) if state.shape[0] == 1 else costate
    return (
        begin[: state.shape[0]].clone(),
        slopes[:, : shared.shape[0]].sum(0),
        slopes[:, shared.shape[0] :].clone(),
    )


def _numbers(shared: Tensor, batched: Tensor) -> Tensor:
    return torch.cat([_rows_of(shared, batched), batched], -1)  # (b, Ks + Kb)


def _initial(state: Tensor, batched: Tensor, wires: int) -> Tensor:
    """(b, 4^n): on |0...0> the words of Z and I are 1, the others 0."""
    if state.shape[0]:
        return state.expand(batched.shape[0], -1)
    index = torch.arange(4**wires, device=batched.device)
    return (index < 2**wires).to(batched.dtype).expand(batched.shape[0], -1)


def orders(forms: str) -> list[int]:
    """The forms of steps as numbers: 0 for a rotation, -1 for a diagonal, k for a channel on k wires.

    >>> orders("rd12")
    [0, -1, 1, 2]
    """
    return [_ORDERS[form] for form in forms]


def size_of(form: int) -> int:
    """How many numbers a step has.

    >>> [size_of(form) for form in orders("rd12")]
    [1, 4, 16, 256]
    """
    return 16**form if form > 0 else 4**-form


def _columns(form: int, step: Tensor, shared: Tensor) -> Tensor:
    """Where the numbers of a step stand in [shared, batched]."""
    return step[2] + shared.shape[0] * step[1] + torch.arange(size_of(form), device=step.device)


def _of_step(form: int, step: Tensor, generators: Tensor, numbers: Tensor, shared: Tensor) -> tuple:
    """The generators and numbers of a step, (1 or 2k, 3) and (b, size)."""
    rows = step[0] + torch.arange(2 * abs(form) or 1, device=step.device)
    return generators.index_select(0, rows), numbers.index_select(-1, _columns(form, step, shared))


@pauli_transfer.fake
def _(state, shared, batched, steps, generators, words, forms, wires):
    return batched.new_empty((batched.shape[0], words.shape[0]))


@pauli_transfer_vjp.fake
def _(state, shared, batched, steps, generators, words, forms, wires, grad):
    return state.new_empty(state.shape), shared.new_empty(shared.shape), batched.new_empty(batched.shape)


@pauli_transfer.derivative(saves=lambda *args: args)
def _(saved, needs, grad):
    return (*pauli_transfer_vjp(*saved, grad), *(None,) * 5)


@pauli_transfer.batch
def _(again, dims, state, shared, batched, *rest):
    args = (state, shared, batched, *rest)
    size = _size(dims, args)
    if size == 0 or any(dim is not None for dim in dims[3:]):
        return loop_rule(again, size, dims, args)
    begin, numbers, moved = _folded(size, dims, *args[:4])
    out = again(begin, shared.new_empty(0), numbers.flatten(0, 1), moved, *rest[1:])
    return out.unflatten(0, numbers.shape[:2]), 0


@pauli_transfer_vjp.batch
def _(again, dims, state, shared, batched, *rest):
    args = (state, shared, batched, *rest)
    size = _size(dims, args)
    if size == 0 or any(dim is not None for dim in dims[3:-1]):
        return loop_rule(again, size, dims, args)
    begin, numbers, moved = _folded(size, dims, *args[:4])  # (v, b, Kb + Ks)
    grads = rest[-1].expand(size, *rest[-1].shape) if dims[-1] is None else rest[-1].movedim(dims[-1], 0)
    of_state, _, slopes = again(
        begin, shared.new_empty(0), numbers.flatten(0, 1), moved, *rest[1:-1], grads.flatten(0, 1)
    )
    slopes = slopes.reshape(numbers.shape)
    one = state if dims[0] is None else state.select(dims[0], 0)
    if one.shape[0] == 0:
        of_state = state.new_zeros(size, *one.shape)
    else:
        of_state = of_state.unflatten(0, numbers.shape[:2])
        if one.shape[0] != numbers.shape[1]:
            of_state = of_state.sum(1, keepdim=True)
    own = batched.shape[-1] if dims[2] is None else batched.select(dims[2], 0).shape[-1]
    return (of_state, slopes[..., own:].sum(1), slopes[..., :own]), (0, 0, 0)


def _folded(size: int, dims, state: Tensor, shared: Tensor, batched: Tensor, steps: Tensor) -> tuple:
    """One state for each of v * b samples, or none; all numbers as those of samples; steps that look so."""
    batched = batched.expand(size, *batched.shape) if dims[2] is None else batched.movedim(dims[2], 0)
    shared = shared.expand(size, *shared.shape) if dims[1] is None else shared.movedim(dims[1], 0)
    numbers = torch.cat([batched, shared.unsqueeze(1).expand(-1, batched.shape[1], -1)], -1)
    first, source, column = steps.unbind(-1)
    column = column + batched.shape[-1] * (1 - source)
    state = state.expand(size, *state.shape) if dims[0] is None else state.movedim(dims[0], 0)
    empty = state.shape[1] == 0
    begin = state[0] if empty else state.expand(size, batched.shape[1], state.shape[2]).flatten(0, 1)
    return begin, numbers, torch.stack([first, torch.ones_like(source), column], -1)


@pauli_transfer.cost
def _(state, shared, batched, steps, generators, words, forms, wires):
    numbers = state.numel() + shared.numel() + batched.numel() + batched.shape[0] * words.shape[0]
    return Cost(flops=_operations(batched, forms, wires), bytes=batched.element_size() * numbers)


@pauli_transfer_vjp.cost
def _(state, shared, batched, steps, generators, words, forms, wires, grad):
    numbers = 2 * (state.numel() + shared.numel() + batched.numel()) + grad.numel()
    return Cost(flops=4 * _operations(batched, forms, wires), bytes=batched.element_size() * numbers)


def _operations(batched: Tensor, forms: str, wires: int) -> int:
    """Of the steps on all words; a rotation moves half of them."""
    each = sum(2 * 4**form if form > 0 else 1 for form in orders(forms))
    return batched.shape[0] * 4**wires * each


def _samples(states=(0, 1, 3)):
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64) / 2

    # generators: a rotation about YX, X and Z of wire 0 behind a CNOT, and of both wires, -Y for one X
    table = torch.tensor([[3, 1, 1], [3, 0, 1], [0, 2, -1], [3, 2, -1], [0, 2, 1], [1, 0, 1], [2, 1, -1]])
    two = torch.tensor([[2, 0, 1], [0, 2, 1], [1, 1, -1], [0, 1, 1]])
    for given, batch, forms in zip(states, (1, 2, 3), ("r1", "r1dr", "dr12r"), strict=True):
        first = torch.tensor([{"r": 0, "2": 7}.get(form, 1) for form in forms])
        source, sizes = torch.arange(len(forms)) % 2, torch.tensor([size_of(form) for form in orders(forms)])
        of_samples = sizes * source
        column = torch.where(source == 1, of_samples.cumsum(0), (sizes - of_samples).cumsum(0)) - sizes
        counts = int((sizes - of_samples).sum()), int(of_samples.sum())
        words = torch.tensor([[1, 2], [3, 1], [0, 0]])
        steps, generators = torch.stack([first, source, column], -1), torch.cat([table, two])
        yield (
            numbers(given, 16),
            numbers(counts[0]),
            numbers(batch, counts[1]),
            steps,
            generators,
            words,
            forms,
            2,
        )


@pauli_transfer.samples(batch_axes={"batched": 0})
def _():
    return list(_samples(states=(0, 1, 1)))


@pauli_transfer_vjp.samples(batch_axes={"batched": 0, "grad": 0})
def _():
    generator = torch.Generator().manual_seed(1)
    return [
        (*sample, torch.randn(len(sample[2]), 3, generator=generator, dtype=torch.float64))
        for sample in _samples(states=(1, 1, 1))  # without elements the first output has no gradient to check
    ]


MOST_WIRES = 12  # 4^12 numbers for each lane of a block take 1 GiB


def _refuse(steps: Tensor, generators: Tensor, words: Tensor, wires: int) -> str | None:
    kinds = [table.dtype for table in (steps, generators, words)]
    if kinds != [torch.int64] * 3:
        return f"steps, generators and words must be int64, got {', '.join(map(str, kinds))}"
    if wires > MOST_WIRES:
        return f"holds 4^n numbers for each sample, too many at {wires} wires (at most {MOST_WIRES})"
    return None


for _op in (pauli_transfer, pauli_transfer_vjp):
    _op.autocast(cpu=torch.float32, cuda=torch.float32)

pauli_transfer.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="qlayers.kernels.numba.transfer:forward",
    when=lambda state, shared, batched, steps, generators, words, forms, wires: _refuse(
        steps, generators, words, wires
    ),
)
pauli_transfer_vjp.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="qlayers.kernels.numba.transfer:backward",
    when=lambda state, shared, batched, steps, generators, words, forms, wires, grad: _refuse(
        steps, generators, words, wires
    ),
)
