"""Simplified circuits against the same circuits as they are, and each rule by itself."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import shared
from qlayers import Circuit, QuantumLayer
from qlayers.circuit import Operation
from qlayers.expressions import Nodes
from qlayers.gates import CONTROLLED, TABLE, gate
from qlayers.measure import Measurement, Term
from qlayers.ops import pauli_expval
from qlayers.plan import Rotation
from qlayers.simplify import (
    RULES,
    SUM_PAYS,
    Angle,
    Form,
    Measured,
    Turn,
    index_space,
    light_cone,
    merge,
    reach,
    simplified,
)

X, Y, Z = (1, 0), (1, 1), (0, 1)  # masks of a word on the last wire
A, B = 0, 1  # two expressions


def turn(word, node=None, scale=1.0, offset=0.0):
    return Turn(*word, Angle(() if node is None else ((node, scale),), offset))


def form(wires, turns, *words):
    return Form(wires, list(turns), [Measured(x, z, 1) for x, z in words])


def kept(found):
    """(x, z, terms, offset) of what is left."""
    return [(t.x, t.z, dict(t.angle.terms), t.angle.offset) for t in found.turns]


def values(found, numbers):
    """The measured values of a form, each expression having a number."""
    angles = [
        sum(scale * numbers[node] for node, scale in t.angle.terms) + t.angle.offset for t in found.turns
    ]
    rows = [[t.x, t.z, 0, i] for i, t in enumerate(found.turns)]
    words = [[word.x, word.z] for word in found.words]
    with shared.prefer("reference"):
        measured = pauli_expval(
            torch.tensor(angles, dtype=torch.float64),
            torch.empty(1, 0, dtype=torch.float64),
            torch.tensor(rows, dtype=torch.int64).reshape(-1, 4),
            torch.tensor(words, dtype=torch.int64).reshape(-1, 2),
            found.wires,
        )
    return measured[0] * torch.tensor([word.factor for word in found.words])


angles = st.one_of(
    st.builds(
        lambda node, scale: Angle(((node, scale),), 0.0), st.integers(0, 2), st.sampled_from([1, -1, 0.5])
    ),
    st.sampled_from([math.pi / 4, -math.pi / 4, 0.3, math.pi]).map(lambda value: Angle((), value)),
)


@st.composite
def parts(draw):
    """The arguments of `form`; it is made outside, since checked types draw random numbers."""
    wires = draw(st.integers(1, 4))
    words = st.tuples(st.integers(0, 2**wires - 1), st.integers(0, 2**wires - 1))
    some = draw(st.lists(words, min_size=1, max_size=5))  # few words, so that they meet again
    turns = draw(st.lists(st.tuples(st.sampled_from(some), angles), max_size=14))
    measured = draw(st.lists(words, min_size=1, max_size=3))
    return wires, [Turn(*word, angle) for word, angle in turns if any(word)], *measured


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=80, deadline=None)
@given(made=parts(), numbers=st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_each_rule_keeps_the_values(rule, made, numbers):
    found = form(*made)
    before, count = values(found, numbers), len(found.turns)
    taken = RULES[rule](found)
    assert taken == count - len(found.turns)
    assert_close(values(found, numbers), before, rtol=1e-12, atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(made=parts(), numbers=st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_index_space_keeps_the_values(made, numbers):
    found = form(*made)
    before = values(found, numbers)
    reach(found)
    rank = _rank([t.x for t in found.turns])
    index_space(found)
    assert found.wires == max(rank, 1)
    assert_close(values(found, numbers), before, rtol=1e-12, atol=1e-12)


def _rank(masks):
    rank = 0
    while masks := [mask for mask in masks if mask]:
        top = max(masks)
        masks, rank = [min(mask, mask ^ top) for mask in masks], rank + 1
    return rank


def test_light_cone():
    # RX on two wires, then RZZ: Z of the last wire sees neither the other wire nor what commutes with it
    found = form(2, [turn((2, 0), A), turn(X, B), turn((0, 3), A), turn(Z, B)], Z)
    assert light_cone(found) == 3
    assert kept(found) == [(1, 0, {B: 1.0}, 0.0)]
    # X sees the RZZ, and through it the other wire
    found = form(2, [turn((2, 0), A), turn(X, B), turn((0, 3), A), turn(Z, B)], X)
    assert light_cone(found) == 0
    found = form(2, [turn((2, 0), A), turn(X, B)])
    assert light_cone(found) == 2  # nothing is measured


def test_reach_drops_phases():
    found = form(2, [turn(Z, A), turn(X, B), turn((0, 2), A), turn(Z, A), turn((0, 3), B)], X)
    assert reach(found) == 2  # the first Z, and that of the wire still in |0>
    assert kept(found) == [(1, 0, {B: 1.0}, 0.0), (0, 1, {A: 1.0}, 0.0), (0, 1, {B: 1.0}, 0.0)]  # ZZ is Z


def test_reach_keeps_the_sign_of_y():
    # after X X, Y on the first wire is Y of both up to Z Z: Y Z = i (...) there, so the phase has to be kept
    found = form(2, [turn((3, 0), A), turn((3, 2), B), turn((3, 1), B)], (0, 3), (2, 0), (3, 1))
    before = values(found, [0.4, 0.9])
    reach(found)
    assert len({t[:2] for t in found.turns[1:]}) == 1
    assert [word.factor for word in found.words] == [1, 0, 1]
    assert found.words[0][:2] == (0, 0)
    assert_close(values(found, [0.4, 0.9]), before)


def test_merge_adds_angles_past_what_commutes():
    found = form(2, [turn(X, A), turn((2, 0), B), turn((0, 2), A), turn(X, A, 2.0, 0.5)], Z)
    assert merge(found) == 1
    assert kept(found)[0] == (1, 0, {A: 3.0}, 0.5)
    blocked = form(2, [turn(X, A), turn(Z, B), turn(X, A)], Z)
    assert merge(blocked) == 0
    long = form(2, [turn(X, A), turn((2, 0), A), *[turn(X, B)] * 50], Z)
    assert merge(long) == 50
    assert kept(long)[0] == (1, 0, {A: 1.0, B: 50.0}, 0.0)


@pytest.mark.parametrize("distance", [5, 31, 32, 33, 100])
def test_merge_looks_far(distance):
    between = [Turn((i + 1) << 1, 0, Angle(((i + 2, 1.0),), 0.0)) for i in range(distance)]
    assert merge(form(9, [turn(X, A), *between, turn(X, B)], Z)) == 1
    for place in (0, distance // 2, distance):
        blocked = [turn(X, A), *between[:place], turn(Z, A), *between[place:], turn(X, B)]
        assert merge(form(9, blocked, Z)) == 0


def test_inverses_cancel_from_inside_out():
    nest = [turn(X, A), turn(Z, B), turn(X, A, 0.5), turn(X, A, -0.5), turn(Z, B, -1.0), turn(X, A, -1.0)]
    found = form(1, nest, Z)
    assert merge(found) == 6
    assert found.turns == []


def test_constants_that_become_clifford_are_absorbed():
    # T Z T = S on |+>, before a rotation about X: that becomes one about Y, up to its sign, and X becomes Y
    t = math.pi / 4
    found = form(1, [turn(X, A), turn(Z, None, offset=t), turn(Z, None, offset=t), turn(X, B)], X, Y, Z)
    before = values(found, [0.7, 1.1])
    assert merge(found) == 2
    assert [t[:2] for t in found.turns] == [X, Y]
    assert [word[:2] for word in found.words] == [Y, X, Z]
    assert_close(values(found, [0.7, 1.1]), before)


@pytest.mark.parametrize("second", [X, Y])
@pytest.mark.parametrize("first", [1, -1])
def test_absorbed_constants_change_later_ones(first, second):
    # one of the signs turns the second word into the negative of another, whose angle then counts negative
    t = math.pi / 4
    turns = [
        turn(X, A),
        turn(Y, B),
        *[turn(Z, None, offset=first * t)] * 2,
        *[turn(second, None, offset=t)] * 2,
    ]
    found = form(1, turns, X, Y, Z)
    before = values(found, [0.7, 1.1])
    assert merge(found) == 4
    assert_close(values(found, [0.7, 1.1]), before)


def test_index_space_of_a_chain():
    # words X X on neighbours, as RZZ after Hadamards, span one dimension less: each comes to flip one bit
    wires = 5
    chain = [turn((3 << i, 0), A) for i in range(wires - 1)]
    fields = [turn((0, 1 << i), B) for i in range(wires)]
    found = form(wires, chain + fields + chain, (3, 0), (0, 3), (1, 0))
    before = values(found, [0.3, 0.8])
    reach(found)
    index_space(found)
    assert found.wires == wires - 1
    assert sorted(t.x for t in found.turns if t.x) == sorted([1, 2, 4, 8] * 2)
    assert_close(values(found, [0.3, 0.8]), before)
    assert before[2] == 0


def plans_agree(circuit, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, circuit.features, generator=generator, dtype=torch.float64)
    weights = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in circuit.weights
    }
    found = []
    for plan in (circuit.plan(), circuit.plan(simplify=False)):
        leaves = [x.clone().requires_grad_()]
        leaves += [weights[name].clone().requires_grad_() for name in plan.schedule.weights]
        with shared.prefer("reference"):
            out = plan.tables(torch.device("cpu"), torch.float64).run(leaves[0], leaves[1:])
            found.append([out, *torch.autograd.grad(out.sin().sum(), leaves)])
    assert len(found[0]) == len(found[1])
    assert_close(found[0], found[1], rtol=1e-11, atol=1e-11)


NAMES = [*TABLE, *CONTROLLED, "RX", "RZ", "T", "CNOT", "IsingZZ", "PauliRot[XZ]", "PauliRot[ZYX]"]
SIZES = {name: next(n for n in (1, 2, 3) if gate(name, n)) for name in NAMES}  # wires of each
COUNTS = {name: gate(name, size).parameters for name, size in SIZES.items()}
EXPRESSIONS = [
    ("input", 0),
    ("weight", "w", 0),
    ("weight", "w", 1),
    ("constant", math.pi / 4),
    ("constant", 0.3),
    ("affine", -1.0, 0.0, 0),
    ("affine", 2.0, 0.3, 1),
    ("sin", 0),
    ("sum", 0, 1),
]


@st.composite
def circuit_parts(draw):
    """The arguments of `Circuit`; see `parts`."""
    wires = draw(st.integers(1, 5))
    operations = []
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=16)):
        if SIZES[name] > wires:
            continue
        on = tuple(draw(st.permutations(range(wires)))[: SIZES[name]])
        number = st.integers(0, len(EXPRESSIONS) - 1)
        parameters = tuple(draw(number) for _ in range(COUNTS[name]))
        operations.append(Operation(name, on, parameters))
    words = st.text("IXYZ", min_size=wires, max_size=wires)
    words = words.map(lambda text: tuple((p, w) for w, p in enumerate(text) if p != "I"))
    terms = st.lists(st.builds(Term, st.sampled_from([1, 3, 4]), words), min_size=1, max_size=2).map(tuple)
    measured = [Measurement("expval", sums) for sums in draw(st.lists(terms, min_size=1, max_size=3))]
    weights = (("w", (2,)), ("unused", (1,)))
    return tuple(range(wires)), 1, weights, tuple(EXPRESSIONS), tuple(operations), tuple(measured)


@settings(max_examples=150, deadline=None)
@given(made=circuit_parts(), seed=st.integers(0, 99))
def test_simplified_circuits_agree(made, seed):
    plans_agree(Circuit(*made), seed)


@settings(max_examples=150, deadline=None)
@given(made=parts())
def test_idempotent(made):
    found = form(*made)
    nodes = Nodes([("input", i) for i in range(3)])
    rotations = [
        Rotation(t.x, t.z, *(t.angle.terms[0] if t.angle.terms else (None, 0.0)), t.angle.offset)
        for t in found.turns
    ]
    once = simplified(rotations, [word[:2] for word in found.words], found.wires, nodes)
    left = [word for word in once.words if word.factor]
    twice = simplified(once.rotations, [word[:2] for word in left], once.wires, nodes)
    assert not twice.report
    assert twice.rotations == once.rotations
    assert [word[:2] for word in twice.words] == [word[:2] for word in left]


def test_sums_are_computed_where_the_state_is_large():
    def circuit(wires):
        layer = [f"H {i}" for i in range(wires)] + [f"CRX(w[0]) {i} {(i + 1) % wires}" for i in range(wires)]
        turns = [f"RX(x0) {i}\nRX(w[1]) {i}" for i in range(wires)]
        return Circuit.parse("\n".join(["weights w(2)", *turns, *layer, *turns, f"expval Z({wires - 1})"]))

    small, large = circuit(3).plan(), circuit(10).plan()
    assert 2 * 3 << 3 < SUM_PAYS <= 10 << 10
    assert small.schedule.steps == ()
    assert [step.function for step in large.schedule.steps] == ["sum"]
    assert dict(large.report.taken)["merged"] >= 10
    plans_agree(circuit(3))


def test_weights_without_effect_have_gradient_zero():
    layer = QuantumLayer(Circuit.parse("weights v(2) w()\nRZ(w) 0\nRX(v[0]) 0\nRZ(v[1]) 0\nexpval Z(0)"))
    inputs = torch.rand(3, 0, requires_grad=True)
    layer(inputs).sum().backward()
    assert layer.w.grad == 0
    assert layer.v.grad[0] != 0
    assert layer.v.grad[1] == 0
    nothing = QuantumLayer(Circuit.parse("weights w()\nRZ(w) 0\nexpval Z(0)\nexpval X(0)\nexpval 2.0*I"))
    inputs = torch.rand(3, 1, requires_grad=True)
    out = nothing(inputs)
    assert_close(out, torch.tensor([[1.0, 0.0, 2.0]]).expand(3, -1))
    out.sum().backward()
    assert nothing.w.grad == 0
    assert torch.all(inputs.grad == 0)


def test_report():
    circuit = Circuit.parse(
        "RX(x0) 0\nRX(x1) 1\nRX(2.0*x0) 0\nRZ(x0) 2\nRZ(x1) 0\nexpval Z(0)",
    )
    report = circuit.plan().report
    assert str(report) == ("5 rotations -> 1: outside the light cone 3, merged 1, index space 3 -> 1 bits")
    assert str(report) in str(circuit.plan())
    assert circuit.plan(simplify=False).report is None
    assert len(circuit.plan(simplify=False).rotations) == 5
    untouched = Circuit.parse("RX(x0) 0\nRX(x1) 1\nCNOT 0 1\nexpval Z(0)\nexpval Z(1)").plan()
    assert not untouched.report
    assert "\n" not in str(untouched)


def test_plans_are_cached():
    text = "RX(x0) 0\nexpval Z(0)"
    assert Circuit.parse(text).plan() is Circuit.parse(text).plan()
