"""Profile HMM ops: against all paths one by one on tiny models, and kernels against the reference."""

import math
from collections import Counter

import pytest
import torch
from hmm_paths import log_sum, paths
from hypothesis import given, settings
from hypothesis import strategies as st

import shared
from biolayers.ops import hmm_counts, hmm_forward, hmm_posterior, hmm_viterbi
from biolayers.ops.hmm import sample
from biolayers.profiles.search import length_model
from shared.check.layouts import poisoned_memory
from shared.threads import finest_grain

TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-6}  # of the largest value
OPS = (hmm_forward, hmm_posterior, hmm_viterbi)


def realistic(b, l, nodes, symbols=20, *, glocal=False, multihit=True, seed=0, dtype=torch.float64):
    """A model such as HMMER's, sequences of unequal length with copies of its likeliest symbols."""
    rng = torch.Generator().manual_seed(seed)
    match = torch.randn(nodes, symbols, generator=rng, dtype=dtype).mul(2).log_softmax(-1) + math.log(symbols)
    insert = torch.zeros(max(0, nodes - 1), symbols, dtype=dtype)
    steps = (
        torch.tensor([0.94, 0.03, 0.03, 0.6, 0.4, 0.6, 0.4], dtype=dtype).log().repeat(max(0, nodes - 1), 1)
    )
    tokens = torch.randint(0, symbols + 1, (b, l), generator=rng)
    copies = match.argmax(-1).repeat(l // nodes + 2)[nodes // 2 :][:l].expand(b, -1)
    tokens = torch.where(torch.rand(b, l, generator=rng) < 0.6, copies, tokens).to(torch.uint8)
    lengths = torch.randint(0, l + 1, (b,), generator=rng)
    entry, exit = (
        torch.full((nodes,), -math.log(nodes * (nodes + 1) / 2), dtype=dtype),
        torch.zeros(nodes, dtype=dtype),
    )
    if glocal:
        entry[1:], exit[:-1] = -4.0 - 0.5 * torch.arange(nodes - 1), -torch.inf
    return (
        tokens,
        lengths,
        match,
        insert,
        steps,
        entry,
        exit,
        length_model(lengths, multihit=multihit, like=match),
    )


def wide(arguments):
    return [a.double() if a.is_floating_point() else a for a in arguments]


def evaluate(op, *arguments, provider):
    with shared.prefer(provider):
        found = op(*arguments)
    return found if isinstance(found, tuple) else (found,)


def poisoned(op, *arguments):
    """What the kernel finds when fresh memory is NaN; it is compiled before, where memory is as usual."""
    evaluate(op, *arguments, provider="numba")
    with poisoned_memory():
        return evaluate(op, *arguments, provider="numba")


def assert_near(ours, theirs, dtype, *, factor=1.0):
    assert ours.shape == theirs.shape
    if theirs.numel():
        scale = factor * max(
            1.0, theirs[theirs.isfinite()].abs().max().item() if theirs.isfinite().any() else 0
        )
        close = (ours.double() - theirs.double()).abs() <= TOLERANCE[dtype] * scale
        assert (close | (ours.double() == theirs.double())).all()


# one by one


@pytest.mark.parametrize("provider", ["numba", "reference"])
@pytest.mark.parametrize(("seed", "sizes"), [(0, (2, 4, 3, 3)), (1, (2, 3, 4, 2)), (2, (2, 5, 1, 2))])
def test_equals_the_sum_over_all_paths(seed, sizes, provider):
    arguments = sample(seed, *sizes)
    tokens, lengths, *parameters, special = arguments
    nodes = sizes[2]
    names = ["N", "J", "C", *(f"M{k + 1}" for k in range(nodes)), *(f"I{k + 1}" for k in range(nodes - 1))]
    (scores,) = evaluate(hmm_forward, *arguments, provider=provider)
    (probabilities,) = evaluate(hmm_posterior, *arguments, provider=provider)
    best, states, passes = evaluate(hmm_viterbi, *arguments, provider=provider)
    weights = torch.tensor([1.0, -0.5]).double()
    counts = evaluate(hmm_counts, *arguments, weights, provider=provider)
    used = Counter()
    for b in range(sizes[0]):
        row = tokens[b, : lengths[b]].tolist()
        found = list(paths(row, *(p.tolist() for p in parameters), special[b].tolist()))
        total = log_sum(path.score for path in found)
        assert scores[b].item() == pytest.approx(total, abs=1e-10)
        expected = torch.zeros_like(probabilities[b])
        for path in found:
            share = math.exp(path.score - total)
            for place, state in enumerate(path.states):
                expected[place, names.index(state)] += share
            for step, times in path.steps.items():
                used[(*step, b) if step[0] == "special" else step] += share * times * weights[b].item()
        assert_near(probabilities[b], expected, torch.float64)
        winner = max(found, key=lambda path: path.score)
        assert best[b].item() == pytest.approx(winner.score, abs=1e-10)
        assert states[b].tolist() == [*map(names.index, winner.states), *[-1] * (sizes[1] - len(row))]
        assert passes[b].tolist() == [*winner.passes, *[-1] * (sizes[1] - len(row))]
    _, _, steps, entry, exit, outside = counts
    for (kind, *place), times in used.items():
        if kind == "special":
            assert outside[place[2], place[0], place[1]].item() == pytest.approx(times, abs=1e-10)
        elif kind != "emit":
            table = {"transitions": steps, "entry": entry, "exit": exit}[kind]
            assert table[tuple(place)].item() == pytest.approx(times, abs=1e-10)
    for table, letter in ((counts[0], "M"), (counts[1], "I")):
        first = names.index(f"{letter}1") if f"{letter}1" in names else 0
        for node, symbol in torch.cartesian_prod(torch.arange(len(table)), torch.arange(sizes[3])).tolist():
            held = (tokens == symbol) * probabilities[:, :, first + node]
            assert table[node, symbol].item() == pytest.approx(
                (held.sum(-1) * weights).sum().item(), abs=1e-10
            )


# kernels against the reference


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((3, 7, 1), {}),
        ((2, 12, 16), {"multihit": False}),  # one vector exactly, of float32
        ((2, 67, 17), {}),  # kept columns, and rows of the next block
        ((2, 5, 150), {"glocal": True}),
    ],
)
def test_kernels_equal_the_reference(sizes, options):
    arguments = realistic(*sizes, **options, dtype=torch.float32)
    arguments[1][0] = sizes[1]
    for op in (*OPS, hmm_counts):
        single = [*arguments, torch.linspace(1, -2, sizes[0])] if op is hmm_counts else arguments
        exact = evaluate(op, *wide(single), provider="reference")
        sums = [t.abs().max().item() for t in exact if t.numel()] if op is hmm_counts else []
        factor = 5 * max(1.0, *sums) if sums else 5
        for dtype, call in ((torch.float32, single), (torch.float64, wide(single))):
            assert op.explain(*call).chosen == "numba"
            for ours, theirs in zip(poisoned(op, *call), exact, strict=True):
                if theirs.is_floating_point():
                    assert_near(ours, theirs, dtype, factor=factor)
                elif dtype == torch.float64:
                    assert torch.equal(ours, theirs)


