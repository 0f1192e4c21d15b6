"""qulacs: the state alone, in double precision, gates merged by its optimizer; one sample, forward."""

from typing import Any

import qulacs
from protocol import Later, Step, Worker, serve
from qulacs.circuit import QuantumCircuitOptimizer


def build(case: dict[str, Any]) -> Step:
    circuit = qulacs.QuantumCircuit(case["wires"])
    (inputs,) = case["inputs"]
    for name, wires, angles in case["gates"]:
        values = [inputs[i] if source == "x" else case["weights"][i] for source, i in angles]
        for turn, value in zip(
            ("RZ", "RY", "RZ") if name == "ROT" else (name,), values or [None], strict=True
        ):
            _add(circuit, turn, wires, value)
    QuantumCircuitOptimizer().optimize(circuit, 2)
    state = qulacs.QuantumState(case["wires"])

    def step() -> dict[str, Any]:
        state.set_zero_state()
        circuit.update_quantum_state(state)
        return {"outputs": Later(lambda: [[_value(terms, state) for terms in case["observables"]]])}

    return step


def _add(circuit: qulacs.QuantumCircuit, name: str, wires: list[int], angle: float | None) -> None:
    if angle is None:
        getattr(circuit, f"add_{name}_gate")(*wires)
    else:  # qulacs turns the other way
        getattr(circuit, f"add_{name}_gate")(*wires, -angle)


def _value(terms: list, state: qulacs.QuantumState) -> float:
    observable = qulacs.Observable(state.get_qubit_count())
    for factor, word in terms:
        observable.add_operator(factor, " ".join(f"{letter} {wire}" for letter, wire in word))
    return observable.get_expectation_value(state)


serve(Worker(build))
