"""Noise models of PennyLane, applied to what a layer captures."""

from collections.abc import Callable
from typing import Any

from shared.errors import UserError


def with_noise(function: Any, noise_model: Any) -> Callable:
    """The quantum function with the noise that a model adds after its operations and before measurements.

    Args:
        function: a QNode or plain quantum function.
        noise_model: a `qml.NoiseModel`; what it inserts must be channels or gates that a layer captures.

    Returns:
        A QNode with the function's name, arguments and device, as `qml.noise.add_noise` makes it.

    Raises:
        UserError: the model is no noise model, or what it is to be added to is a circuit.

    Example:
        >>> import pennylane as qml
        >>> from qlayers import Circuit
        >>> def function(inputs):
        ...     qml.RX(inputs[..., 0], wires=0)
        ...     return qml.expval(qml.Z(0))
        >>> model = qml.NoiseModel({qml.noise.op_eq(qml.RX): qml.noise.partial_wires(qml.BitFlip, 0.1)})
        >>> print(Circuit.from_function(with_noise(function, model), {}).draw())
        0: ──RX(x0)──BitFlip(0.1)─┤ <Z>
    """
    import pennylane as qml

    if not isinstance(noise_model, qml.NoiseModel):
        raise UserError(
            f"noise_model: expected a qml.NoiseModel, received {type(noise_model).__name__}; see qml.noise."
        )
    if not callable(function):
        raise UserError(
            f"noise_model: expected a quantum function that the noise is added to, received "
            f"{type(function).__name__}; write its channels into it instead."
        )
    qnode = function
    if not (hasattr(function, "device") and hasattr(function, "func")):
        qnode = qml.QNode(function, qml.device("default.qubit", seed=0))
    return qml.noise.add_noise(qnode, noise_model)
