"""The circuit op: reference against dense matrices, lane kernel against the reference."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import shared as floor
from qlayers.ops import pauli_expval, pauli_expval_vjp

PAULI = [np.eye(2), np.array([[0, 1], [1, 0]]), np.diag([1, -1]), np.array([[0, -1j], [1j, 0]])]
TOLERANCE = {torch.float64: 1e-11, torch.float32: 3e-5}


def dense_word(x: int, z: int, wires: int) -> np.ndarray:
    """The matrix of a Pauli word, from the textbook matrices alone."""
    bits = [(x >> b & 1) + 2 * (z >> b & 1) for b in reversed(range(wires))]
    return functools.reduce(np.kron, [PAULI[bit] for bit in bits], np.eye(1))


def dense_expvals(shared, batched, rotations, words, wires):
    rows = []
    for sample in batched.tolist():
        psi = np.eye(2**wires)[0].astype(complex)
        for x, z, source, column in rotations.tolist():
            angle = sample[column] if source else shared[column].item()
            psi = np.cos(angle / 2) * psi - 1j * np.sin(angle / 2) * dense_word(x, z, wires) @ psi
        rows.append([(psi.conj() @ dense_word(x, z, wires) @ psi).real for x, z in words.tolist()])
    return torch.tensor(rows, dtype=torch.float64).reshape(len(batched), len(words))


@st.composite
def circuits(draw, most_wires=5, batches=(0, 1, 2, 7, 8, 15, 16, 17, 33)):
    """(rotations, words, wires, batch): any rows that the op's definition allows, identity words included."""
    wires = draw(st.integers(1, most_wires))
    mask = st.integers(0, 2**wires - 1)
    rows = draw(st.lists(st.tuples(mask, mask, st.integers(0, 1), st.integers(0, 2)), max_size=20))
    words = draw(st.lists(st.tuples(mask, mask), max_size=4))
    tables = (
        torch.tensor(rows, dtype=torch.int64).reshape(-1, 4),
        torch.tensor(words, dtype=torch.int64).reshape(-1, 2),
    )
    return (*tables, wires, draw(st.sampled_from(batches)))