@settings(max_examples=6)
@given(st.integers(0, 2**16), st.integers(0, 3), st.integers(0, 6), st.integers(1, 11), st.integers(1, 5))
def test_any_parameters(seed, b, l, nodes, symbols):
    """Unnormalised parameters, some of them impossible; sequences and batches may be empty."""
    tokens, lengths, *parameters = (
        sample(seed, b, l, nodes, symbols)
        if l
        else (torch.empty(b, 0, dtype=torch.uint8), *sample(seed, b, 1, nodes, symbols)[1:])
    )
    rng = torch.Generator().manual_seed(seed)
    holes = [torch.rand(p.shape, generator=rng) < 0.1 for p in parameters[:-1]]
    parameters = [p.masked_fill(h, -torch.inf) for p, h in zip(parameters, holes, strict=False)] + parameters[
        -1:
    ]
    arguments = tokens, lengths, *parameters
    for op in OPS:
        ours, exact = (evaluate(op, *arguments, provider=p)[0] for p in ("numba", "reference"))
        assert_near(ours, exact, torch.float64, factor=100)
    grad = torch.ones(b, dtype=torch.float64)
    ours, exact = (evaluate(hmm_counts, *arguments, grad, provider=p) for p in ("numba", "reference"))
    for a, e in zip(ours, exact, strict=True):
        assert_near(a, e, torch.float64, factor=100)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_scores_beyond_the_range_of_their_dtype(dtype):
    """Odds too far apart for sums of products: the reference takes over, in this sequence alone."""
    arguments = list(realistic(3, 12, 5, dtype=dtype))
    arguments[1][:] = 12
    for change in (-900.0, 900.0):
        changed = [*arguments[:2], arguments[2] + change, *arguments[3:]]
        ours = hmm_forward(*changed)
        assert_near(ours, evaluate(hmm_forward, *wide(changed), provider="reference")[0], dtype)
        assert ours.abs().min() > 300
    apart = [*arguments]
    apart[7] = apart[7].clone()
    apart[7][1, 0, 0] = -50.0  # a path that leaves N late is hopeless in one sequence
    assert_near(
        hmm_forward(*apart), evaluate(hmm_forward, *wide(apart), provider="reference")[0], dtype, factor=5
    )


