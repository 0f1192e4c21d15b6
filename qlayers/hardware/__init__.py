"""What stands between a layer and a paid device: no result lost, no circuit paid twice, no budget overspent.

A `Runner` takes PennyLane circuits and returns their results. It packs them into few submissions, tries again
where the network fails, refuses impossible results, writes everything to a journal before it is used, and
checks a budget before it submits. `ReadoutMitigation` and `ZeroNoise` run circuits through a runner and are
used in its place. A `QuantumLayer` runs on any of them with `runner=`, and on a bare device with `device=`.

>>> import pennylane as qml
>>> from qlayers.hardware import Budget, Runner
>>> tape = qml.tape.QuantumScript([qml.RX(3.14159265, 0)], [qml.expval(qml.Z(0))])
>>> with Runner(qml.device("default.qubit"), budget=Budget(circuits=10)) as runner:
...     print(runner.run([tape, tape]), runner.spent().circuits)
[np.float64(-1.0), np.float64(-1.0)] 1

Needs the packages of `pip install qbio[hardware]`.
"""

from importlib import import_module

_WHERE = {
    "Budget": "qlayers.hardware.budget",
    "BudgetExceeded": "qlayers.hardware.errors",
    "ErrorKinds": "qlayers.hardware.retries",
    "ExecutionFailed": "qlayers.hardware.errors",
    "HardwareError": "qlayers.hardware.errors",
    "InDoubt": "qlayers.hardware.errors",
    "InvalidResult": "qlayers.hardware.errors",
    "JobFailed": "qlayers.hardware.errors",
    "Journal": "qlayers.hardware.journal",
    "JournalInUse": "qlayers.hardware.errors",
    "NOT_RECEIVED": "qlayers.hardware.retries",
    "ReadoutMitigation": "qlayers.hardware.readout",
    "Retries": "qlayers.hardware.retries",
    "Runner": "qlayers.hardware.runner",
    "TRANSIENT": "qlayers.hardware.retries",
    "ZeroNoise": "qlayers.hardware.zero_noise",
}

__all__ = [
    "NOT_RECEIVED",
    "TRANSIENT",
    "Budget",
    "BudgetExceeded",
    "ErrorKinds",
    "ExecutionFailed",
    "HardwareError",
    "InDoubt",
    "InvalidResult",
    "JobFailed",
    "Journal",
    "JournalInUse",
    "ReadoutMitigation",
    "Retries",
    "Runner",
    "ZeroNoise",
]


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module 'qlayers.hardware' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
