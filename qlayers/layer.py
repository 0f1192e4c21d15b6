"""The layer: a quantum circuit as a `torch.nn.Module`."""

import contextlib
import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from qlayers import saved
from qlayers.circuit import Circuit, shapes_of
from qlayers.initial import Init, initial
from qlayers.inputs import Features, features_of, joined, names_of, total
from qlayers.measure import check_exact
from qlayers.measured_layer import COMPUTED_AS, MeasuredLayer, cast
from qlayers.program import Captured
from qlayers.settings import Settings
from shared.errors import UserError

if TYPE_CHECKING:
    from qlayers.retrace import Retraced
    from qlayers.sampling.methods import Spsa


class QuantumLayer(MeasuredLayer):
    """Measurements of a parametrised quantum circuit, with the semantics of `pennylane.qnn.TorchLayer`.

    The circuit is captured once for each number of input features and runs as one op on the whole batch,
    exact and differentiable to any order with respect to inputs and weights; or, with `shots`, it is measured
    so often, and differentiated by evaluations alone. The layer has its own simulator: of a QNode's device
    only the wires and shots matter, of its diff_method "parameter-shift" and "spsa" together with shots. A
    quantum function whose circuit depends on values, say `if inputs[0] > 0`, is called anew at each forward;
    `repr(layer)` says so. `qml.draw` and `qml.draw_mpl` work on a layer (`qml.specs` asks for a
    `TorchLayer`), and attributes that it lacks are its QNode's.

    What a function takes from its surroundings (Python numbers, flags, tensors that do not require grad) is
    read when it is captured. `torch.float16` and `bfloat16` inputs are computed in float32.

    Args:
        circuit: a PennyLane QNode or quantum function with an argument `inputs` and one per weight, returning
            a measurement (expval, var, probs, state, density_matrix, purity, vn_entropy, mutual_info; with
            shots expval, var, probs, sample, counts) or a list of them; or a `Circuit`.
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
        shots: how often the circuit of each sample is measured; default: those of the QNode, or exact
            results. Measurements in one basis share their shots (see `qlayers.sampling`).
        diff_method: "best" (exact derivatives; parameter shifts with shots), "adjoint", "parameter-shift",
            "spsa", or a `qlayers.sampling.Spsa` with options. Shifts and "spsa" give first derivatives only.
        generator: where the shots' randomness comes from; default: torch's default generator, so that
            `torch.manual_seed` fixes them. Copies, pickles and files leave it out.
        device: a PennyLane device to run on, or its name; default: the layer's own simulator.
        runner: what submits circuits to a device, see `qlayers.hardware`.
        noise_model: a `qml.NoiseModel` that the circuit gets.
        trajectories: how many random pure states stand for a noisy one; default: exact noise.

    Shape:
        inputs (..., features), floating; several have leading dimensions that broadcast together. One bare
        measurement is returned as it is, (..., *shape): (...) for an expectation value, (..., 2^k) for
        probabilities; a list of them flattened and side by side, (..., outputs). The outputs have the inputs'
        dtype, or its complex one if a measurement is complex. Samples have the shape (..., shots, wires), or
        (..., shots) for an observable's values; counts are no tensor but dicts, in lists nested like (...).

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
        shots: int | None = None,
        diff_method: "str | Spsa" = "best",
        generator: torch.Generator | None = None,
        device: Any = None,
        runner: Any = None,
        noise_model: Any = None,
        trajectories: int | None = None,
    ):
        nn.Module.__init__(self)  # and not of whatever else a subclass derives from
        self._settings = Settings(shots, diff_method, generator, device, runner, trajectories)
        if noise_model is not None:
            from qlayers.noise import with_noise

            circuit = with_noise(circuit, noise_model)
        self._shapes = _shapes(circuit, weight_shapes)
        self._init_method = init_method
        self._inputs = names_of(input_arg)
        self._function, self._circuit = None, None
        self._programs: dict[Features, Captured | Retraced] = {}  # by number of features
        self._backend = self._settings.backend()
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
        self._ready(circuit.features if features is None else features)
        if len(self._inputs) > 1:  # other numbers of features would shift those of the inputs
            self._circuit = None

    def _take(self, function: Callable, features: Features | None) -> None:
        """Check the function and capture it for the number of features that it seems to want."""
        from qlayers.capture import guess_features
        from qlayers.record import QuantumFunction

        self._function = QuantumFunction(function, self._shapes, input_arg=self._inputs)
        self._name = self._function.name
        self._programs.clear()
        if self._function.qnode is not None:
            self._run_with(self._settings.of_qnode(self._function.qnode))
        if features is not None:
            self._ready(features)
            return
        if len(self._inputs) > 1:
            return  # their first values say how many features each has
        with _on_cpu():
            guess = guess_features(self._function)
        try:
            self._ready(guess or len(self._function.device_wires) or 1)
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
    ) -> Tensor | list | dict:
        """The measurements of inputs (..., features), see the class for their shape.

        Several inputs are passed by name, in order, or as one mapping.
        """
        program, flat, weights, shape, dtype = self._taken(inputs, more, named)
        if self._backend is not None:
            return self._by_backend(program, flat, weights, shape, dtype)
        out = program.run(flat, weights)  # (b, outputs)
        if out.dtype is not dtype:
            out = cast(out, dtype)
        if program.single:
            out = out.squeeze(-1)
        return out if len(shape) == 2 else out.reshape(shape[:-1] + out.shape[1:])

    def _taken(self, inputs: Any, more: tuple, named: dict) -> tuple:
        """Program, inputs (b, features) and weights, of one dtype; and the inputs' own shape and dtype."""
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
        return program, flat, weights, shape, dtype

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
        return self._ready(features)

    def _ready(self, features: Features) -> "Captured | Retraced":
        """`_program`, where nothing stands against capturing."""
        if features not in self._programs:
            with _on_cpu():
                self._programs[features] = self._make(features)
        return self._programs[features]

    def _make(self, features: Features) -> "Captured | Retraced":
        if self._circuit is not None:
            return self._captured(self._circuit, total(features))
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
            return self._captured(capture(function, number), number)
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

    def _captured(self, circuit: Circuit, features: int) -> Captured:
        if self._backend is None:
            check_exact(circuit.measurements)
        trajectories = self._settings.trajectories
        if trajectories is None:
            return Captured.of(circuit, features)
        return Captured.of(circuit, features, trajectories=trajectories)

    def extra_repr(self) -> str:
        """The circuit in numbers, and whether it is called anew at each forward."""
        found = next(reversed(self._programs.values()), None)
        head = self._name + (f"({', '.join(self._inputs)})" if len(self._inputs) > 1 else "")
        tail = "" if self._backend is None else f"; {self._backend.describe()}"
        if isinstance(found, Captured):
            return f"{head}: {repr(found.circuit)[len('Circuit(') : -1]}{tail}"
        if found is None:
            return f"{head}: captured at the first call{tail}"
        return f"{head}: called anew at each forward, since {found.reason}{tail}"

    def _repr_html_(self) -> str:
        """The layer in a notebook: its line of numbers, and its circuit drawn."""
        drawn = saved.description_of(self) is not None
        text = f"{self!r}\n\n{self.draw()}" if drawn else repr(self)
        return f"<pre style='line-height: 1.2; overflow-x: auto'>{html.escape(text)}</pre>"


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