def arguments(rotations, words, wires, batch, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(3, generator=generator, dtype=torch.float64).to(dtype)
    batched = torch.randn(batch, 3, generator=generator, dtype=torch.float64).to(dtype)
    return shared, batched, rotations, words, wires


def incoming(args):
    return torch.linspace(-1, 1, len(args[1]) * len(args[3]), dtype=args[1].dtype).reshape(
        len(args[1]), len(args[3])
    )


@given(circuits(most_wires=4, batches=(0, 1, 3)))
@settings(max_examples=60)
def test_reference_is_the_definition(circuit):
    args = arguments(*circuit)
    with floor.prefer("reference"):
        torch.testing.assert_close(pauli_expval(*args), dense_expvals(*args), rtol=0, atol=1e-12)


@given(circuits(most_wires=3, batches=(1, 3)))
@settings(max_examples=30)
def test_vjp_reference_is_the_gradient(circuit):
    args = arguments(*circuit)
    shared, batched = args[0].requires_grad_(), args[1].requires_grad_()
    value = (pauli_expval.reference(*args) * incoming(args)).sum()
    wanted = (
        torch.autograd.grad(value, (shared, batched), allow_unused=True)
        if value.requires_grad
        else (None, None)
    )
    found = pauli_expval_vjp.reference(*args, incoming(args))
    for gradient, expected, angles in zip(found, wanted, (shared, batched), strict=True):
        expected = torch.zeros_like(angles) if expected is None else expected
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@given(circuit=circuits(most_wires=7))
@settings(max_examples=60)
def test_kernel_equals_reference(dtype, circuit):
    args = arguments(*circuit, dtype=dtype)
    outputs = (pauli_expval(*args), *pauli_expval_vjp(*args, incoming(args)))
    with floor.prefer("reference"):
        doubled = (args[0].double(), args[1].double(), *args[2:])
        expected = (pauli_expval(*doubled), *pauli_expval_vjp(*doubled, incoming(args).double()))
    for output, exact in zip(outputs, expected, strict=True):
        assert output.dtype == dtype
        assert output.is_contiguous()
        torch.testing.assert_close(output.double(), exact, rtol=0, atol=TOLERANCE[dtype])


def test_kernel_is_what_runs():
    args = arguments(torch.tensor([[1, 0, 0, 0]]), torch.tensor([[0, 1]]), 1, 2, dtype=torch.float32)
    assert pauli_expval.explain(*args).chosen == "numba"
    assert (
        pauli_expval.explain(
            *(a.half() if torch.is_tensor(a) and a.is_floating_point() else a for a in args)
        ).chosen
        == "reference"
    )


@pytest.mark.parametrize("wires", [9, 12])
def test_larger_states(wires):
    generator = torch.Generator().manual_seed(wires)
    masks = torch.randint(2**wires, (40, 2), generator=generator)
    rotations = torch.cat(
        [
            masks,
            torch.randint(2, (40, 1), generator=generator),
            torch.randint(3, (40, 1), generator=generator),
        ],
        1,
    )
    args = arguments(rotations, torch.randint(2**wires, (3, 2), generator=generator), wires, 5)
    with floor.prefer("reference"):
        expected = (pauli_expval(*args), *pauli_expval_vjp(*args, incoming(args)))
    found = (pauli_expval(*args), *pauli_expval_vjp(*args, incoming(args)))
    for output, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(output, exact, rtol=0, atol=1e-11)


def test_threads_change_nothing():
    rotations = torch.tensor([[5, 3, 0, 0], [2, 7, 1, 1], [0, 9, 0, 2], [8, 8, 1, 0]] * 50)
    args = arguments(rotations, torch.tensor([[0, 8], [3, 5]]), 10, 130, dtype=torch.float32)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append((pauli_expval(*args), *pauli_expval_vjp(*args, incoming(args))))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("rotations", "words", "text"),
    [
        ([[4, 0, 0, 0]], [[0, 1]], "masks from 0 to 3 for 2 wires, received 0 to 4"),
        ([[1, 0, 0, 0]], [[0, 9]], "masks from 0 to 3 for 2 wires, received 0 to 9"),
        ([[1, 0, 2, 0]], [[0, 1]], "source 0 or 1"),
        ([[1, 0, 1, 3]], [[0, 1]], r"below 3 \(shared\) and 3 \(batched\), received up to -1 and 3"),
    ],
)
def test_tables_out_of_range_are_refused(rotations, words, text):
    with pytest.raises(ValueError, match=text):
        pauli_expval(*arguments(torch.tensor(rotations), torch.tensor(words), 2, 1))


def test_vmap_over_weights_inputs_and_both():
    args = arguments(
        torch.tensor([[1, 2, 0, 0], [2, 1, 1, 1], [3, 3, 0, 1]]), torch.tensor([[0, 1], [1, 0]]), 2, 4
    )
    shared, batched, *tables = args
    many_shared, many_batched = (
        torch.stack([shared, 2 * shared, -shared]),
        torch.stack([batched, batched + 1, -batched]),
    )
    both = torch.func.vmap(lambda s, b: pauli_expval(s, b, *tables))(many_shared, many_batched)
    of_shared = torch.func.vmap(lambda s: pauli_expval(s, batched, *tables))(many_shared)
    of_batched = torch.func.vmap(lambda b: pauli_expval(shared, b, *tables), in_dims=1)(
        many_batched.transpose(0, 1)
    )
    for i in range(3):
        torch.testing.assert_close(both[i], pauli_expval(many_shared[i], many_batched[i], *tables))
        torch.testing.assert_close(of_shared[i], pauli_expval(many_shared[i], batched, *tables))
        torch.testing.assert_close(of_batched[i], pauli_expval(shared, many_batched[i], *tables))


def test_jacobians_agree_in_both_modes():
    args = arguments(
        torch.tensor([[1, 2, 0, 0], [2, 1, 1, 1], [3, 3, 0, 1]]), torch.tensor([[0, 1], [1, 0]]), 2, 4
    )
    shared, batched, *tables = args
    by_rows = torch.func.jacrev(lambda s, b: pauli_expval(s, b, *tables), (0, 1))(shared, batched)
    by_columns = torch.func.jacfwd(lambda s, b: pauli_expval(s, b, *tables), (0, 1))(shared, batched)
    for a, b in zip(by_rows, by_columns, strict=True):
        torch.testing.assert_close(a, b)
