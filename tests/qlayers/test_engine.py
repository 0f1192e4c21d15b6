"""The engines of the circuit op: samples in the lanes, amplitudes in the lanes, a matrix."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import shared as floor
from qlayers.kernels.numba import launch as host
from qlayers.kernels.numba.angles import full_half, half_angles
from qlayers.kernels.numba.program import CORNERS, CROSSED, DIAGONAL, LANE, schedule
from qlayers.kernels.numba.schedule import Rotation
from qlayers.ops import pauli_expval, pauli_expval_vjp
from shared.threads import finest_grain

TOLERANCE = {torch.float64: 1e-11, torch.float32: 5e-5}


def tables(wires: int, count: int, seed: int, *, own: bool = True, diagonal: float = 0.3) -> tuple:
    """Random rotations and words; `own`: also with angles of samples."""
    source = np.random.default_rng(seed)
    rotations = source.integers(0, 2**wires, (count, 4))
    rotations[source.random(count) < diagonal, 0] = 0
    rotations[:, 2] = source.integers(0, 2, count) if own else 0
    rotations[:, 3] = source.integers(0, 5, count)
    words = source.integers(0, 2**wires, (6, 2))
    words[::2, 0] = 0
    return torch.from_numpy(rotations), torch.from_numpy(words), wires


def check(circuit: tuple, batch: int, dtype: torch.dtype, *, spread: float = 3.0) -> None:
    """Kernel against reference, the latter in float64, values and gradients."""
    generator = torch.Generator().manual_seed(0)
    shared = spread * torch.randn(5, generator=generator, dtype=torch.float64).to(dtype)
    batched = spread * torch.randn(batch, 5, generator=generator, dtype=torch.float64).to(dtype)
    grad = torch.randn(batch, len(circuit[1]), generator=generator, dtype=torch.float64).to(dtype)
    found = (
        pauli_expval(shared, batched, *circuit),
        *pauli_expval_vjp(shared, batched, *circuit, grad),
    )
    with floor.prefer("reference"):
        doubled = (shared.double(), batched.double(), *circuit)
        wanted = (pauli_expval(*doubled), *pauli_expval_vjp(*doubled, grad.double()))
    for output, exact in zip(found, wanted, strict=True):
        size = max(1.0, exact.abs().max().item() if exact.numel() else 0.0)
        torch.testing.assert_close(output.double() / size, exact / size, rtol=0, atol=TOLERANCE[dtype])


@pytest.fixture(params=["numba", "numba-single", "numba-gemm"])
def engine(request):
    """Force one of the engines."""
    with floor.prefer(request.param):
        yield request.param


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("wires", [1, 2, 3, 7, 8, 10])
def test_engines_agree_with_the_reference(engine, wires, own, dtype):
    for batch in (0, 1, 17, 40):
        check(tables(wires, 5 * wires, 7 * wires + own, own=own), batch, dtype)


@pytest.mark.parametrize("diagonal", [0.0, 1.0])
def test_only_turns_and_only_diagonal_ones(engine, diagonal):
    check(tables(8, 60, 3, diagonal=diagonal), 18, torch.float64)


def test_deep_circuits_stay_normalised(engine):
    check(tables(7, 600, 5), 3, torch.float32)


def test_many_tables_are_not_made(engine, monkeypatch):
    monkeypatch.setattr(host, "_MOST_TABLE_BYTES", 0)
    check(tables(8, 50, 9, own=False), 18, torch.float64)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_states_that_forward_keeps_serve_backward_any_number_of_times(single, own, monkeypatch):
    circuit = tables(8, 60, 4, own=own)
    shared, batched, grad = (torch.randn(size) for size in (5, (37, 5), (37, 6)))
    launch = host.Launch(*circuit, 5, 37, 5, torch.float32, single=single)
    values, kept = launch.forward(shared, batched, keep=True)
    plain, nothing = launch.forward(shared, batched)
    assert nothing is None
    assert torch.equal(values, plain)
    wanted = launch.backward(shared, batched, grad)
    with finest_grain():
        monkeypatch.setattr(host, "_GRAIN", 1)
        threaded = launch.backward(shared, batched, grad, kept)
    for found in (launch.backward(shared, batched, grad, kept), threaded):
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("shape", [(3, 5), (2, 6), (3,)])
def test_gradients_of_a_wrong_shape_are_refused(engine, shape):
    circuit = tables(4, 9, 4)
    with pytest.raises(ValueError, match="expected shape"):
        pauli_expval_vjp(torch.zeros(5), torch.zeros(3, 5), *circuit, torch.zeros(shape))


def test_what_is_kept_is_bounded():
    circuit = tables(8, 10, 4)
    launch = host.Launch(*circuit, 5, 10**6, 5, torch.float32, single=False)
    assert launch.keeps == 0
    launch = host.Launch(*circuit, 5, 100, 5, torch.float32, single=False)
    assert 0 < launch.keeps <= host._MOST_KEPT_BYTES


def test_large_angles(engine):
    check(tables(7, 30, 11), 17, torch.float64, spread=300.0)


def test_threads_do_not_show(engine):
    circuit = tables(8, 60, 13)
    generator = torch.Generator().manual_seed(1)
    shared, batched = torch.randn(5, generator=generator), torch.randn(70, 5, generator=generator)
    grad = torch.randn(70, 6, generator=generator)
    with finest_grain():
        many = pauli_expval_vjp(shared, batched, *circuit, grad)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one = pauli_expval_vjp(shared, batched, *circuit, grad)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(many, one, strict=True))


def test_nan_reaches_its_own_sample_alone(engine):
    rotations, words, wires = tables(7, 20, 15)
    batched = torch.randn(20, 5, dtype=torch.float64)
    batched[3] = torch.nan
    values = pauli_expval(torch.randn(5, dtype=torch.float64), batched, rotations, words, wires)
    assert values[3].isnan().any()
    assert not values[[0, 1, 2, *range(4, 20)]].isnan().any()


@given(
    wires=st.integers(3, 9),
    count=st.integers(0, 80),
    seed=st.integers(0, 10**6),
    low_bits=st.sampled_from([0, 3, 4]),
)
@settings(max_examples=60, deadline=None)
def test_programs_hold_every_rotation_in_an_allowed_order(wires, count, seed, low_bits):
    rotations, words, _ = tables(wires, count, seed)
    rotations[:, 3] = torch.arange(count)  # so that each can be told from the others
    program = schedule(rotations.numpy().tobytes(), words.numpy().tobytes(), wires, low_bits).program
    order = [*program.steps[:, 1].tolist(), *program.turns[:, 4].tolist()]
    rows = [Rotation(*row) for row in rotations.tolist()]
    left_out = set(range(count)) - set(order)
    assert len(set(order)) == len(order)
    for k in left_out:  # identities, and phases of |0...0>: what commutes with all before it and has no X
        assert rows[k].x == 0
        assert all(rows[k].commutes(rows[i]) for i in range(k) if i not in left_out)
    for at, k in enumerate(order):
        assert all(rows[k].commutes(rows[later]) for later in order[at:] if later < k)
    for kind, first, _, last, _ in program.passes.tolist():
        masks = program.turns[first:last, 0].tolist()
        assert all((mask == 0) == (kind == DIAGONAL) for mask in masks)
        crossed = any(mask & (1 << low_bits) - 1 for mask in masks)
        assert kind < CORNERS or kind == (CROSSED if crossed else CORNERS) + len(masks) - 1
        assert kind != LANE or len(masks) == 1
        assert kind != LANE or masks[0] >> low_bits == 0
        rows_of = {0}
        for mask in masks if kind >= CORNERS else ():
            assert mask >> low_bits not in rows_of
            rows_of |= {row ^ mask >> low_bits for row in rows_of}


def test_half_angles():
    angles = np.concatenate([np.linspace(-20, 20, 4001), [0.0, 1e4, -1e6, np.pi, -np.pi / 2]])
    cosines, sines = np.empty(len(angles)), np.empty(len(angles))
    counts = np.empty(len(angles), np.int64)
    half_angles.py_func(angles, len(angles), cosines, sines, counts)
    assert np.abs(sines / cosines).max() <= 1 + 1e-12
    for angle, *parts in zip(angles, cosines, sines, counts, strict=True):
        found = full_half.py_func(*parts)
        wanted = np.cos(angle / 2), np.sin(angle / 2)
        # beyond 2 pi the state's sign, which nothing shows, may differ
        assert min(np.abs(np.subtract(found, wanted)).max(), np.abs(np.add(found, wanted)).max()) < 1e-10


def test_the_cost_model_explains_itself():
    def chosen(wires: int, batch: int, layers: int) -> str:
        first = [(1 << w, 0, 1, w) for w in range(wires)]
        later = [(3 << w & 2**wires - 1, 1, 0, w) for _ in range(layers) for w in range(wires)]
        rotations, words = torch.tensor(first + later), torch.tensor([[0, 1]])
        arguments = torch.zeros(wires), torch.zeros(batch, wires), rotations, words, wires
        found, back = (
            pauli_expval.explain(*arguments),
            pauli_expval_vjp.explain(*arguments, torch.zeros(batch, 1)),
        )
        assert found.chosen == back.chosen
        assert all(verdict.reason for verdict in found.verdicts if not verdict.chosen)
        return found.chosen

    assert chosen(4, 32, 2) == "numba"
    assert chosen(8, 64, 3) == "numba"
    assert chosen(16, 4, 2) == "numba-single"
    assert chosen(8, 1, 2) == "numba-single"
    assert chosen(3, 4096, 60) == "numba-gemm"
