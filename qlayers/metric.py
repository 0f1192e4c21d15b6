"""The geometry of a circuit's states: metric tensor and metric-vector product, for natural gradients."""

from collections.abc import Callable, Mapping
from math import pi, prod
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, func

from qlayers.circuit import Circuit
from qlayers.evaluate import SHARED, angles
from qlayers.ops.pauli import apply_word
from qlayers.ops.pauli_evolve import pauli_evolve
from qlayers.plan import plan_of
from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.layer import QuantumLayer

_APPROXIMATIONS = (None, "block-diag", "diag")
_NUMBERS_AT_ONCE = 2**25  # of the states that are held together: 128 MiB in float32
_WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


def metric_tensor(
    circuit: "QuantumLayer | Circuit",
    inputs: Tensor | None = None,
    weights: Mapping[str, Tensor] | None = None,
    *,
    approx: str | None = None,
    per_sample: bool = False,
) -> Tensor:
    r"""The Fubini-Study metric of the circuit's states with respect to its weights.

    The real part of the quantum geometric tensor, g_pq = Re(<d_p psi|d_q psi> - <d_p psi|psi><psi|d_q psi>),
    where |psi> is the state that the whole circuit prepares, whatever is measured. A quarter of the quantum
    Fisher information. Natural gradient descent steps along -g^+ grad (Stokes et al., arXiv:1909.02108).

    The derivative of a Pauli rotation is half of the rotation by pi more, so the state and all its
    derivatives come from one evolution of a batch; the chain rule leads from the rotations' angles to the
    weights.

    Args:
        circuit: a layer, or a `Circuit`.
        inputs: (..., features) floating; may be left out for a circuit without features.
        weights: name -> tensor; default: the layer's own weights. Needed for a `Circuit` that has any.
        approx: None for the whole tensor; "diag" keeps the terms of each rotation with itself, "block-diag"
            those of rotations that follow each other and commute, at the cost of one evolution. A weight
            that several rotations use collects the terms of all.
        per_sample: whether each sample gets a tensor of its own, or the batch its mean.

    Returns:
        (P, P), or (..., P, P) per sample, where P counts the elements of all weights, flattened and in order.
        Without a graph: it cannot be differentiated.

    Raises:
        UserError: the inputs or weights do not fit, or the layer has no fixed circuit.

    Example:
        >>> import torch
        >>> from qlayers import Circuit, metric_tensor
        >>> circuit = Circuit.parse("weights w(2)\nRX(w[0]) 0\nRZ(w[1]) 0\nexpval Y(0)")
        >>> metric = metric_tensor(circuit, weights={"w": torch.tensor([torch.pi / 2, 0.3])})
        >>> metric.abs().round(decimals=4)
        tensor([[0.2500, 0.0000],
                [0.0000, 0.2500]])
    """
    if approx not in _APPROXIMATIONS:
        raise UserError(f"approx is None, 'block-diag' or 'diag', not {approx!r}.")
    job = _prepare(circuit, inputs, weights)
    with torch.no_grad():
        found = [_of_samples(job, chunk, approx) for chunk in _chunks(job, approx)]
        each = torch.cat(found)  # (b, P, P)
    if per_sample:
        return each.reshape(*job.batch, *each.shape[1:])
    return each.mean(0)


