"""The layer: a quantum circuit as a `torch.nn.Module`."""

import contextlib
import copy
import math
import pickle
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from qlayers.circuit import Circuit, shapes_of
from qlayers.program import Captured
from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.retrace import Retraced

COMPUTED_AS = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
Init = Callable[[Tensor], Any] | Mapping[str, Callable[[Tensor], Any] | Tensor]


class QuantumLayer(nn.Module):
    """Measurements of a parametrised quantum circuit, with the signature of `pennylane.qnn.TorchLayer`.

    The circuit is captured once for each number of input features and runs as one op on the whole batch,
    exact and differentiable to any order with respect to inputs and weights. The layer has its own
    simulator: of a QNode's device only the wires matter, and diff_method plays no part. A quantum function
    whose circuit depends on values, say `if inputs[0] > 0`, is called anew at each forward; `repr(layer)`
    says so.

    What a function takes from its surroundings (Python numbers, flags, tensors that do not require grad) is
    read when it is captured. `torch.float16` and `bfloat16` inputs are computed in float32.

    Args:
        circuit: a PennyLane QNode or quantum function with an argument `inputs` and one per weight, returning
            a measurement (expval, var, probs, state, density_matrix, purity, vn_entropy, mutual_info) or a
            list of them; or a `Circuit`.
        weight_shapes: weight name -> shape, an int n standing for (n,) and 1 for (). The names are the
            Parameters' and the keys of the state_dict. May be left out for a `Circuit`, which knows its
            weights.
        init_method: how weights begin: one function that fills a tensor (from `torch.nn.init`), or a mapping
            from weight names to such functions or to tensors; default: uniform in [0, 2 pi).
        features: the number of input features, if the circuit should be captured for it in advance; default:
            judged by what the function accepts, and settled by the first input.
        input_arg: the name of the data argument.

    Shape:
        inputs (..., features), floating. One bare measurement is returned as it is, (..., *shape): (...) for
        an expectation value, (..., 2^k) for probabilities; a list of them flattened and side by side,
        (..., outputs). The outputs have the inputs' dtype, or its complex one if a measurement is complex.

    Raises:
        UserError: the arguments do not fit, or the circuit cannot be run; the message names the gate, weight
            or measurement.

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
        QuantumLayer(circuit: 2 wires, 11 gates, 2 outputs; 2 features, weights weights(3,2))
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
        self._shapes = _shapes(circuit, weight_shapes)
        self._init_method = init_method
        self._function, self._circuit = None, None
        self._programs: dict[int, Captured | Retraced] = {}  # by number of features
        if isinstance(circuit, Circuit):
            self._circuit, self._name = circuit, "circuit"
            self._program(circuit.features if features is None else features)
        else:
            self._take(circuit, features, input_arg)
        for name, shape in self._shapes.items():
            if name in self.__dict__ or hasattr(type(self), name):
                raise UserError(
                    f"A weight cannot be called {name!r}, as every layer has that; rename the argument."
                )
            self.register_parameter(name, nn.Parameter(_initial(init_method, name, shape)))

    def _take(self, function: Callable, features: int | None, input_arg: str) -> None:
        """Check the function and capture it for the number of features that it seems to want."""
        from qlayers.capture import guess_features
        from qlayers.record import QuantumFunction

        self._function = QuantumFunction(function, self._shapes, input_arg=input_arg)
        self._name = self._function.name
        if features is not None:
            self._program(features)
            return
        with _on_cpu():
            guess = guess_features(self._function)
        try:
            self._program(guess or len(self._function.device_wires) or 1)
        except FeaturesError:  # it takes no number that was tried: the first input decides
            return

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill the weights anew, in the way that the layer was made with."""
        for name, shape in self._shapes.items():
            weight = getattr(self, name)
            weight.copy_(_initial(self._init_method, name, shape).to(weight))

    @property
    def circuit(self) -> Circuit:
        """The circuit, as captured for the latest new number of features.

        Raises:
            UserError: nothing is captured yet, or the circuit depends on values.
        """
        found = next(reversed(self._programs.values()), None)
        if found is None:
            raise UserError(
                f"The circuit of {self._name} is not known before the number of features is; pass features=, "
                "or call the layer once."
            )
        if not isinstance(found, Captured):
            raise UserError(
                f"{self._name} has no fixed circuit ({found.reason}): it is called at each forward."
            )
        return found.circuit

    def forward(self, inputs: Tensor) -> Tensor:
        """The measurements of inputs (..., features), see the class for their shape."""
        shape, dtype = inputs.shape, inputs.dtype
        if not shape or not dtype.is_floating_point:
            raise UserError(
                f"A QuantumLayer takes floating inputs of shape (..., features), not {dtype} of shape "
                f"{tuple(shape)}; use inputs.float() or add a dimension."
            )
        program = self._programs.get(shape[-1])
        if program is None:
            program = self._program(shape[-1])
        flat = inputs if len(shape) == 2 else inputs.reshape(math.prod(shape[:-1]), shape[-1])
        held = self._parameters  # `getattr` of a parameter fails first, which takes a microsecond
        weights = [held[name] if name in held else getattr(self, name) for name in program.names]
        if dtype in COMPUTED_AS or any([weight.dtype is not dtype for weight in weights]):  # noqa: C419
            flat, weights = _promoted(flat, weights)
        out = program.run(flat, weights)  # (b, outputs)
        if out.dtype is not dtype:
            out = _cast(out, dtype)
        if program.single:
            out = out.squeeze(-1)
        return out if len(shape) == 2 else out.reshape(shape[:-1] + out.shape[1:])

    def _program(self, features: int) -> "Captured | Retraced":
        """What runs inputs with so many features, made at first use."""
        if features not in self._programs:
            if torch.compiler.is_compiling():
                raise UserError(
                    f"The layer has no circuit for {features} features yet and cannot capture one while it "
                    f"is being compiled or exported; pass features={features} to QuantumLayer, or call it "
                    "once before."
                )
            with _on_cpu():
                self._programs[features] = self._make(features)
        return self._programs[features]

    def _make(self, features: int) -> "Captured | Retraced":
        if self._circuit is not None:
            return Captured.of(self._circuit, features)
        if self._function is None:
            raise UserError(
                "The layer was saved without its Python function and has circuits for "
                f"{sorted(self._programs)} features only, the inputs have {features}; build it anew from the "
                "function."
            )
        from qlayers.capture import capture
        from qlayers.retrace import Retraced
        from qlayers.symbolic import ValueNeeded

        try:
            return Captured.of(capture(self._function, features), features)
        except UserError:
            raise
        except (
            Exception
        ) as error:  # of tracing, perhaps, and not of the function: that shows with real numbers
            reason = str(error) if isinstance(error, ValueNeeded) else f"it cannot be traced ({error})"
        try:
            return Retraced.of(self._function, features, reason)
        except UserError:
            raise
        except Exception as error:
            raise FeaturesError(
                f"The quantum function {self._name} fails for inputs with {features} features (the size of "
                f"their last dimension): {error}"
            ) from error

    def extra_repr(self) -> str:
        """The circuit in numbers, and whether it is called anew at each forward."""
        found = next(reversed(self._programs.values()), None)
        if isinstance(found, Captured):
            return f"{self._name}: {repr(found.circuit)[len('Circuit(') : -1]}"
        if found is None:
            return f"{self._name}: captured at the first call"
        return f"{self._name}: called anew at each forward, since {found.reason}"

    def __getstate__(self) -> dict:
        """Without the Python function where it cannot be pickled: captured circuits need it no more."""
        state = dict(self.__dict__)
        for key in ("_function", "_init_method"):
            if not _picklable(state[key]):
                state[key] = None
        fixed = all(isinstance(program, Captured) for program in self._programs.values())
        if not fixed and state["_function"] is None:
            raise UserError(
                f"The layer calls {self._name} at each forward, and this function cannot be pickled; define "
                "it at the top level of a module, or save the state_dict."
            )
        return state

    def __deepcopy__(self, memo: dict) -> "QuantumLayer":
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(dict(self.__dict__), memo))
        return new


