"""`EstimatorQNN` of Qiskit Machine Learning in its `TorchConnector`, on the exact statevector estimator."""

from typing import Any

from protocol import Step, Worker, serve
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.primitives import StatevectorEstimator
from qiskit.quantum_info import SparsePauliOp
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.gradients import ParamShiftEstimatorGradient
from qiskit_machine_learning.neural_networks import EstimatorQNN
from torch_layer import step_of


def build(case: dict[str, Any]) -> Step:
    wires = case["wires"]
    features = ParameterVector("x", case["features"])
    weights = ParameterVector("w", len(case["weights"]))
    circuit = QuantumCircuit(wires)
    for name, on, angles in case["gates"]:
        values = [(features if source == "x" else weights)[index] for source, index in angles]
        if name == "ROT":
            circuit.rz(values[0], *on)
            circuit.ry(values[1], *on)
            circuit.rz(values[2], *on)
        else:
            getattr(circuit, {"CNOT": "cx"}.get(name, name.lower()))(*values, *on)
    observables = [
        SparsePauliOp.from_sparse_list(
            [("".join(l for l, _ in word), [w for _, w in word], factor) for factor, word in terms], wires
        )
        for terms in case["observables"]
    ]
    estimator = StatevectorEstimator()
    network = EstimatorQNN(
        circuit=circuit,
        estimator=estimator,
        observables=observables,
        input_params=list(features),
        weight_params=list(weights),
        gradient=ParamShiftEstimatorGradient(estimator),
        input_gradients=True,
        default_precision=0.0,
    )
    return step_of(TorchConnector(network), case)


serve(Worker(build))
