"""The PennyLane device `qbio.simulator`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pennylane import math
from pennylane.devices import Device, ExecutionConfig
from pennylane.devices.modifiers import simulator_tracking, single_tape_support
from pennylane.exceptions import DeviceError
from pennylane.math import Interface
from pennylane.transforms.core import CompilePipeline

from qlayers.device import analytic, products, shots
from qlayers.device.lift import lifted
from qlayers.device.pipeline import is_exact, pipeline

BY_DEVICE = ("adjoint", "device")  # derivatives that come from this device's own products
OF_JAX = (Interface.JAX, Interface.JAX_JIT)
WITHOUT_BACKPROP = (Interface.TF, Interface.TF_AUTOGRAPH)


@simulator_tracking
@single_tape_support
class Simulator(Device):
    """The circuit engine of `qlayers` as a PennyLane device, `qml.device("qbio.simulator")`.

    Tapes of one structure, such as those of a parameter shift, and all samples of a broadcast tape run as one
    batch. Everything is computed in float64 and complex128.

    Derivatives of exact results: `diff_method="best"` is "backprop", which differentiates to any order with
    the interfaces torch, autograd and JAX; "adjoint", or its synonym "device", computes vector-Jacobian
    products on NumPy numbers and serves first derivatives. Both run the adjoint method on the engine and form
    no Jacobian. With shots there are "parameter-shift" and PennyLane's other methods.

    Mid-circuit measurements are deferred, also with shots; wires that this needs do not count as the
    device's.

    Args:
        wires: their number, or their labels; None for any wires.
        shots: the default number of shots; None for exact results.
        seed: as for `numpy.random.default_rng`; "global" takes it from NumPy's global generator.

    Raises:
        UserError: upon execution, for a circuit that has no meaning (an operator that is not unitary, a state
            that is not normalised).
        DeviceError: upon execution, for an operation or measurement that is not supported.

    Example:
        >>> import pennylane as qml
        >>> @qml.qnode(Simulator(wires=1))
        ... def circuit(x):
        ...     qml.RX(x, wires=0)
        ...     return qml.expval(qml.Z(0)), qml.probs(wires=0)
        >>> value, probabilities = circuit(torch.tensor([0.0, torch.pi]))
        >>> value.round()
        tensor([ 1., -1.], dtype=torch.float64)
        >>> probabilities.round()
        tensor([[1., 0.],
                [0., 1.]], dtype=torch.float64)
    """

    def __init__(self, wires=None, shots=None, seed: Any = "global") -> None:
        super().__init__(wires=wires, shots=shots)
        self._rng = np.random.default_rng(np.random.randint(2**31) if _is_global(seed) else seed)

    @property
    def name(self) -> str:
        """The name under which PennyLane finds the device."""
        return "qbio.simulator"

    # configuration

    def preprocess_transforms(self, execution_config: ExecutionConfig | None = None) -> CompilePipeline:
        """What is done to tapes before they are executed."""
        config = execution_config or ExecutionConfig()
        exact = config.gradient_method in ("backprop", *BY_DEVICE)
        return pipeline(self.name, self.wires, exact=exact)

    def setup_execution_config(self, config: ExecutionConfig | None = None, circuit=None) -> ExecutionConfig:
        """The configuration with everything decided that it leaves open.

        Raises:
            DeviceError: it has an option of the device (there are none), or a method for mid-circuit
                measurements other than deferral.
        """
        config = config or ExecutionConfig()
        if config.device_options:
            raise DeviceError(
                f"{self.name} has no device options, received {dict(config.device_options)}; remove them."
            )
        changes: dict[str, Any] = {"mcm_config": _deferring(config.mcm_config, self.name)}
        method = config.gradient_method
        if method == "best" or (method in BY_DEVICE and config.interface in OF_JAX):
            method = changes["gradient_method"] = _best(config)  # JAX gets its products by the same call
        by_device = method in BY_DEVICE
        if config.use_device_gradient is None:
            changes["use_device_gradient"] = by_device or method == "backprop"
        if not config.use_device_jacobian_product:  # False is what a QNode says unasked
            changes["use_device_jacobian_product"] = by_device
        if config.grad_on_execution is None:
            changes["grad_on_execution"] = False
        return replace(config, **changes)

    def supports_derivatives(self, execution_config: ExecutionConfig | None = None, circuit=None) -> bool:
        """Whether the device differentiates a circuit itself: exact results, by a method that it has."""
        if execution_config is None:
            return True
        method = execution_config.gradient_method
        if method == "best":
            method = _best(execution_config)
        if method == "backprop":
            possible = execution_config.interface not in WITHOUT_BACKPROP
        else:  # its second derivative would be wrong in silence
            possible = method in BY_DEVICE and execution_config.derivative_order == 1
        if circuit is None or not possible:
            return possible
        return not circuit.shots and all(is_exact(process) for process in circuit.measurements)

    def supports_vjp(self, execution_config: ExecutionConfig | None = None, circuit=None) -> bool:
        """Whether the device computes vector-Jacobian products of a circuit."""
        return self.supports_derivatives(execution_config, circuit)

    def supports_jvp(self, execution_config: ExecutionConfig | None = None, circuit=None) -> bool:
        """Whether the device computes Jacobian-vector products of a circuit."""
        return self.supports_derivatives(execution_config, circuit)

    # execution

    def execute(self, circuits, execution_config: ExecutionConfig | None = None):
        """The results of each circuit: NumPy arrays, or those of the framework of its parameters.

        A circuit with one measurement has a bare result, with several a tuple; with a shot vector it has a
        tuple of those.
        """
        fill = (execution_config or ExecutionConfig()).mcm_config.postselect_mode == "fill-shots"
        sampled = [i for i, tape in enumerate(circuits) if tape.shots]
        exact = [i for i, tape in enumerate(circuits) if not tape.shots]
        found: dict[int, Any] = {}
        drawn = shots.results_of([circuits[i] for i in sampled], self._rng, fill=fill)
        for i, results in zip(sampled, drawn, strict=True):
            many = circuits[i].shots.has_partitioned_shots
            found[i] = tuple(map(_bare, results)) if many else _bare(results)
        for i, results in zip(exact, _exact([circuits[i] for i in exact]), strict=True):
            found[i] = _bare(results)
        return tuple(found[i] for i in range(len(circuits)))

    def compute_vjp(self, circuits, cotangents, execution_config: ExecutionConfig | None = None):
        """For each circuit the gradients of its trainable parameters, given those of its results."""
        return products.vjp(circuits, cotangents)

    def execute_and_compute_vjp(self, circuits, cotangents, execution_config: ExecutionConfig | None = None):
        """What `execute` and `compute_vjp` return."""
        results = tuple(_bare(found) for found in _exact(circuits))
        return results, self.compute_vjp(circuits, cotangents, execution_config)

    def compute_jvp(self, circuits, tangents, execution_config: ExecutionConfig | None = None):
        """For each circuit the derivatives of its results, given those of its trainable parameters."""
        return self.execute_and_compute_jvp(circuits, tangents, execution_config)[1]

    def execute_and_compute_jvp(self, circuits, tangents, execution_config: ExecutionConfig | None = None):
        """What `execute` and `compute_jvp` return."""
        results, slopes = products.jvp(circuits, tangents)
        return tuple(map(_numpy, results)), tuple(map(_numpy, slopes))

    def compute_derivatives(self, circuits, execution_config: ExecutionConfig | None = None):
        """For each circuit its Jacobian: for each result, for each trainable parameter, one array.

        Levels with one entry only are left out.
        """
        return self.execute_and_compute_derivatives(circuits, execution_config)[1]

    def execute_and_compute_derivatives(self, circuits, execution_config: ExecutionConfig | None = None):
        """What `execute` and `compute_derivatives` return."""
        found = [products.jacobian(tape) for tape in circuits]
        results = tuple(_numpy(results) for results, _ in found)
        return results, tuple(_bare([_numpy(row) for row in rows]) for _, rows in found)


def _is_global(seed) -> bool:
    return isinstance(seed, str) and seed == "global"


def _best(config: ExecutionConfig) -> str:
    return "adjoint" if config.interface in WITHOUT_BACKPROP else "backprop"


def _deferring(config, name: str):
    """The configuration of mid-circuit measurements, which this device defers."""
    if config.mcm_method not in (None, "deferred", "device"):
        raise DeviceError(
            f"mcm_method={str(config.mcm_method)!r} is not supported by {name}: expected 'deferred'; leave "
            "it out."
        )
    return replace(config, mcm_method="deferred")


def _bare(results: Sequence):
    """The only result, or a tuple of several."""
    return results[0] if len(results) == 1 else tuple(results)


def _numpy(results: Sequence[torch.Tensor]):
    return _bare([_array(result.detach()) for result in results])


def _array(result: torch.Tensor):
    """A NumPy array, or a NumPy number."""
    return result.numpy()[()]


def _exact(tapes: Sequence) -> list[tuple]:
    """Exact results in the framework of the tapes' parameters."""
    numbers = [p for tape in tapes for p in tape.get_parameters(trainable_only=False)]
    interface = math.get_interface(*numbers) if numbers else "numpy"
    if interface == "torch":
        return analytic.results_of(tapes)
    if interface in ("autograd", "jax"):
        return lifted(tapes, interface, analytic.results_of)
    with torch.no_grad():
        return [tuple(map(_array, found)) for found in analytic.results_of(tapes)]