def metric_vector_product(
    circuit: "QuantumLayer | Circuit",
    vector: Tensor,
    inputs: Tensor | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Tensor:
    r"""The metric tensor, averaged over the batch, times a vector, without forming the tensor.

    One derivative of the states along the vector and one vector-Jacobian product: its cost does not grow
    with the number of weights beyond that of the circuit, so that conjugate gradients can solve for a natural
    gradient of many weights.

    Args:
        circuit: a layer, or a `Circuit`.
        vector: (P,), in the order of the weights, flattened.
        inputs: as for `metric_tensor`.
        weights: as for `metric_tensor`.

    Returns:
        (P,).

    Raises:
        UserError: the vector, inputs or weights do not fit, or the layer has no fixed circuit.

    Example:
        >>> import torch
        >>> from qlayers import Circuit
        >>> from qlayers.metric import metric_vector_product
        >>> circuit = Circuit.parse("weights w(2)\nRX(w[0]) 0\nRX(w[1]) 0\nexpval Z(0)")
        >>> metric_vector_product(circuit, torch.tensor([1.0, 0.0]), weights={"w": torch.tensor([0.2, 0.3])})
        tensor([0.2500, 0.2500])
    """
    job = _prepare(circuit, inputs, weights)
    if vector.shape != job.flat.shape:
        raise UserError(
            f"The vector has shape {tuple(vector.shape)}; expected {tuple(job.flat.shape)}, one number for "
            "each element of the weights."
        )

    def states(flat: Tensor) -> Tensor:
        return _states(job, _rotation_angles(job, flat, job.inputs))  # (b, 2, 2^n)

    with torch.no_grad():
        state, along = func.jvp(states, (job.flat,), (vector.to(job.flat),))
        re, im = state.unbind(1)
        overlap = (re * along[:, 1] - im * along[:, 0]).sum(-1)[:, None]  # <psi|along> = i overlap
        across = torch.stack([along[:, 0] + overlap * im, along[:, 1] - overlap * re], 1)
        pull_back = func.vjp(states, job.flat)[1]
        (product,) = pull_back(across / max(1, len(across)))
    return product


class _Job(NamedTuple):
    """A circuit's rotations with each angle on its own, and where it is to be looked at."""

    rotations: Tensor  # (K, 4), the angle of rotation k in column k of the batched ones
    wires: int
    angles: Callable[
        [Tensor, Tensor], tuple[Tensor, Tensor]
    ]  # of (flat weights, inputs): as the plan has them
    places: Tensor  # (K,): the column of rotation k in [shared, batched]
    flat: Tensor  # (P,)
    inputs: Tensor  # (b, features)
    batch: torch.Size


def _prepare(
    circuit: "QuantumLayer | Circuit", inputs: Tensor | None, weights: Mapping[str, Tensor] | None
) -> _Job:
    if not isinstance(circuit, Circuit):
        weights = {**dict(circuit.named_parameters()), **(weights or {})}
        circuit = _circuit_of(circuit, inputs)
    values = _checked(circuit, weights or {})
    inputs = torch.zeros(1, 0) if inputs is None else inputs
    if inputs.ndim == 0 or not inputs.is_floating_point() or inputs.shape[-1] < circuit.features_used:
        raise UserError(
            f"The circuit takes floating inputs of shape (..., {circuit.features}), received "
            f"{inputs.dtype} of shape {tuple(inputs.shape)}; pass inputs= with all features."
        )
    dtype = torch.get_default_dtype() if not values else next(iter(values.values())).dtype
    for value in (*values.values(), *([inputs] if inputs.shape[-1] else [])):
        dtype = torch.promote_types(dtype, value.dtype)
    dtype = _WIDER.get(dtype, dtype)
    samples = inputs.detach().reshape(prod(inputs.shape[:-1]), inputs.shape[-1])
    device = next((value.device for value in values.values()), inputs.device)
    flat = torch.cat([torch.zeros(0, device=device), *(value.reshape(-1) for value in values.values())])
    return _job(circuit, flat.to(dtype), samples.to(device, dtype), inputs.shape[:-1])


def _circuit_of(layer: "QuantumLayer", inputs: Tensor | None) -> Circuit:
    """The layer's circuit for these inputs."""
    from qlayers.program import Captured

    found = layer._program(0 if inputs is None else inputs.shape[-1])
    return found.circuit if isinstance(found, Captured) else layer.circuit  # which says why it has none


def _checked(circuit: Circuit, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The circuit's weights in its order."""
    for name, shape in circuit.weights:
        received = tuple(weights[name].shape) if name in weights else "none"
        if received != shape:
            raise UserError(
                f"The circuit's weight {name!r} has shape {shape}, received {received}; pass weights= with a "
                f"tensor for each of {[name for name, _ in circuit.weights]}."
            )
    return {name: weights[name].detach() for name, _ in circuit.weights}


def _job(circuit: Circuit, flat: Tensor, inputs: Tensor, batch: torch.Size) -> _Job:
    # not simplified: what no observable sees is part of the state all the same
    plan = plan_of(circuit, simplify=False)
    tables = plan.tables(flat.device, flat.dtype)
    shapes = dict(circuit.weights)
    starts = dict(
        zip(shapes, torch.tensor([0, *map(prod, shapes.values())]).cumsum(0).tolist(), strict=False)
    )

    def of(flat: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        parts = [flat.narrow(0, starts[n], prod(shapes[n])).reshape(shapes[n]) for n in plan.schedule.weights]
        return angles(inputs, parts, tables.angles)

    count = of(flat, inputs[:0])[SHARED].shape[0]
    x, z, source, column = tables.rotations.unbind(-1)
    own = torch.arange(len(x), device=flat.device)
    rotations = torch.stack([x, z, torch.ones_like(source), own], -1)
    return _Job(rotations, plan.wires, of, column + count * source, flat, inputs, batch)


def _rotation_angles(job: _Job, flat: Tensor, inputs: Tensor) -> Tensor:
    """(b, K)."""
    shared, batched = job.angles(flat, inputs)
    columns = torch.cat([shared.expand(inputs.shape[0], -1), batched], -1)
    return columns.index_select(-1, job.places)


def _states(job: _Job, turns: Tensor) -> Tensor:
    """(b, 2, 2^n) of angles (b, K)."""
    start = turns.new_zeros(0, 2, 2**job.wires)
    return pauli_evolve(start, turns.new_zeros(0), turns, job.rotations, job.wires)


def _chunks(job: _Job, approx: str | None) -> list[Tensor]:
    """The samples, as many at a time as memory should hold."""
    states = 1 + len(job.rotations) if approx is None else 4
    numbers = states * (2 * 2**job.wires + len(job.rotations)) + len(job.rotations) * len(job.flat)
    return list(job.inputs.split(max(1, _NUMBERS_AT_ONCE // numbers)))


def _of_samples(job: _Job, inputs: Tensor, approx: str | None) -> Tensor:
    """(b, P, P)."""

    def of_sample(flat: Tensor, sample: Tensor) -> Tensor:
        return _rotation_angles(job, flat, sample.unsqueeze(0)).squeeze(0)

    turns = _rotation_angles(job, job.flat, inputs)  # (b, K)
    slopes = (
        func.vmap(func.jacrev(of_sample), (None, 0))(job.flat, inputs)
        if len(inputs)
        else turns.new_zeros(0, turns.shape[1], len(job.flat))
    )  # (b, K, P)
    moving = (slopes != 0).any(0).any(-1).nonzero().squeeze(-1)  # rotations that weights turn
    of_turns = (
        _whole(job, turns, moving) if approx is None else _near(job, turns, approx)[:, moving][..., moving]
    )
    slopes = slopes[:, moving]
    return slopes.mT @ of_turns @ slopes


def _whole(job: _Job, turns: Tensor, moving: Tensor) -> Tensor:
    """(b, M, M): the metric of the rotations `moving`."""
    shifts = torch.zeros(len(moving), turns.shape[1], dtype=turns.dtype, device=turns.device)
    shifts[torch.arange(len(moving)), moving] = pi
    lanes = torch.cat([turns[:, None], turns[:, None] + shifts], 1)  # (b, 1 + M, K)
    states = _states(job, lanes.flatten(0, 1)).unflatten(0, lanes.shape[:2])  # the derivatives, twofold
    return _covariance(states[:, 0], states[:, 1:])


def _covariance(state: Tensor, others: Tensor) -> Tensor:
    """A quarter of Re(<i|j> - <i|psi><psi|j>), (b, M, M), of states (b, M, 2, 2^n) with imaginary <psi|i>."""
    vectors = others.flatten(2)
    turned = torch.stack([-state[:, 1], state[:, 0]], 1).flatten(1)  # i psi
    overlaps = (vectors @ turned.unsqueeze(-1)).squeeze(-1)  # (b, M)
    return (vectors @ vectors.mT - overlaps.unsqueeze(-1) * overlaps.unsqueeze(-2)) / 4


def _near(job: _Job, turns: Tensor, approx: str) -> Tensor:
    """(b, K, K): the terms of rotations inside one block, or of each rotation with itself."""
    found = turns.new_zeros(turns.shape[0], turns.shape[1], turns.shape[1])
    state, none = turns.new_zeros(0, 2, 2**job.wires), turns.new_zeros(0)
    for first, last in _commuting(job.rotations):
        rows = job.rotations[first:last].clone()
        rows[:, 3] -= first
        state = pauli_evolve(state, none, turns[:, first:last], rows, job.wires)  # (b, 2, 2^n)
        words = [apply_word(state[:, 0], state[:, 1], x, z) for x, z in rows[:, :2].unbind(0)]
        # the derivative of rotation k is -i/2 P_k psi
        others = torch.stack([torch.stack([im, -re], 1) for re, im in words], 1)
        found[:, first:last, first:last] = _covariance(state, others)
    return found if approx == "block-diag" else torch.diag_embed(found.diagonal(dim1=1, dim2=2))


def _commuting(rotations: Tensor) -> list[tuple[int, int]]:
    """The bounds of runs of rotations that commute with each other."""
    rows, bounds, first = rotations[:, :2].tolist(), [], 0
    for k, (x, z) in enumerate(rows):
        if any(((x & b) ^ (z & a)).bit_count() % 2 for a, b in rows[first:k]):
            bounds.append((first, k))
            first = k
    return [*bounds, (first, len(rows))] if rows else []
