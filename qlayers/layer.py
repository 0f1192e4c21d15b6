"""The layer: a quantum circuit as a `torch.nn.Module`."""

import contextlib
import copy
import html
import math
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from qlayers import saved
from qlayers.circuit import Circuit, shapes_of
from qlayers.initial import Init, initial
from qlayers.inputs import Features, features_of, joined, names_of, total
from qlayers.program import Captured
from qlayers.qnode_view import QNodeView
from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.retrace import Retraced

COMPUTED_AS = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


class QuantumLayer(QNodeView):
    """Measurements of a parametrised quantum circuit, with the semantics of `pennylane.qnn.TorchLayer`.

    The circuit is captured once for each number of input features and runs as one op on the whole batch,
    exact and differentiable to any order with respect to inputs and weights. The layer has its own
    simulator: of a QNode's device only the wires matter, and diff_method plays no part. A quantum function
    whose circuit depends on values, say `if inputs[0] > 0`, is called anew at each forward; `repr(layer)`
    says so. `qml.draw` and `qml.draw_mpl` work on a layer (`qml.specs` asks for a `TorchLayer`), and
    attributes that it lacks are its QNode's.

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
            judged by what the function accepts, and settled by the first input. For several inputs a mapping
            from their names.
        input_arg: the name of the data argument, or a sequence of several. Their tensors are then passed by
            name, in a dict or in order.

    Shape:
        inputs (..., features), floating; several have leading dimensions that broadcast together. One bare
        measurement is returned as it is, (..., *shape): (...) for an expectation value, (..., 2^k) for
        probabilities; a list of them flattened and side by side, (..., outputs). The outputs have the inputs'
        dtype, or its complex one if a measurement is complex.

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

        Several inputs, here a place and a time:

        >>> def wave(x, t, w):
        ...     qml.RX(w * x[..., 0], wires=0)
        ...     qml.RY(t[..., 0], wires=0)
        ...     return qml.expval(qml.Z(0))
        >>> field = QuantumLayer(wave, {"w": ()}, input_arg=("x", "t"))
        >>> field(x=torch.rand(10, 1, 1), t=torch.rand(5, 1)).shape
        torch.Size([10, 5])
    """

    def __init__(
        self,
        circuit: Callable | Circuit,
        weight_shapes: Mapping[str, int | Sequence[int]] | None = None,
        init_method: Init | None = None,
        *,
        features: int | Mapping[str, int] | None = None,
        input_arg: str | Sequence[str] = "inputs",
    ):
        nn.Module.__init__(self)  # and not of whatever else a subclass derives from
        self._shapes = _shapes(circuit, weight_shapes)
        self._init_method = init_method
        self._inputs = names_of(input_arg)
        self._function, self._circuit = None, None
        self._programs: dict[Features, Captured | Retraced] = {}  # by number of features
        wanted = None if features is None else features_of(self._inputs, features)
        if isinstance(circuit, Circuit):
            self._hold(circuit, wanted)
        else:
            self._take(circuit, wanted)
        for name, shape in self._shapes.items():
            if name in self.__dict__ or hasattr(type(self), name):
                raise UserError(
                    f"A weight cannot be called {name!r}, as every layer has that; rename the argument."
                )
            self.register_parameter(name, nn.Parameter(initial(init_method, name, shape)))
        self._initialized = True

    def _hold(self, circuit: Circuit, features: Features | None) -> None:
        """Take a circuit instead of a function."""
        if len(self._inputs) > 1 and features is None:
            raise UserError(
                f"A circuit with the inputs {', '.join(self._inputs)}: expected features=, a mapping from "
                "their names to numbers of features; the circuit's features are theirs in this order."
            )
        self._circuit, self._name = circuit, "circuit"
        self._program(circuit.features if features is None else features)
        if len(self._inputs) > 1:  # other numbers of features would shift those of the inputs
            self._circuit = None

    def _take(self, function: Callable, features: Features | None) -> None:
        """Check the function and capture it for the number of features that it seems to want."""
        from qlayers.capture import guess_features
        from qlayers.record import QuantumFunction

        self._function = QuantumFunction(function, self._shapes, input_arg=self._inputs)
        self._name = self._function.name
        self._programs.clear()
        if features is not None:
            self._program(features)
            return
        if len(self._inputs) > 1:
            return  # their first values say how many features each has
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
            weight.copy_(initial(self._init_method, name, shape).to(weight))

    @property
    def input_arg(self) -> str | tuple[str, ...]:
        """The name of the data argument, or the names of several."""
        return self._inputs[0] if len(self._inputs) == 1 else self._inputs

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

    def draw(self, *, width: int = 100) -> str:
        """A drawing of `circuit` in text, with symbolic angles; see `Circuit.draw`."""
        return self.circuit.draw(width=width)

    def forward(
        self, inputs: Tensor | Mapping[str, Tensor] | None = None, *more: Tensor, **named: Tensor
    ) -> Tensor:
        """The measurements of inputs (..., features), see the class for their shape.

        Several inputs are passed by name, in order, or as one mapping.
        """
        features = None
        if named or more or not isinstance(inputs, Tensor):
            inputs, features = joined(self._inputs, inputs, more, named)
        shape, dtype = inputs.shape, inputs.dtype
        if not shape or not dtype.is_floating_point:
            raise UserError(
                f"A QuantumLayer takes floating inputs of shape (..., features), not {dtype} of shape "
                f"{tuple(shape)}; use inputs.float() or add a dimension."
            )
        if features is None:
            features = shape[-1]
        program = self._programs.get(features)
        if program is None:
            program = self._program(features)
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

    def _program(self, features: Features) -> "Captured | Retraced":
        """What runs inputs with so many features, made at first use."""
        if features not in self._programs:
            if isinstance(features, int) and len(self._inputs) > 1:
                raise UserError(
                    f"This layer takes the data {', '.join(self._inputs)}, but received one tensor; call "
                    f"layer({', '.join(f'{name}=...' for name in self._inputs)}) or pass a dict of tensors."
                )
            if torch.compiler.is_compiling():
                wanted = (
                    features if isinstance(features, int) else dict(zip(self._inputs, features, strict=True))
                )
                raise UserError(
                    f"The layer has no circuit for {wanted} features yet and cannot capture one while it is "
                    f"being compiled or exported; pass features={wanted} to QuantumLayer, or call it once "
                    "before."
                )
            with _on_cpu():
                self._programs[features] = self._make(features)
        return self._programs[features]

    def _make(self, features: Features) -> "Captured | Retraced":
        if self._circuit is not None:
            return Captured.of(self._circuit, total(features))
        if self._function is None:
            raise UserError(
                "The layer is without its Python function and has circuits for "
                f"{list(self._programs)} features only, the inputs have {features}; build it anew from the "
                "function."
            )
        from qlayers.capture import capture
        from qlayers.retrace import Retraced
        from qlayers.symbolic import ValueNeeded

        function, number = self._function.of(features), total(features)
        try:
            return Captured.of(capture(function, number), number)
        except UserError:
            raise
        except (
            Exception
        ) as error:  # of tracing, perhaps, and not of the function: that shows with real numbers
            reason = str(error) if isinstance(error, ValueNeeded) else f"it cannot be traced ({error})"
        try:
            return Retraced.of(function, number, reason)
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
        head = self._name + (f"({', '.join(self._inputs)})" if len(self._inputs) > 1 else "")
        if isinstance(found, Captured):
            return f"{head}: {repr(found.circuit)[len('Circuit(') : -1]}"
        if found is None:
            return f"{head}: captured at the first call"
        return f"{head}: called anew at each forward, since {found.reason}"

    def _repr_html_(self) -> str:
        """The layer in a notebook: its line of numbers, and its circuit drawn."""
        drawn = saved.description_of(self) is not None
        text = f"{self!r}\n\n{self.draw()}" if drawn else repr(self)
        return f"<pre style='line-height: 1.2; overflow-x: auto'>{html.escape(text)}</pre>"

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        """The weights; and in the metadata beside them what is needed to build the layer anew."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        description = saved.description_of(self)
        metadata = getattr(destination, "_metadata", {}).get(prefix[:-1])
        if description is not None and metadata is not None:
            metadata[saved.KEY] = description.to_plain()

    def save(self, path: str | os.PathLike) -> None:
        r"""Write weights and circuits to a file that `load` builds the layer from, without its function.

        The file is the layer's state_dict, so that other layers can load it as well.

        Raises:
            UserError: nothing is captured yet, the circuit depends on values, or weights are parametrized.

        Example:
            >>> from pathlib import Path
            >>> from tempfile import TemporaryDirectory
            >>> layer = QuantumLayer(Circuit.parse("weights w()\nRX(w*x0) 0\nexpval Z(0)"))
            >>> with TemporaryDirectory() as folder:
            ...     layer.save(Path(folder, "layer.pt"))
            ...     QuantumLayer.load(Path(folder, "layer.pt"))
            QuantumLayer(circuit: 1 wire, 1 gate, 1 output; 1 feature, weights w())
        """
        if saved.description_of(self) is None:
            raise UserError(
                f"The layer cannot be saved with its circuit: expected one that is captured, received "
                f"{self.extra_repr()!r}; call it once, or save its state_dict and build it from its function."
            )
        if changed := [name for name in self._shapes if name not in self._parameters]:
            raise UserError(
                "The layer cannot be saved with its circuit: expected plain weights, received "
                f"{changed} with parametrizations; call torch.nn.utils.parametrize.remove_parametrizations, "
                "or save its state_dict."
            )
        torch.save(self.state_dict(), path)

    @classmethod
    def load(
        cls, path: str | os.PathLike, prefix: str | None = None, *, map_location: Any = None
    ) -> "QuantumLayer":
        """The layer in a file, its circuits included; no code from the file is run.

        Args:
            path: what `save` wrote, or `torch.save` of the state_dict of a model that contains the layer.
            prefix: the layer's name in that model; may be left out if there is only one.
            map_location: where to put the weights, as for `torch.load`.

        Raises:
            UserError: the file describes no such layer.
        """
        return cls.from_state_dict(saved.read(path, map_location), prefix)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], prefix: str | None = None) -> "QuantumLayer":
        """The layer in a state_dict, which must be the object that `state_dict()` returned or was loaded.

        Args:
            state: of the layer or of a model that contains it.
            prefix: the layer's name in that model; may be left out if there is only one.

        Raises:
            UserError: there is no such layer.
        """
        description, weights = saved.found(state, prefix)
        circuit = next(iter(description.circuits.values()))
        layer = cls(circuit, dict(circuit.weights))
        layer._name, layer._inputs = description.name, description.inputs
        layer._programs = {size: Captured(one) for size, one in description.circuits.items()}
        layer._circuit = circuit if description.fixed else None
        layer.load_state_dict(weights, assign=True)
        return layer

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


def _picklable(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # pickle has no error of its own for all the ways in which it fails
        return False
    return True
