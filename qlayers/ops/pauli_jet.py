"""Derivatives of the circuit op of every order: `pauli_expval` and its vector-Jacobian product on jets.

A jet (see `qlayers.ops.duals`) carries a value together with mixed directional derivatives of it. The two ops
below take angles that are jets of any order, and between them they are closed under differentiation: the
derivative of an op on jets of order r is one call of these ops on jets of order r + 1, whose last direction
is the incoming gradient. So every derivative, to any order, is an adjoint sweep whose memory grows neither
with batch nor with depth.
"""

import torch
from torch import Tensor

from qlayers.ops.duals import cos_sin, halves, times
from qlayers.ops.pauli import apply_word, zero_state
from shared import Cost, op
from shared.derive import loop_rule

FLOATS = (torch.float32, torch.float64)
_ROWS = tuple(2**r for r in range(20))


@op("qlayers::pauli_expval_jet")
def pauli_expval_jet(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> Tensor:
    """`pauli_expval` on jets of angles: expectation values and their mixed directional derivatives.

    Args:
        shared: (c, Ks) angles that all samples have in common, c = 2^r rows for r directions: row 0 the
            angles, row 2^i direction i, row B with several bits the mixed part of these directions (zero
            unless the directions themselves depend on each other).
        batched: (c, b, Kb) angles of each sample.
        rotations: (K, 4), as for `pauli_expval`.
        words: (T, 2), as for `pauli_expval`.
        wires: n.

    Returns:
        (c, b, T): row 0 the expectation values, row B their derivative along the directions in B.

    Raises:
        ValueError: the number of rows is no power of two, or that of `batched` differs.

    Example:
        One wire, RX(theta), <Z> = cos(theta); along d theta = 1 the slope is -sin(theta):

        >>> import torch
        >>> from qlayers.ops import pauli_expval_jet
        >>> theta = torch.tensor([[[torch.pi / 2]], [[1.0]]])  # value and direction, one sample, one angle
        >>> tables = torch.tensor([[1, 0, 1, 0]]), torch.tensor([[0, 1]]), 1
        >>> pauli_expval_jet(theta.new_empty(2, 0), theta, *tables)[1].round(decimals=3)
        tensor([[-1.]])
    """
    re, im = _final_state(_half_angles(shared, batched, rotations), rotations, wires)
    values = []
    for word in words.unbind(0):
        p_re, p_im = apply_word(re, im, word[0], word[1])
        values.append((times(re, p_re) + times(im, p_im)).sum(-1))  # Re <state|P|state>
    return torch.stack(values, -1) if values else re[..., :0]


@op("qlayers::pauli_expval_jet_vjp")
def pauli_expval_jet_vjp(
    shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """The vector-Jacobian product of `pauli_expval_jet` with `grad` (c, b, T), by the adjoint method.

    sum_B grad_B value_B is the coefficient at the full subset of g <psi|P|psi>, where g has grad_B at the
    complement of B. Hence this is `pauli_expval_vjp` with jets for numbers: the slope of row B of an angle
    stands at the complement of B in the jet Im <c|P|psi>.

    Returns:
        The gradients of `shared` (c, Ks) and `batched` (c, b, Kb).
    """
    cosine, sine = _half_angles(shared, batched, rotations)
    re, im = _final_state((cosine, sine), rotations, wires)
    co_re, co_im = torch.zeros_like(re), torch.zeros_like(im)
    for word, weight in zip(words.unbind(0), grad.flip(0).unbind(-1), strict=True):
        p_re, p_im = apply_word(re, im, word[0], word[1])
        weight = weight.unsqueeze(-1)  # (c, b, 1)
        co_re, co_im = co_re + times(weight, p_re), co_im + times(weight, p_im)
    slopes = []
    for k in range(len(rotations) - 1, -1, -1):
        x, z, turn = rotations[k, 0], rotations[k, 1], (cosine[..., k], -sine[..., k])
        p_re, p_im = apply_word(re, im, x, z)
        slopes.append((times(co_re, p_im) - times(co_im, p_re)).sum(-1))
        re, im = _rotate(re, im, x, z, turn)
        co_re, co_im = _rotate(co_re, co_im, x, z, turn)
    columns = torch.zeros_like(_columns(shared, batched))
    if slopes:
        slope = torch.stack(slopes[::-1], -1).flip(0)  # (c, b, K)
        columns = columns.index_add(-1, _angle_index(shared, rotations), slope)
    own = shared.shape[-1]
    return columns[..., :own].sum(1), columns[..., own:].clone()


def _columns(shared: Tensor, batched: Tensor) -> Tensor:
    """(c, b, Ks + Kb): all angles as angles of samples."""
    rows = batched.shape[0]
    if rows not in _ROWS or shared.shape[0] != rows:
        raise ValueError(
            "pauli_expval_jet: expected 1, 2, 4, ... rows of shared and batched angles, received "
            f"{shared.shape[0]} and {rows}; give each subset of the directions a row"
        )
    return torch.cat([shared.unsqueeze(1).expand(-1, batched.shape[1], -1), batched], -1)


def _angle_index(shared: Tensor, rotations: Tensor) -> Tensor:
    """(K,): the column of each rotation's angle in [shared, batched]."""
    return rotations[:, 3] + shared.shape[-1] * rotations[:, 2]


def _half_angles(shared: Tensor, batched: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of half of each rotation's angle, jets (c, b, K)."""
    index = _angle_index(shared, rotations)
    return cos_sin(_columns(shared, batched).index_select(-1, index) / 2)


def _rotate(re: Tensor, im: Tensor, x: Tensor, z: Tensor, turn: tuple[Tensor, Tensor]):
    """(cos - i sin P)|state> for jets of states (c, b, 2^n) and of cosine and sine (c, b)."""
    p_re, p_im = apply_word(re, im, x, z)
    c, s = (part.unsqueeze(-1) for part in turn)
    return times(c, re) + times(s, p_im), times(c, im) - times(s, p_re)


def _final_state(half: tuple[Tensor, Tensor], rotations: Tensor, wires: int) -> tuple[Tensor, Tensor]:
    cosine, sine = half
    re, im = zero_state(cosine.shape[1], wires, like=cosine)  # (b, 2^n)
    is_value = (torch.arange(cosine.shape[0], device=re.device) == 0).to(re.dtype)[:, None, None]
    re, im = is_value * re, is_value * im  # (c, b, 2^n)
    for k, rotation in enumerate(rotations.unbind(0)):
        re, im = _rotate(re, im, rotation[0], rotation[1], (cosine[..., k], sine[..., k]))
    return re, im


@pauli_expval_jet.fake
def _(shared, batched, rotations, words, wires):
    return batched.new_empty((*batched.shape[:2], words.shape[0]))


@pauli_expval_jet_vjp.fake
def _(shared, batched, rotations, words, wires, grad):
    return shared.new_empty(shared.shape), batched.new_empty(batched.shape)


# derivatives


@pauli_expval_jet.derivative(
    saves=lambda shared, batched, rotations, words, wires: (shared, batched, rotations, words, wires)
)
def _(saved, needs, grad):
    return (*pauli_expval_jet_vjp(*saved, grad), None, None, None)


@pauli_expval_jet_vjp.derivative(saves=lambda *args: args)
def vjp_derivative(saved, needs, along_shared, along_batched):
    """The derivative of the vector-Jacobian product on jets, by jets of one order more.

    With J = sum grad jet(angles), the incoming gradients w ask for D_w J: one more direction.
    """
    shared, batched, rotations, words, wires, grad = saved
    args = (torch.cat([shared, along_shared]), torch.cat([batched, along_batched]), rotations, words, wires)
    found = [None] * 6
    if needs[0] or needs[1]:
        slopes = pauli_expval_jet_vjp(*args, torch.cat([torch.zeros_like(grad), grad]))
        found[:2] = [halves(slope)[0] for slope in slopes]
    if needs[5]:
        found[5] = halves(pauli_expval_jet(*args))[1]
    return tuple(found)


# batch rules: a mapped axis becomes more samples


@pauli_expval_jet.batch
def _(again, dims, shared, batched, rotations, words, wires):
    args = (shared, batched, rotations, words, wires)
    size = _size(dims, args)
    if dims[2] is not None or dims[3] is not None:
        return loop_rule(again, size, dims, args)
    angles, moved = _fold(size, dims, shared, batched, rotations)  # (c, v, b, Kb + Ks)
    values = again(shared.new_empty(angles.shape[0], 0), angles.flatten(1, 2), moved, words, wires)
    return values.reshape(*angles.shape[:3], words.shape[0]), 1


@pauli_expval_jet_vjp.batch
def _(again, dims, shared, batched, rotations, words, wires, grad):
    args = (shared, batched, rotations, words, wires, grad)
    size = _size(dims, args)
    if dims[2] is not None or dims[3] is not None:
        return loop_rule(again, size, dims, args)
    angles, moved = _fold(size, dims, shared, batched, rotations)
    grads = _mapped(grad, dims[5], size).movedim(0, 1).flatten(1, 2)
    _, slopes = again(shared.new_empty(angles.shape[0], 0), angles.flatten(1, 2), moved, words, wires, grads)
    slopes = slopes.reshape(angles.shape)
    own = _mapped(batched, dims[1], size).shape[-1]
    return (slopes[..., own:].sum(2), slopes[..., :own]), (1, 1)


def _size(dims, args) -> int:
    return next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)


def _mapped(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """The mapped axis first."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _fold(size, dims, shared, batched, rotations) -> tuple[Tensor, Tensor]:
    """All angles as angles of samples, (c, v, b, Kb + Ks), and the rotations that point there."""
    batched = _mapped(batched, dims[1], size).movedim(0, 1)  # (c, v, b, Kb)
    shared = _mapped(shared, dims[0], size).movedim(0, 1).unsqueeze(2).expand(-1, -1, batched.shape[2], -1)
    x, z, source, column = rotations.unbind(-1)
    column = column + batched.shape[-1] * (1 - source)
    return torch.cat([batched, shared], -1), torch.stack([x, z, torch.ones_like(source), column], -1)


# costs: a product of jets with c = 2^r rows has 3^r terms


def _terms(batched: Tensor, wires: int) -> int:
    return 3 ** (batched.shape[0].bit_length() - 1) * batched.shape[1] * 2**wires


@pauli_expval_jet.cost
def _(shared, batched, rotations, words, wires):
    flops = _terms(batched, wires) * (6 * rotations.shape[0] + 4 * words.shape[0])
    values = batched.shape[0] * batched.shape[1] * words.shape[0]
    return Cost(flops=flops, bytes=batched.element_size() * (shared.numel() + batched.numel() + values))


@pauli_expval_jet_vjp.cost
def _(shared, batched, rotations, words, wires, grad):
    flops = _terms(batched, wires) * (22 * rotations.shape[0] + 4 * words.shape[0])
    numbers = 2 * shared.numel() + 2 * batched.numel() + grad.numel()
    return Cost(flops=flops, bytes=batched.element_size() * numbers)


def _samples():
    generator = torch.Generator().manual_seed(0)

    def angles(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    for rows, wires, batch, count in ((1, 1, 1, 2), (2, 2, 3, 5), (4, 2, 2, 4)):
        masks = torch.randint(2**wires, (count, 2), generator=generator)
        source = torch.arange(count) % 2
        rotations = torch.cat([masks, source[:, None], (torch.arange(count) // 2)[:, None]], 1)
        words = torch.randint(1, 2**wires, (2, 2), generator=generator)
        yield angles(rows, (count + 1) // 2), angles(rows, batch, count // 2), rotations, words, wires


@pauli_expval_jet.samples(batch_axes={"batched": 1})
def _():
    return list(_samples())


@pauli_expval_jet_vjp.samples(batch_axes={"batched": 1, "grad": 1})
def _():
    return [(*sample, torch.cos(pauli_expval_jet.reference(*sample) * 5)) for sample in _samples()]


_MOST_AMPLITUDES = 2**21  # of all rows: the block of states of a thread, and its costates, take 0.5 GiB
_MOST_ROWS = 8  # the kernel's code is written out for each term, and the terms treble with each direction


def _refuse(shared: Tensor, batched: Tensor, rotations: Tensor, words: Tensor, wires: int) -> str | None:
    if rotations.dtype != torch.int64 or words.dtype != torch.int64:
        return f"rotations and words must be int64, got {rotations.dtype} and {words.dtype}"
    rows = batched.shape[0]
    if rows > _MOST_ROWS or rows not in _ROWS or rows != shared.shape[0]:
        return f"takes jets with 1, 2, 4 or {_MOST_ROWS} rows, got {shared.shape[0]} and {rows}"
    if rows * 2**wires > _MOST_AMPLITUDES:
        return f"holds a block of samples at once, too large for {rows} states of {wires} wires"
    return None


for _op in (pauli_expval_jet, pauli_expval_jet_vjp):
    _op.autocast(cpu=torch.float32, cuda=torch.float32)

pauli_expval_jet.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="qlayers.kernels.numba.jet:forward",
    when=lambda shared, batched, rotations, words, wires: _refuse(shared, batched, rotations, words, wires),
)
pauli_expval_jet_vjp.kernel(
    "numba",
    device="cpu",
    dtypes=FLOATS,
    needs=("numba",),
    target="qlayers.kernels.numba.jet:backward",
    when=lambda shared, batched, rotations, words, wires, grad: _refuse(
        shared, batched, rotations, words, wires
    ),
)
