"""`pennylane.qnn.TorchLayer` in all that its users touch, on our simulator."""

from collections.abc import Callable, Mapping, Sequence

import pennylane as qml
from torch import nn

from qlayers.circuit import Circuit
from qlayers.initial import Init
from qlayers.layer import QuantumLayer


class TorchLayer(QuantumLayer, qml.qnn.TorchLayer):
    """A `QuantumLayer` that takes the place of `pennylane.qnn.TorchLayer`, and is an instance of it.

    So `qml.specs` takes it, which asks for that class. Where upstream is silently wrong it is right:
    parameters that are replaced (functional_call, `load_state_dict(assign=True)`, parametrizations, vmap over
    models) are used, complex outputs keep their imaginary part, a tuple of measurements has the shape of a
    list, integer inputs raise an error, and layers keep the input name that they were made with.

    Args:
        qnode: a QNode, or anything that `QuantumLayer` takes.
        weight_shapes: weight name -> shape, see `QuantumLayer`.
        init_method: how weights begin, see `QuantumLayer`.
        features: the number of input features, see `QuantumLayer`.
        input_arg: the name of the data argument, or several; default: the one that `set_input_argument` set.

    Raises:
        TypeError: the function has no argument for data, takes *args, or init_method is of a wrong kind.
        ValueError: weight_shapes or the QNode's interface do not fit.
        KeyError: init_method lacks a weight.

    Example:
        >>> import pennylane as qml, torch
        >>> from qlayers import TorchLayer
        >>> @qml.qnode(qml.device("default.qubit", wires=2))
        ... def circuit(inputs, w):
        ...     qml.AngleEmbedding(inputs, wires=range(2))
        ...     qml.CRY(w, wires=[0, 1])
        ...     return [qml.expval(qml.Z(wire)) for wire in range(2)]
        >>> layer = TorchLayer(circuit, {"w": 1}, init_method=torch.nn.init.ones_)
        >>> print(qml.draw(layer, level="device")(torch.tensor([0.1, 0.2])))
        0: ──RX(0.10)─╭●────────┤  <Z>
        1: ──RX(0.20)─╰RY(1.00)─┤  <Z>
        >>> layer.device.name
        'default.qubit'
    """

    _input_arg = "inputs"

    def __init__(
        self,
        qnode: Callable | Circuit,
        weight_shapes: Mapping[str, int | Sequence[int]],
        init_method: Init | None = None,
        *,
        features: int | Mapping[str, int] | None = None,
        input_arg: str | Sequence[str] | None = None,
    ):
        super().__init__(
            qnode,
            weight_shapes,
            init_method,
            features=features,
            input_arg=TorchLayer._input_arg if input_arg is None else input_arg,
        )

    @staticmethod
    def set_input_argument(input_name: str = "inputs") -> None:
        """The name of the data argument for layers made from now on; those that exist keep theirs."""
        TorchLayer._input_arg = input_name

    __repr__ = __str__ = nn.Module.__repr__
