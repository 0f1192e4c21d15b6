"""The op of noisy circuits: its kernel against its reference, its derivatives, its kinship to the pure op."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from qlayers.frame import Frame, Word
from qlayers.kernels.numba import transfer
from qlayers.ops import pauli_expval, pauli_transfer, pauli_transfer_vjp
from qlayers.ops.pauli_transfer import orders, size_of
from shared import prefer
from shared.threads import finest_grain


def random_case(wires: int, batch: int, count: int, states: int, seed: int, dtype=torch.float64):
    """Random arguments: steps of every form, generators from a random Clifford frame."""
    draw = np.random.default_rng(seed)
    frame = Frame(wires)
    for _ in range(4 * wires):
        masks = draw.integers(0, 2**wires, 2)
        frame.absorb(Word(*map(int, masks)), quarters=int(draw.integers(1, 4)))
    most = min(wires, 2)
    forms = "".join(draw.choice(list("rrd1" + "2" * (most == 2)), count))
    generators, steps, columns = [], [], [0, 0]
    for order in orders(forms):
        first, source = len(generators), int(draw.integers(2))
        if order == 0:
            generators.append((*map(int, draw.integers(0, 2**wires, 2)), 1))
        for bit in draw.permutation(wires)[: abs(order)].tolist():
            generators += [tuple(frame.pull(Word(1 << bit, 0))), tuple(frame.pull(Word(0, 1 << bit)))]
        steps.append((first, source, columns[source]))
        columns[source] += size_of(order)
    numbers = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=numbers, dtype=torch.float64).to(dtype) / 2

    words = torch.randint(0, 2**wires, (3, 2), generator=numbers)
    table = torch.tensor(steps, dtype=torch.int64).reshape(-1, 3)
    rows = torch.tensor(generators, dtype=torch.int64).reshape(-1, 3)
    return (
        normal(states, 4**wires),
        normal(columns[0]),
        normal(batch, columns[1]),
        table,
        rows,
        words,
        forms,
        wires,
    )


SIZES = [(1, 1, 3, 0), (2, 0, 4, 0), (2, 5, 6, 1), (3, 17, 9, 17), (3, 8, 0, 1), (4, 33, 12, 0), (1, 3, 0, 0)]


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kept", [0, 2**22])
@pytest.mark.parametrize(("wires", "batch", "count", "states"), SIZES)
def test_kernel_against_reference(monkeypatch, wires, batch, count, states, kept, dtype):
    """With all states before channels kept, and with most of them computed anew."""
    monkeypatch.setattr(transfer, "_KEPT_BYTES", kept)
    for seed in range(2):
        arguments = random_case(wires, batch, count, states, seed, dtype)
        exact = [
            a.double() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in arguments
        ]
        grad = torch.randn(batch, 3, dtype=dtype)
        error = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-10}
        with finest_grain():
            assert_close(pauli_transfer(*arguments).double(), pauli_transfer.reference(*exact), **error)
            found = pauli_transfer_vjp(*arguments, grad)
        wanted = pauli_transfer_vjp.reference(*exact, grad.double())
        for a, b in zip(found, wanted, strict=True):
            assert_close(a.double(), b, **error)


@pytest.mark.parametrize("provider", ["numba", "reference"])
@pytest.mark.parametrize("states", [0, 1, 2])
def test_derivatives(states, provider):
    *numbers, steps, generators, words, forms, wires = random_case(2, 2, 4, states, 7)
    leaves = [number.requires_grad_() for number in numbers]

    def run(state, shared, batched):
        return pauli_transfer(state, shared, batched, steps, generators, words, forms, wires)

    with prefer(provider):
        assert gradcheck(run, leaves, fast_mode=True)
        assert gradgradcheck(run, leaves, fast_mode=True)


def test_rotations_alone_are_a_pure_circuit():
    draw = np.random.default_rng(0)
    masks = torch.from_numpy(draw.integers(0, 8, (12, 2)))
    angles, words = torch.randn(5, 12, dtype=torch.float64), torch.from_numpy(draw.integers(0, 8, (6, 2)))
    column = torch.arange(12)
    one = torch.ones_like(column)
    pure = pauli_expval(angles[0, :0], angles, torch.stack([*masks.T, one, column], -1), words, 3)
    steps, generators = torch.stack([column, one, column], -1), torch.stack([*masks.T, one], -1)
    found = pauli_transfer(
        angles.new_zeros(0, 64), angles[0, :0], angles, steps, generators, words, "r" * 12, 3
    )
    assert_close(found, pure)


MISTAKES = {
    "expected masks from 0 to 1": {"words": [[2, 0]]},
    "expected pairs that anticommute": {"generators": [[1, 0, 1], [1, 0, 1]]},
    "expected rows .generator, source": {"steps": [[1, 1, 0]]},
    "expected columns below 0 .shared. and 4": {"steps": [[0, 1, 1]]},
    "expected one for each of 1 steps": {"forms": "dd"},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_tables_that_make_no_sense(message):
    tables = {"steps": [[0, 1, 0]], "generators": [[1, 0, 1], [0, 1, 1]], "words": [[0, 1]], "forms": "d"}
    steps, generators, words, forms = (tables | MISTAKES[message]).values()
    numbers = torch.ones(2, 4)
    with pytest.raises(ValueError, match=message):
        pauli_transfer(
            numbers.new_zeros(0, 4),
            numbers[0, :0],
            numbers,
            *map(torch.tensor, (steps, generators, words)),
            forms,
            1,
        )