TorchLayer = QuantumLayer


class FeaturesError(UserError):
    """The quantum function fails for inputs with this number of features."""


def _on_cpu() -> contextlib.AbstractContextManager:
    """New tensors on the CPU, where that is not so already: torch slows down each call in such a context."""
    if torch.get_default_device().type == "cpu":
        return contextlib.nullcontext()
    return torch.device("cpu")


def _promoted(inputs: Tensor, weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """All in the dtype that they promote to, in which the circuit is computed."""
    dtype = COMPUTED_AS.get(inputs.dtype, inputs.dtype)
    for weight in weights:
        dtype = torch.promote_types(dtype, COMPUTED_AS.get(weight.dtype, weight.dtype))
    return inputs.to(dtype), [weight.to(dtype) for weight in weights]


def _cast(out: Tensor, dtype: torch.dtype) -> Tensor:
    """The outputs in the inputs' dtype; complex ones in the complex dtype of that precision."""
    if not out.is_complex():
        return out.to(dtype)
    return out.to(torch.promote_types(COMPUTED_AS.get(dtype, dtype), torch.complex32))


def _shapes(circuit: Callable | Circuit, weight_shapes: Mapping | None) -> dict[str, tuple[int, ...]]:
    if not isinstance(circuit, Circuit):
        if weight_shapes is None:
            raise UserError(
                "weight_shapes is needed with a quantum function: a mapping from weight names to shapes."
            )
        return shapes_of(weight_shapes)
    known = dict(circuit.weights)
    if weight_shapes is not None and shapes_of(weight_shapes) != known:
        raise UserError(f"The circuit's weights are {known}, but weight_shapes gives {dict(weight_shapes)}.")
    return known


def _initial(init_method: Init | None, name: str, shape: tuple[int, ...]) -> Tensor:
    """The first value of a weight."""
    init = init_method
    if init is not None and not callable(init):
        if name not in init:
            raise UserError(f"init_method has no entry for weight {name!r}; it has {list(init)}.")
        init = init[name]
    if isinstance(init, Tensor):
        if tuple(init.shape) != shape:
            raise UserError(
                f"The tensor given for weight {name!r} has shape {tuple(init.shape)}, expected {shape}."
            )
        return init.detach().clone()
    empty = torch.empty(shape if shape else (1,))
    with torch.no_grad():
        filled = empty.uniform_(0, 2 * math.pi) if init is None else init(empty)
    filled = empty if filled is None else filled.detach()
    return filled if shape else filled[0].clone()


def _picklable(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # pickle has no error of its own for all the ways in which it fails
        return False
    return True
