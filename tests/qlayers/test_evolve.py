"""The op of states: its kernel against its reference, and index tables against matrices."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

import shared
from qlayers.frame import Word
from qlayers.ops import pauli_evolve, pauli_evolve_vjp, pauli_expval
from qlayers.permute import Permuting, gate_matrix, permutes
from shared.threads import finest_grain

# wires, batch, initial states, rotations: by lanes and one after the other, whole blocks and not, none at all
SHAPES = [
    *((1, 1, 0, 2), (1, 3, 1, 4), (3, 5, 5, 9), (4, 40, 1, 11), (5, 1, 1, 9), (6, 2, 0, 12)),
    *((5, 2, 2, 12), (6, 33, 33, 20), (7, 3, 1, 20), (5, 0, 1, 4), (4, 3, 0, 0)),
]


def arguments(wires, batch, states, count, dtype):
    masks = torch.randint(2**wires, (count, 2))
    source = torch.arange(count) % 2
    rotations = torch.cat([masks, source[:, None], (torch.arange(count) // 2)[:, None]], 1)
    shared_angles, batched = (
        torch.randn((count + 1) // 2, dtype=dtype),
        torch.randn(batch, count // 2, dtype=dtype),
    )
    return torch.randn(states, 2, 2**wires, dtype=dtype), shared_angles, batched, rotations, wires


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_is_the_reference(shape, dtype, request):
    args = arguments(*shape, dtype)
    grad = torch.randn(shape[1], 2, 2 ** shape[0], dtype=dtype)
    pauli_evolve_vjp(*args, grad)  # Numba must see NumPy's own `empty` when it compiles
    request.getfixturevalue("poisoned_memory")
    found = []
    for provider in ("numba", "reference"):
        with shared.prefer(provider), finest_grain():
            found.append((pauli_evolve(*args), *pauli_evolve_vjp(*args, grad)))
    tolerance = {torch.float32: 2e-4, torch.float64: 1e-10}[dtype]
    for received, wanted in zip(*found, strict=True):
        assert_close(received, wanted, rtol=tolerance, atol=tolerance)


def test_expectation_values_of_the_state():
    none, shared_angles, batched, rotations, wires = arguments(3, 4, 0, 9, torch.float64)
    state = pauli_evolve(none, shared_angles, batched, rotations, wires)
    z = 1 - 2 * (torch.arange(8) & 1)
    wanted = pauli_expval(shared_angles, batched, rotations, torch.tensor([[0, 1]]), wires)
    assert_close(((state**2).sum(1) * z).sum(-1), wanted[:, 0])


@pytest.mark.parametrize("states", [0, 1, 3])
def test_per_sample_gradients(states):
    """Vmap over everything but the plan."""
    args = [arguments(2, 3, states, 5, torch.float64) for _ in range(2)]
    rotations, wires = args[0][3:]
    stacked = [torch.stack(parts) for parts in zip(*(a[:3] for a in args), strict=True)]

    def loss(state, shared_angles, batched):
        return pauli_evolve(state, shared_angles, batched, rotations, wires).sin().sum()

    found = torch.func.vmap(torch.func.grad(loss, (0, 1, 2)))(*stacked)
    each = [torch.func.grad(loss, (0, 1, 2))(*(part[i] for part in stacked)) for i in range(2)]
    for i in range(2):
        for received, wanted in zip(found, each[i], strict=True):
            assert_close(received[i], wanted)


PERMUTING = {
    "X": (("X", 2),),
    "S": (("Z", 1),),
    "CNOT": (("ZI", 1), ("IX", 1), ("ZX", -1)),
    "CZ": (("ZI", 1), ("IZ", 1), ("ZZ", -1)),
    "SWAP": (("XX", -1), ("YY", -1), ("ZZ", -1)),
    "ISWAP": (("XX", -1), ("YY", -1)),
    "ZZ": (("ZZ", 3),),
    "XYZX": (("XYZX", 6),),
}


def spread(letters, bits):
    x = sum((letter in "XY") << bit for letter, bit in zip(letters, bits, strict=True))
    z = sum((letter in "YZ") << bit for letter, bit in zip(letters, bits, strict=True))
    return Word(x, z)


@given(st.lists(st.tuples(st.sampled_from(list(PERMUTING)), st.permutations(range(4))), max_size=12))
def test_index_tables_are_the_gates(gates):
    permuting, matrix = Permuting(4), np.eye(16, dtype=complex)
    for name, order in gates:
        turns = PERMUTING[name]
        assert permutes(turns)
        bits = tuple(order[: len(turns[0][0])])
        permuting.absorb([(spread(letters, bits), count) for letters, count in turns], turns, bits)
        whole = tuple(
            ("".join(dict(zip(bits, letters, strict=True)).get(bit, "I") for bit in (3, 2, 1, 0)), count)
            for letters, count in turns
        )
        matrix = gate_matrix(whole) @ matrix
    source, power = permuting.now().tables()
    found = np.zeros((16, 16), complex)
    found[np.arange(16), source] = 1j**power
    np.testing.assert_allclose(np.exp(1j * permuting.phase) * found, matrix, atol=1e-12)


@pytest.mark.parametrize("turns", [(("X", 1),), (("Z", 2), ("Y", 1)), (("XZ", 1),)])
def test_gates_that_superpose_do_not_qualify(turns):
    assert not permutes(turns)
