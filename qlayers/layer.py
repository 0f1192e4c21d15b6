"""The layer: a quantum circuit as a `torch.nn.Module`."""

import copy
import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from qlayers.circuit import Circuit, shapes_of
from qlayers.plan import PlanTables
from shared.errors import UserError

HALVES = (torch.float16, torch.bfloat16)
READY = (torch.float32, torch.float64)  # dtypes whose tables are made in advance, so that a compiler finds them

Init = Callable[[Tensor], Any] | Mapping[str, Callable[[Tensor], Any] | Tensor]


class QuantumLayer(nn.Module):
    """Expectation values of a parametrised quantum circuit, with the signature of `pennylane.qnn.TorchLayer`.

    The circuit is captured once for each number of input features (default.qubit, diff_method and the like play no
    part: the layer has its own simulator) and runs as one op on the whole batch, exact and differentiable to any
    order with respect to inputs and weights. A quantum function whose circuit depends on values, say
    `if inputs[0] > 0`, is called anew at each forward; `repr(layer)` says so.

    What a function takes from its surroundings (Python numbers, flags, tensors that do not require grad) is read
    when it is captured. `torch.float16` and `bfloat16` inputs are computed in float32.

    Args:
        circuit: a PennyLane QNode or quantum function with an argument `inputs` and one per weight, returning
            `qml.expval(...)` or a list of them; or a `Circuit`.
        weight_shapes: weight name -> shape, an int n standing for (n,) and 1 for (). The names are the Parameters'
            and the keys of the state_dict. May be left out for a `Circuit`, which knows its weights.
        init_method: how weights begin: one function that fills a tensor (from `torch.nn.init`), or a mapping from
            weight names to such functions or to tensors; default: uniform in [0, 2 pi).
        features: the number of input features, if the circuit should be captured for it in advance; default: judged
            by what the function accepts, and settled by the first input.
        input_arg: the name of the data argument.

    Shape:
        inputs (..., features), floating; the outputs have the inputs' dtype and shape (..., outputs), or (...) if
        the function returns one bare expectation value.

    Raises:
        UserError: the arguments do not fit, or the circuit cannot be run; the message names the gate, weight or
            measurement.

    Example:
        >>> import pennylane as qml, torch
        >>> from qlayers import QuantumLayer
        >>> def circuit(inputs, weights):
        ...     qml.AngleEmbedding(inputs, wires=range(2))
        ...     qml.BasicEntanglerLayers(weights, wires=range(2))
        ...     return [qml.expval(qml.Z(w)) for w in range(2)]
        >>> layer = QuantumLayer(circuit, {"weights": (3, 2)})
        >>> model = torch.nn.Sequential(torch.nn.Linear(5, 2), layer, torch.nn.Linear(2, 1))
        >>> model(torch.rand(7, 5)).shape
        torch.Size([7, 1])
        >>> layer
        QuantumLayer(circuit: 2 wires, 10 gates, 2 outputs; 2 features, weights weights(3,2))
    """

    def __init__(
        self,
        circuit: Callable | Circuit,
        weight_shapes: Mapping[str, int | tuple[int, ...]] | None = None,
        init_method: Init | None = None,
        *,
        features: int | None = None,
        input_arg: str = "inputs",
    ):
        super().__init__()
        self._shapes = _weight_shapes(circuit, weight_shapes)
        self._function, self._init_method, self._name = None, init_method, "circuit"
        self._programs: dict[int, Any] = {}  # features -> Circuit or Retraced
        self._tables: dict[tuple, PlanTables] = {}  # (features, device, dtype) -> tables
        self._register(init_method)
        if isinstance(circuit, Circuit):
            self._circuit = circuit
            self._program(features or circuit.features)
        else:
            self._circuit = None
            self._prepare(circuit, features, input_arg)
        self._fill_tables()

    def _prepare(self, function: Callable, features: int | None, input_arg: str) -> None:
        from qlayers.capture import QuantumFunction, guess_features

        with torch.device("cpu"):
            self._function = QuantumFunction(function, self._shapes, input_arg=input_arg)
            self._name = self._function.name
            wanted = features if features is not None else guess_features(self._function)
            if wanted is not None:
                self._program(wanted)
            else:  # it takes no number of features that was tried, or its circuit depends on values
                self._try_program(len(self._function.device_wires) or 1)

    def _try_program(self, features: int) -> None:
        from qlayers.capture import capture
        from qlayers.trace import ValueNeeded

        try:
            capture(self._function, features)
        except (ValueNeeded, UserError) as error:
            if isinstance(error, UserError):
                raise
            self._reason = str(error)
        except Exception:  # the function's own, perhaps only for this number of features: the first input decides
            return

    # weights

    def _register(self, init_method: Init | None) -> None:
        for name, shape in self._shapes.items():
            if name in self.__dict__ or hasattr(type(self), name):
                raise UserError(
                    f"A weight cannot be called {name!r}, a name that every layer uses; rename the argument."
                )
            self.register_parameter(name, nn.Parameter(_initial(init_method, name, shape)))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill the weights anew, by the `init_method` that the layer was made with."""
        for name, shape in self._shapes.items():
            weight = getattr(self, name)
            weight.copy_(_initial(self._init_method, name, shape).to(weight))

    # circuits

    @property
    def circuit(self) -> Circuit:
        """The circuit, as captured for the last new number of features.

        Raises:
            UserError: nothing is captured yet, or the circuit depends on values.
        """
        found = next(reversed(self._programs.values()), None)
        if isinstance(found, Circuit):
            return found
        if found is None:
            raise UserError(
                f"The circuit of {self._name} is not known before the number of features is; pass features=, or call "
                "the layer once."
            )
        raise UserError(
            f"{self._name} has no fixed circuit: {found.reason}, so it is called at each forward."
        )

    def _program(self, features: int):
        """The circuit for so many features, captured at first use."""
        if features not in self._programs:
            self._programs[features] = self._capture(features)
            if isinstance(self._programs[features], Circuit):
                self._fill_tables()
        return self._programs[features]

    def _capture(self, features: int):
        if torch.compiler.is_compiling():
            raise UserError(
                f"The layer has no circuit for {features} features yet, and cannot capture one while it is being "
                f"compiled or exported; pass features={features} to QuantumLayer, or call it once before."
            )
        if self._circuit is not None:
            if features < self._circuit.features_used:
                raise UserError(
                    f"The circuit uses {self._circuit.features_used} input features (x0 to "
                    f"x{self._circuit.features_used - 1}), the inputs have {features} in their last dimension."
                )
            return self._circuit
        if self._function is None:
            raise UserError(
                f"The layer was saved without its Python function and knows circuits for "
                f"{sorted(self._programs)} features only, the inputs have {features}; build it anew from the function."
            )
        from qlayers.capture import capture
        from qlayers.retrace import Retraced
        from qlayers.trace import ValueNeeded

        with torch.device("cpu"):
            try:
                try:
                    return capture(self._function, features)
                except ValueNeeded as error:
                    return Retraced.of(self._function, features, str(error))
            except UserError:
                raise
            except Exception as error:
                raise UserError(
                    f"The quantum function {self._name} fails for inputs with {features} features in the last "
                    f"dimension: {error}"
                ) from error

    # running

    def forward(self, inputs: Tensor) -> Tensor:
        """Expectation values (..., outputs), or (...) for one bare value, of inputs (..., features)."""
        if inputs.ndim == 0 or not inputs.is_floating_point():
            raise UserError(
                f"A QuantumLayer takes floating inputs of shape (..., features), not {inputs.dtype} of shape "
                f"{tuple(inputs.shape)}; use inputs.float() or add a dimension."
            )
        features = inputs.shape[-1]
        program = self._programs.get(features) or self._program(features)
        flat = inputs if inputs.ndim == 2 else inputs.reshape(math.prod(inputs.shape[:-1]), features)
        out = self._run(program, flat, features)
        if out.dtype != inputs.dtype:
            out = out.to(inputs.dtype)
        if program.single:
            out = out.squeeze(-1)
        return out if inputs.ndim == 2 else out.reshape(*inputs.shape[:-1], *out.shape[1:])

    def _run(self, program, inputs: Tensor, features: int) -> Tensor:
        """(b, outputs) in the dtype of the computation, from (b, features)."""
        if isinstance(program, Circuit):
            tables = self._tables.get((features, inputs.device, inputs.dtype))
            names = self._used[features]
        else:
            tables, names = None, tuple(self._shapes)
        weights = [getattr(self, name) for name in names]
        dtype = HALF_AS.get(inputs.dtype, inputs.dtype)
        for weight in weights:
            if weight.dtype != dtype:
                dtype = torch.promote_types(dtype, HALF_AS.get(weight.dtype, weight.dtype))
        ...
