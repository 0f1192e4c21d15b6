"""The field of the quantum benchmark: the systems and the cases, and who does not run what.

To add a peer: benchmarks/peers/NAME.txt, a script in benchmarks/workers/, and a row in `PEERS`.
"""

from circuits import Case, content
from systems import System

OURS = System("qlayers", "qlayers", "ours.py", ("torch", "numba", "pennylane"))

_JAX = ("tensorcircuit-ng", "jax", "torch")

PEERS = (
    System(
        "default.qubit",
        "PennyLane, default.qubit (backprop)",
        "pennylane_layer.py",
        ("torch", "pennylane"),
        "pennylane",
        {"device": "default.qubit", "diff_method": "backprop"},
    ),
    System(
        "lightning.qubit",
        "PennyLane, lightning.qubit (adjoint, complex64)",
        "pennylane_layer.py",
        ("torch", "pennylane", "pennylane-lightning"),
        "pennylane",
        {"device": "lightning.qubit", "diff_method": "adjoint", "complex64": True},
    ),
    System("deepquantum", "DeepQuantum", "deepquantum_layer.py", ("torch", "deepquantum"), "deepquantum"),
    System("pyqtorch", "pyqtorch (autograd)", "pyqtorch_layer.py", ("torch", "pyqtorch"), "pyqtorch"),
    System(
        "qiskit",
        "Qiskit Machine Learning (parameter shift)",
        "qiskit_layer.py",
        ("torch", "qiskit", "qiskit-machine-learning"),
        "qiskit",
    ),
    System("tensorcircuit", "TensorCircuit-NG, JAX alone", "tensorcircuit_jax.py", _JAX, "tensorcircuit"),
    System(
        "tensorcircuit-torch",
        "TensorCircuit-NG, its PyTorch layer",
        "tensorcircuit_jax.py",
        _JAX,
        "tensorcircuit",
        {"torch": True},
    ),
    System("qulacs", "qulacs, state alone (complex128)", "qulacs_state.py", ("qulacs",), "qulacs"),
)
PYTORCH = {"default.qubit", "lightning.qubit", "deepquantum", "pyqtorch", "qiskit"}
TENSORCIRCUIT = "tensorcircuit"

CASES = (
    Case("strong", 2, 6, 1),
    Case("strong", 4, 2, 32),
    Case("strong", 4, 2, 256),
    Case("strong", 8, 3, 64),
    Case("strong", 10, 3, 64),
    Case("strong", 12, 4, 64),
    Case("strong", 16, 4, 16),
    Case("basic", 2, 6, 5),
    Case("reuploading", 8, 4, 64),
    Case("ansatz", 12, 100, 16),
    Case("tfim", 20, 10, 1),
    Case("strong", 24, 4, 1, forward=True),
)

# Who does not run what, and why; the rest is tried, within the limits of time and memory.
SHORT = "not run, to keep the benchmark short"
ABSENT = {
    ("default.qubit", "tfim:20,10,1"): "more than 12 GB",
    ("default.qubit", "ansatz:12,100,16"): SHORT,
    ("lightning.qubit", "ansatz:12,100,16"): SHORT,
    ("deepquantum", "ansatz:12,100,16"): SHORT,
    ("deepquantum", "tfim:20,10,1"): SHORT,
    ("pyqtorch", "tfim:20,10,1"): SHORT,
    ("default.qubit", "strong:24,4,1:forward"): "no step within 4 minutes",
    ("deepquantum", "strong:24,4,1:forward"): "more than 2 minutes a step",
    ("pyqtorch", "strong:24,4,1:forward"): "more than 2 minutes a step",
    ("qiskit", "strong:24,4,1:forward"): SHORT,
    ("tensorcircuit", "strong:24,4,1:forward"): "out of memory: asks for 275 GB",
    ("tensorcircuit", "strong:16,4,16"): "no step within 4 minutes, compilation included",
}
MOST_CIRCUITS = 10_000  # of Qiskit's in one step, about 10 s
MOST_WIRES_TWICE = 4  # of TensorCircuit-NG's PyTorch layer, which compiles forward and backward apart


def absence(key: str, case: Case) -> str | None:
    """Why a system does not take part in a case, or None."""
    if key == "qulacs" and not (case.forward and case.batch == 1):
        return "forward states of one sample only"
    if key == "qiskit" and (count := shifted_circuits(case)) > MOST_CIRCUITS:
        return f"parameter shift: {count:,} circuits in a step"
    if key == "tensorcircuit-torch" and case.wires > MOST_WIRES_TWICE:
        return "compiles for longer than JAX alone"
    return ABSENT.get((key, str(case)))


def shifted_circuits(case: Case) -> int:
    """How many circuits the parameter-shift rule runs in a step, one output at a time."""
    if case.forward:
        return case.batch
    found = content(case)
    angles = sum(len(angles) for _, _, angles in found["gates"])
    return 2 * angles * case.batch * len(found["observables"])
