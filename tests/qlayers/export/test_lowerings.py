"""The forms that circuits take in exported graphs give what the ops give, for random circuits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qlayers.export import expval
from qlayers.export.stepwise import word
from qlayers.ops import pauli_evolve, pauli_expval, pauli_transfer
from qlayers.ops.pauli import apply_word
from shared.export import Given


def random_circuit(seed: int, wires: int, count: int, columns: int, *, words: int = 3):
    """Angles and tables of a random circuit; a third of its rotations have angles of samples."""
    draw = torch.Generator().manual_seed(seed)
    masks = torch.randint(2**wires, (count, 2), generator=draw)
    source = (torch.rand(count, generator=draw) < 0.34).long() if columns else torch.zeros(count).long()
    shared = torch.randn(count, generator=draw, dtype=torch.float64)
    column = torch.where(
        source == 1, torch.randint(max(columns, 1), (count,), generator=draw), torch.arange(count)
    )
    rotations = torch.stack([*masks.unbind(1), source, column], 1)
    observables = torch.randint(2**wires, (words, 2), generator=draw)
    return shared, torch.randn(4, columns, generator=draw, dtype=torch.float64), rotations, observables


def given_like(x: torch.Tensor) -> Given:
    return Given(x.shape, x.dtype)


circuits = st.tuples(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 9), st.integers(0, 3))


@pytest.mark.parametrize("short", [True, False], ids=["fourier", "stepwise"])
@given(case=circuits)
@settings(max_examples=30)
def test_expectation_values(short: bool, case: tuple[int, int, int, int]) -> None:
    shared, batched, rotations, words = random_circuit(*case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expval, "_is_short", lambda *_: short)
        module = expval.lower_expval(shared, given_like(batched), rotations, words, case[1])
    wanted = pauli_expval(shared, batched, rotations, words, case[1])
    torch.testing.assert_close(module(batched), wanted, atol=1e-10, rtol=0)


@pytest.mark.parametrize("short", [True, False], ids=["fourier", "stepwise"])
@given(case=circuits, known=st.sampled_from([0, 1, None]))
@settings(max_examples=30)
def test_states(short: bool, case: tuple[int, int, int, int], known: int | None) -> None:
    shared, batched, rotations, _ = random_circuit(*case)
    state = torch.randn(4 if known is None else known, 2, 2 ** case[1], dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expval, "_is_short", lambda *_: short)
        first = given_like(state) if known is None else state
        module = expval.lower_evolve(first, shared, given_like(batched), rotations, case[1])
    wanted = pauli_evolve(state, shared, batched, rotations, case[1])
    found = module(*([state] if known is None else []), batched)
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=0)


def test_noisy_circuits() -> None:
    sample = pauli_transfer.sample_arguments()
    lowered = 0
    for state, shared, batched, *rest in sample:
        module = expval.lower_transfer(state, shared, given_like(batched), *rest)
        if module is not None:
            lowered += 1
            wanted = pauli_transfer(state, shared, batched, *rest)
            torch.testing.assert_close(module(batched), wanted, atol=1e-10, rtol=0)
    assert lowered < len(sample)  # channels with numbers of samples are no series
    flip, turn = torch.tensor([0.0, 1.0, 1.0, 0.5, 0.5]).double(), torch.randn(4, 1).double()
    steps = torch.tensor([[0, 1, 0], [1, 0, 1]])
    generators, words = torch.tensor([[1, 0, 1], [1, 0, 1], [0, 1, 1]]), torch.tensor([[0, 1]])
    args = steps, generators, words, "rd", 1
    module = expval.lower_transfer(torch.zeros(0, 4).double(), flip, given_like(turn), *args)
    wanted = pauli_transfer(torch.zeros(0, 4).double(), flip, turn, *args)
    torch.testing.assert_close(module(turn), wanted, atol=1e-10, rtol=0)


def test_eight_angles_in_single_precision() -> None:
    """The longest series still has the accuracy of the op."""
    columns = torch.arange(8)
    encoding = torch.stack([2**columns, 0 * columns, 1 + 0 * columns, columns], 1)
    shared, _, rest, words = random_circuit(0, 8, 30, 0)
    rotations, batched = torch.cat([encoding, rest]), torch.randn(50, 8)
    module = expval.lower_expval(shared.float(), given_like(batched), rotations, words, 8)
    wanted = pauli_expval(shared, batched.double(), rotations, words, 8)
    assert (module(batched) - wanted).abs().max() < 2e-6


def test_unknown_weights_are_left_to_the_reference() -> None:
    shared, batched, rotations, words = random_circuit(0, 2, 5, 1)
    assert expval.lower_expval(given_like(shared), given_like(batched), rotations, words, 2) is None


@given(wires=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_words_are_signed_permutations(wires: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x, z = torch.randint(2**wires, (2,), generator=draw)
    re, im = torch.randn(2, 1, 2**wires, generator=draw, dtype=torch.float64)
    p_re, p_im = apply_word(re, im, x, z)
    v = torch.cat([re, im], -1)
    torch.testing.assert_close(word(int(x), int(z), wires, turned=False)(v), torch.cat([p_re, p_im], -1))
    torch.testing.assert_close(word(int(x), int(z), wires, turned=True)(v), torch.cat([p_im, -p_re], -1))
