"""The engine as a PennyLane device, registered as the plugin `qbio.simulator`.

>>> import pennylane as qml
>>> @qml.qnode(qml.device("qbio.simulator", wires=2))
... def circuit(x):
...     qml.RX(x, wires=0)
...     qml.CNOT(wires=[0, 1])
...     return qml.expval(qml.Z(1))
>>> round(float(circuit(0.5)), 4)
0.8776
"""

from qlayers.device.simulator import Simulator

__all__ = ["Simulator"]