@pytest.mark.parametrize("place", [(1, 0, 1), (1, 2, 0), (1, 3, 1)])
def test_flanks_beyond_the_range_of_odds(place):
    """Their odds are nothing in float64, but not impossible: leaving N, staying in J, leaving C."""
    arguments = list(realistic(3, 9, 4))
    arguments[1][:] = 9
    arguments[7][place] = -800.0
    exact = evaluate(hmm_forward, *arguments, provider="reference")[0]
    assert_near(hmm_forward(*arguments), exact, torch.float64)
    assert_near(
        hmm_viterbi(*arguments)[0], evaluate(hmm_viterbi, *arguments, provider="reference")[0], torch.float64
    )


def test_a_faint_end_is_not_lost():
    """A pass at the beginning alone, and a C that costs more to stay in than N: its sum fades beside N's."""
    arguments = list(realistic(2, 80, 3))
    arguments[0][:], arguments[0][:, :3], arguments[1][:] = 255, arguments[2].argmax(-1), 80
    arguments[7][:, 0, 0], arguments[7][:, 2:, 0] = 0.0, -30.0
    exact = evaluate(hmm_forward, *arguments, provider="reference")[0]
    assert (exact < -2000).all()
    assert_near(hmm_forward(*arguments), exact, torch.float64)


def test_long_runs_of_deletes_that_nothing_else_replaces():
    """The only path goes from the first to the last node, by delete states whose odds are beyond float32."""
    arguments = list(realistic(1, 2, 300, 2, multihit=False, dtype=torch.float32))
    arguments[0][:], arguments[1][:] = torch.tensor([0, 1]), 2
    match, _, _, entry, exit, special = arguments[2:]
    match[:], entry[1:], exit[:], special[:, :, 0] = -torch.inf, -torch.inf, -10.0, -torch.inf
    match[0, 0] = match[-1, 1] = special[:, 0, 1] = special[:, 3, 1] = 0.0
    exact = evaluate(hmm_forward, *wide(arguments), provider="reference")[0]
    assert exact.item() < -250
    assert_near(hmm_forward(*arguments), exact, torch.float32)


def test_impossible_may_be_written_as_a_large_number():
    arguments = list(realistic(2, 6, 3))
    arguments[2][:] = -1e30
    assert hmm_forward(*arguments).tolist() == hmm_viterbi(*arguments)[0].tolist() == [-math.inf] * 2
    assert (hmm_viterbi(*arguments)[1] == -1).all()


