"""The circuits that are measured, as lists of gates that every system builds in its own way.

A gate is [name, wires, angles]; an angle is ["x", i], feature i of a sample, or ["w", k], entry k of the
weights, which all circuits keep in one vector. ROT is PennyLane's Rot: RZ, RY, RZ, three angles. An output is
a sum of terms [factor, word]; a word is [letter, wire] for each wire that it touches.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

Gate = list[Any]
Term = list[Any]


@dataclass(frozen=True)
class Case:
    """One circuit at one size; `forward` leaves the gradient out.

    Example:
        >>> str(Case("strong", 8, 3, 64))
        'strong:8,3,64'
        >>> Case.parse("8,3,64") == Case.parse("strong:8,3,64") == Case("strong", 8, 3, 64)
        True
        >>> Case.parse("strong:24,4,1:forward").forward
        True
    """

    circuit: str
    wires: int
    layers: int
    batch: int
    forward: bool = False

    @classmethod
    def parse(cls, text: str) -> "Case":
        """The case that `str` gives this text; the circuit may be left out.

        Raises:
            ValueError: it has another form, or there is no such circuit.
        """
        parts = text.split(":")
        circuit = parts.pop(0) if parts[0] in CIRCUITS else "strong"
        sizes, *rest = parts or [""]
        numbers = [int(size) for size in sizes.split(",") if size.isdecimal()]
        if len(numbers) != 3 or not all(numbers) or rest not in ([], ["forward"]):
            raise ValueError(
                f"expected [CIRCUIT:]WIRES,LAYERS,BATCH[:forward] such as 8,3,64 or tfim:20,10,1, with "
                f"CIRCUIT one of {', '.join(CIRCUITS)}; received {text}"
            )
        return cls(circuit, *numbers, forward=bool(rest))

    @property
    def sizes(self) -> str:
        """Wires, layers, batch."""
        return f"{self.wires}, {self.layers}, {self.batch}"

    @property
    def title(self) -> str:
        """What is run, in words."""
        return CIRCUITS[self.circuit].title + (", forward only" if self.forward else "")

    def __str__(self) -> str:
        return f"{self.circuit}:{self.wires},{self.layers},{self.batch}" + ":forward" * self.forward


def strongly_entangling(wires: int, layers: int) -> Iterator[Gate]:
    """AngleEmbedding and StronglyEntanglingLayers of PennyLane."""
    weights = iter(range(3 * wires * layers))
    yield from _embedding(wires)
    for layer in range(layers):
        for wire in range(wires):
            yield _weighed("ROT", [wire], weights, 3)
        reach = layer % max(1, wires - 1) + 1
        for wire in range(wires if wires > 1 else 0):
            yield ["CNOT", [wire, (wire + reach) % wires], []]


def basic_entangler(wires: int, layers: int) -> Iterator[Gate]:
    """AngleEmbedding and BasicEntanglerLayers: the layer of the tutorials."""
    weights = iter(range(wires * layers))
    yield from _embedding(wires)
    for _ in range(layers):
        for wire in range(wires):
            yield _weighed("RX", [wire], weights)
        yield from _ring(wires)


def reuploading(wires: int, layers: int) -> Iterator[Gate]:
    """Data re-uploading (arXiv:1907.02085): each layer reads the sample again."""
    weights = iter(range(3 * wires * layers))
    for _ in range(layers):
        yield from _embedding(wires)
        for wire in range(wires):
            yield _weighed("ROT", [wire], weights, 3)
        yield from _ring(wires)


def hardware_efficient(wires: int, layers: int) -> Iterator[Gate]:
    """The hardware-efficient ansatz: RY and RZ on every wire, then a chain of CNOTs."""
    weights = iter(range(2 * wires * layers))
    yield from _embedding(wires)
    for _ in range(layers):
        for wire in range(wires):
            yield _weighed("RY", [wire], weights)
            yield _weighed("RZ", [wire], weights)
        yield from (["CNOT", [wire, wire + 1], []] for wire in range(wires - 1))


def tfim(wires: int, layers: int) -> Iterator[Gate]:
    """The ansatz of the transverse-field Ising chain (QAOA): H, then layers of a chain of RZZ, and RX."""
    weights = iter(range((2 * wires - 1) * layers))
    yield from (["H", [wire], []] for wire in range(wires))
    for _ in range(layers):
        for wire in range(wires - 1):
            yield _weighed("RZZ", [wire, wire + 1], weights)
        for wire in range(wires):
            yield _weighed("RX", [wire], weights)


def each_z(wires: int) -> list[list[Term]]:
    """<Z> on every wire."""
    return [[[1.0, [["Z", wire]]]] for wire in range(wires)]


def two_classes(wires: int) -> list[list[Term]]:
    """<Z> on the first two wires."""
    return each_z(wires)[:2]


def ising_energy(wires: int) -> list[list[Term]]:
    """The energy - sum Z Z - sum X of the open chain, one output."""
    pairs = [[-1.0, [["Z", wire], ["Z", wire + 1]]] for wire in range(wires - 1)]
    return [pairs + [[-1.0, [["X", wire]]] for wire in range(wires)]]


class Circuit(NamedTuple):
    """What a kind of circuit is called, its gates by wires and layers, and its outputs by wires.

    `equal` says that all layers are the same but for their weights, and begin after one gate on each wire.
    """

    title: str
    gates: Callable[[int, int], Iterator[Gate]]
    outputs: Callable[[int], list[list[Term]]]
    equal: bool = False


CIRCUITS = {
    "strong": Circuit("strongly entangling layers", strongly_entangling, each_z),
    "basic": Circuit("basic entangler layers", basic_entangler, each_z),
    "reuploading": Circuit("data re-uploading classifier", reuploading, two_classes),
    "ansatz": Circuit("hardware-efficient ansatz", hardware_efficient, each_z, equal=True),
    "tfim": Circuit("TFIM energy (QAOA)", tfim, ising_energy, equal=True),
}


def content(case: Case) -> dict[str, Any]:
    """What a worker is told: the circuit, the angles and a cotangent, equal in every environment."""
    circuit = CIRCUITS[case.circuit]
    gates, outputs = list(circuit.gates(case.wires, case.layers)), circuit.outputs(case.wires)
    angles = [angle for _, _, found in gates for angle in found]
    features, weights = (
        1 + max((index for source, index in angles if source == kind), default=-1) for kind in "xw"
    )
    generator = random.Random(0)

    def uniform(count: int) -> list[float]:
        return [generator.uniform(-3.0, 3.0) for _ in range(count)]

    return {
        "wires": case.wires,
        "gates": gates,
        "repeat": _repeat(case, len(gates)) if circuit.equal else None,
        "observables": outputs,
        "features": features,
        "inputs": [uniform(features) for _ in range(case.batch)],
        "weights": uniform(weights),
        "cotangent": None if case.forward else [uniform(len(outputs)) for _ in range(case.batch)],
    }


def _repeat(case: Case, gates: int) -> tuple[int, int, int]:
    """Where equal layers begin in the list of gates, how long one is, and how many there are."""
    return case.wires, (gates - case.wires) // case.layers, case.layers


def _embedding(wires: int) -> Iterator[Gate]:
    yield from (["RX", [wire], [["x", wire]]] for wire in range(wires))


def _ring(wires: int) -> Iterator[Gate]:
    yield from (["CNOT", [i, (i + 1) % wires], []] for i in range(wires if wires > 2 else wires - 1))


def _weighed(name: str, wires: list[int], weights: Iterator[int], count: int = 1) -> Gate:
    return [name, wires, [["w", next(weights)] for _ in range(count)]]
