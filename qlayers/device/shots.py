"""Results of tapes with finite shots, drawn from the exact probabilities of the bases that a tape needs.

The state of a tape is computed once, whatever the number of bases.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from qlayers.device.analytic import WHOLE
from qlayers.device.bases import basis_for, summands, whole_observable
from qlayers.device.batch import evaluate
from qlayers.device.script import script_of, wires_of
from qlayers.measure import Measurement
from qlayers.read_gates import labels
from qlayers.sampling.bases import Bases, Basis, Summand
from qlayers.sampling.draws import Seed, Shots, draw

SHADOWS = ("ClassicalShadowMP", "ShadowExpvalMP")
FROM_COUNTS = ("ExpectationMP", "VarianceMP", "ProbabilityMP", *SHADOWS)  # the others want single shots


def results_of(tapes: Sequence, rng: np.random.Generator, *, fill: bool = False) -> list[tuple]:
    """For each tape with shots the results of its measurements, or for a shot vector one tuple per entry.

    Args:
        tapes: `QuantumScript`s with shots and with NumPy parameters.
        rng: where the shots come from.
        fill: whether shots that a postselection discards are taken again, and not lost.
    """
    plans = [_Reading(tape) for tape in tapes]
    scripts = [script_of(plan.tape, plan.measurements) for plan in plans]
    exact = [[part.numpy() for part in found] for found in evaluate(scripts)]
    return [plan.results(found, rng, fill=fill) for plan, found in zip(plans, exact, strict=True)]


class Drawn(NamedTuple):
    """What readers read from: shots by basis, `rows` times `count`, and the exact states for shadows."""

    shots: dict[int, Shots]
    rows: int
    count: int
    states: np.ndarray | None
    rng: np.random.Generator

    def mean(self, summand: Summand, power: int = 1) -> np.ndarray:
        """(b,): the mean of a power of the summand's values."""
        if summand.basis is None:
            return np.full(self.rows, summand.values[0] ** power)
        return self.shots[id(summand.basis)].mean(summand.wires, summand.values**power)


class _Reading:
    """The bases of a tape, and a reader for each of its measurements."""

    def __init__(self, tape):
        self.tape, self._bases = tape, Bases()
        wires = wires_of(tape)
        self._readers = [_reader(process, self._bases, wires) for process in tape.measurements]
        kinds = {type(process).__name__ for process in tape.measurements}
        self._single = not kinds.issubset(FROM_COUNTS)
        self._shadows = not kinds.isdisjoint(SHADOWS)

    @property
    def measurements(self) -> list[Measurement]:
        """What has to be known exactly."""
        return [basis.measurement for basis in self._bases.found] + [WHOLE] * self._shadows

    def results(self, exact: Sequence[np.ndarray], rng: np.random.Generator, *, fill: bool) -> tuple:
        """The results of the tape, given the exact ones of `measurements`."""
        survives = 1.0 if fill else _survival(self.tape)
        found = []
        for count in self.tape.shots:
            kept = int(rng.binomial(count, survives)) if survives < 1.0 else count
            found.append(self._once(exact, kept, rng))
        return tuple(found) if self.tape.shots.has_partitioned_shots else found[0]

    def _once(self, exact: Sequence[np.ndarray], count: int, rng: np.random.Generator) -> tuple:
        batch = self.tape.batch_size
        shots = {
            id(basis): draw(basis.wires, _drawable(p), count, Seed.of_numpy(rng), single=self._single)
            for basis, p in zip(self._bases.found, exact, strict=False)
        }
        states = exact[-1] if self._shadows else None
        drawn = Drawn(shots, 1 if batch is None else batch, count, states, rng)
        results = (reader(drawn) for reader in self._readers)
        return tuple(result[0] if batch is None else result for result in results)


def _drawable(probabilities: np.ndarray) -> np.ndarray:
    """Where nothing survives postselection there are no shots, whose outcome is then of no importance."""
    return np.where(np.isnan(probabilities), 1.0, probabilities)


def _survival(tape) -> float:
    """The probability that a shot is kept by all postselections of a tape."""
    places = [i for i, op in enumerate(tape.operations) if op.name == "Projector"]
    if not places:
        return 1.0
    from pennylane.tape import QuantumScript

    scripts = []
    for i in places:
        before = QuantumScript(tape.operations[:i], [])
        wires = labels(tape.operations[i].wires)
        script = script_of(before, [Measurement("probs", wires=wires)])
        known = tuple(dict.fromkeys((*script.structure.wires, *wires)))
        scripts.append(script._replace(structure=script.structure._replace(wires=known)))
    chances = 1.0
    for i, (found,) in zip(places, evaluate(scripts), strict=True):
        bits = [int(bit) for bit in tape.operations[i].parameters[0]]
        chances *= float(found[0, int("".join(map(str, bits)), 2)])
    return min(float(np.nan_to_num(chances)), 1.0)


# from what was drawn to a result, (b, ...) or a list of b
Reader = Callable[[Drawn], Any]


def _reader(process, bases: Bases, wires: tuple) -> Reader:
    name = type(process).__name__
    if name in SHADOWS:
        return _shadow(process, wires)
    if name == "ExpectationMP":
        parts = list(summands(process, bases))
        return lambda drawn: sum((drawn.mean(part) for part in parts), np.zeros(drawn.rows))
    if name == "VarianceMP":
        whole = whole_observable(process, bases)
        return lambda drawn: drawn.mean(whole, 2) - drawn.mean(whole) ** 2
    basis, on = basis_for(process, bases, wires)
    if name == "ProbabilityMP":
        return lambda drawn: _frequencies(drawn.shots[id(basis)], on)
    return _processed(process, basis)


def _frequencies(shots: Shots, wires: tuple) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return shots.seen(wires) / np.float64(shots.count)


def _processed(process, basis: Basis) -> Reader:
    """Samples and counts as PennyLane makes them of bits."""
    from pennylane.wires import Wires

    def read(drawn: Drawn) -> Any:
        order = Wires(basis.wires)
        bits = drawn.shots[id(basis)].bits(basis.wires)
        found = [process.process_samples(some, order) for some in bits]
        return found if any(isinstance(one, dict) for one in found) else np.stack(found)

    return read


def _shadow(process, wires: tuple) -> Reader:
    from pennylane.wires import Wires

    def read(drawn: Drawn) -> list:
        shape, order = (2,) * len(wires), Wires(wires)
        states = drawn.states.reshape(-1, *shape)
        return [process.process_state_with_shots(s, order, drawn.count, rng=drawn.rng) for s in states]

    return read