def test_the_number_of_threads_changes_no_bit():
    arguments, grad = realistic(40, 30, 12, dtype=torch.float32), torch.rand(40)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with finest_grain():
                results.append((hmm_forward(*arguments), *hmm_counts(*arguments, grad)))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


# what has no path, and what is added up


def test_empty_and_impossible_sequences():
    arguments = list(realistic(4, 6, 3, dtype=torch.float64))
    arguments[1] = torch.tensor([0, 6, 6, 99])
    arguments[0][1] = 255  # nothing that a match state can emit
    scores, probabilities = hmm_forward(*arguments), hmm_posterior(*arguments)
    assert scores[:2].tolist() == [-math.inf] * 2
    assert scores[2:].isfinite().all()
    assert not probabilities[:2].any()
    torch.testing.assert_close(probabilities[2:].sum(-1), torch.ones(2, 6).double())
    best, states, passes = hmm_viterbi(*arguments)
    assert best[:2].tolist() == [-math.inf] * 2
    assert (states[:2] == -1).all()
    assert (passes[:2] == -1).all()
    leaves = [a.requires_grad_() for a in arguments[2:]]
    found = torch.autograd.grad(hmm_forward(*arguments)[:2].clamp(min=-1).sum(), leaves)
    assert not any(g.any() for g in found)


def test_counts_are_consistent():
    """Each residue is emitted once, and each pass has one entry and one exit."""
    tokens, _, *parameters = realistic(3, 50, 8)
    lengths = torch.tensor([50, 31, 20])
    arguments = tokens, lengths, *parameters
    match, insert, _, entry, exit, special = hmm_counts(*arguments, torch.ones(3).double())
    loops = special[:, [0, 2, 3], 0].sum()  # residues in N, J and C
    assert (match.sum() + insert.sum() + loops).item() == pytest.approx(lengths.sum().item())
    assert entry.sum().item() == pytest.approx(exit.sum().item())
    assert entry.sum().item() == pytest.approx(special[:, 1].sum().item())


def test_best_path_is_a_path_and_no_better_than_all():
    arguments = realistic(6, 80, 13, dtype=torch.float64)
    best, states, passes = hmm_viterbi(*arguments)
    alive = best.isfinite()
    assert (best <= hmm_forward(*arguments) + 1e-9).all()
    assert ((states >= 3) == (passes >= 0)).all()
    assert (states[alive].max(-1).values >= 3).all()


def test_gradients_of_gradients():
    arguments = sample(0, 2, 3, 2, 2)
    leaves = [a.requires_grad_() for a in arguments[2:]]
    assert torch.autograd.gradgradcheck(
        lambda *p: hmm_forward(*arguments[:2], *p).sin(), leaves, fast_mode=True
    )


# errors


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, torch.zeros(2, 3), "uint8.*float32.*Alphabet"),
        (0, torch.zeros(6, dtype=torch.uint8), r"\(b, l\)"),
        (1, torch.zeros(3, dtype=torch.int64), r"lengths \(2,\)"),
        (1, torch.zeros(2), "int64"),
        (2, torch.zeros(0, 3).double(), "at least 1 by 1"),
        (2, torch.zeros(2, 3), "match.*float32|insert.*float32"),
        (4, torch.zeros(3, 7).double(), r"transitions \(1, 7\)"),
        (7, torch.zeros(4, 2).double(), r"special \(2, 4, 2\)"),
    ],
)
@pytest.mark.parametrize("providers", [("numba", "reference"), ("reference",)])
def test_errors_name_what_is_wrong(place, value, words, providers):
    arguments = list(sample(0, 2, 3, 2, 3))
    arguments[place] = value
    with shared.prefer(*providers), pytest.raises(shared.UserError, match=words):
        hmm_forward(*arguments)


def test_a_gradient_of_another_shape_is_refused():
    with pytest.raises(shared.UserError, match=r"grad \(2,\).*\(3,\)"):
        hmm_counts(*sample(0, 2, 3, 2, 3), torch.ones(3).double())
