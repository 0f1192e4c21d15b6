r"""Quantum-circuit layers for PyTorch: circuits written in PennyLane, run as one op on a whole batch.

>>> import qlayers
>>> qlayers.Circuit.parse("RX(x0) 0\nsingle expval Z(0)")
Circuit(1 wire, 1 gate, 1 output; 1 feature)
"""

from importlib import import_module

_WHERE = {
    "QuantumLayer": "qlayers.layer",
    "TorchLayer": "qlayers.torch_layer",
    "Circuit": "qlayers.circuit",
    "Plan": "qlayers.plan",
    "metric_tensor": "qlayers.metric",
    "ops": "qlayers.ops",
}

__all__ = ["Circuit", "Plan", "QuantumLayer", "TorchLayer", "metric_tensor", "ops"]


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module 'qlayers' has no attribute {name!r}")
    module = import_module(_WHERE[name])
    return module if name == "ops" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
