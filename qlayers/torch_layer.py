"""`pennylane.qnn.TorchLayer` in all that its users touch, on our simulator."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pennylane as qml
from pennylane.measurements import Shots
from torch import Generator, nn

from qlayers.circuit import Circuit
from qlayers.initial import Init
from qlayers.layer import QuantumLayer

if TYPE_CHECKING:
    from qlayers.sampling.methods import Spsa


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
        shots: how often each circuit is measured, see `QuantumLayer`.
        diff_method: how it is differentiated, see `QuantumLayer`.
        generator: where the shots' randomness comes from, see `QuantumLayer`.
        device: what to run on, see `QuantumLayer`.
        runner: what submits circuits to a device, see `QuantumLayer`.
        noise_model: noise for the circuit, see `QuantumLayer`.
        trajectories: how noise is simulated, see `QuantumLayer`.

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
        shots: int | None = None,
        diff_method: "str | Spsa" = "best",
        generator: Generator | None = None,
        device: Any = None,
        runner: Any = None,
        noise_model: Any = None,
        trajectories: int | None = None,
    ):
        super().__init__(
            qnode,
            weight_shapes,
            init_method,
            features=features,
            input_arg=TorchLayer._input_arg if input_arg is None else input_arg,
            shots=shots,
            diff_method=diff_method,
            generator=generator,
            device=device,
            runner=runner,
            noise_model=noise_model,
            trajectories=trajectories,
        )

    @property
    def shots(self) -> Shots:
        """How often each circuit is measured, as a QNode has it; may be set to a number or None."""
        return Shots(self._settings.shots)

    @shots.setter
    def shots(self, shots: int | Shots | None) -> None:
        self._set_shots(shots)

    @staticmethod
    def set_input_argument(input_name: str = "inputs") -> None:
        """The name of the data argument for layers made from now on; those that exist keep theirs."""
        TorchLayer._input_arg = input_name

    __repr__ = __str__ = nn.Module.__repr__
