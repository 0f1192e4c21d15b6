"""From a PennyLane quantum function to a `Circuit`.

The function runs once with tensors that have no values (`qlayers.symbolic`), and what it does is recorded
(`qlayers.record`): gates with symbolic angles. A function written for a batch (`inputs[..., k]`, the
templates) is captured on a batch; one written for a single sample (`inputs[k]`) is captured on a sample. It
runs twice, with different batch sizes: should its angles depend on the batch size, on other samples or on
chance, it is not captured but called at every forward (`ValueNeeded`).

Python numbers and tensors that the function takes from its surroundings are read at capture, as by
torch.jit.trace.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qlayers.circuit import Circuit, Measurement, Operation, assembled
from qlayers.expressions import Nodes, children_of, reachable, with_children
from qlayers.record import QuantumFunction, Vector
from qlayers.symbolic import ValueNeeded, known_to_pennylane, numbers, symbolic
from shared.errors import UserError

# while tracing, feature k of sample b is input b * STRIDE + k, so that samples can be told apart
STRIDE = 2**32
MANY = 64  # features of the first guess: more than a function is likely to name one by one


def capture(function: QuantumFunction, features: int) -> Circuit:
    """The circuit of a function for inputs with so many features.

    Raises:
        ValueNeeded: the circuit depends on values, so that it has to be built anew at each call.
        UserError: it contains something that a layer cannot run.
    """
    guessed, function.guessed = function.guessed, None
    if guessed is not None and guessed.features == features:
        return guessed  # captured a moment ago, to find out how many features it wants
    return _captured(_Tracer(function), features)


def guess_features(function: QuantumFunction) -> int | None:
    """How many features the function wants, judged by what it accepts and uses; None if that does not show.

    A function that indexes its inputs uses the same few however many there are; an embedding takes at most
    one per wire; a loop over all features takes any number, and then the device's wires decide.
    """
    tracer = _Tracer(function)
    used = _attempt(lambda: _narrowed(tracer))
    if used is not None:
        return used
    for features in (*{len(function.device_wires): None}, *range(32, 0, -1)):
        if features and _features_used(tracer, features) == features:
            return features
    return next(
        (n for n in (len(function.device_wires), 1) if n and _features_used(tracer, n) is not None), None
    )


def _features_used(tracer: "_Tracer", features: int) -> int | None:
    circuit = _attempt(lambda: _captured(tracer, features))
    if circuit is None:
        return None
    tracer.function.guessed = circuit
    return circuit.features_used


def _attempt(run: Callable[[], Any]) -> Any:
    """What `run` returns; None if it fails, which means only that the function does not take such inputs."""
    try:
        return run()
    except Exception:  # any: it is the function that is tried
        return None


def _either(run: Callable[[bool], Any]) -> Any:
    """What `run` finds on a batch or else, on one sample; it leaves torch's random numbers as they are."""
    with torch.random.fork_rng(devices=[]):
        try:
            return run(True)
        except (ValueNeeded, UserError):
            raise
        except Exception as of_batch:
            try:
                return run(False)
            except (ValueNeeded, UserError):
                raise
            except Exception as of_sample:
                raise of_sample if isinstance(of_batch, _NotOfBatch) else of_batch from None


class _NotOfBatch(Exception):  # noqa: N818  (not an error of the user: the function is tried on one sample)
    """An angle is neither one number nor one number per sample: the function is not written for a batch."""


def _captured(tracer: "_Tracer", features: int) -> Circuit:
    def captured(batched: bool) -> Circuit:
        first, second = (tracer.trace(features, batch) for batch in _batches(features, batched))
        if first != second:
            raise ValueNeeded("its angles change with the size of the batch or from call to call")
        return tracer.circuit(first, features)

    return _either(captured)


def _narrowed(tracer: "_Tracer") -> int | None:
    """How many of many features the function names; None if all.

    If the circuit is the same with just those and another batch size, it is captured.
    """

    def narrowed(batched: bool) -> int | None:
        first = tracer.trace(MANY, _batches(MANY, batched)[0])
        used = max(tracer.features_used(first), 1)
        if used == MANY:
            return None
        if first == _attempt(lambda: tracer.trace(used, _batches(used, batched)[1])):
            tracer.function.guessed = tracer.circuit(first, used)
        return used

    return _either(narrowed)


def _batches(features: int, batched: bool) -> tuple[int | None, int | None]:
    """Two sizes of a batch, neither to be taken for the number of features; or two times one sample."""
    if not batched:
        return None, None
    return (3, 2) if features not in (2, 3) else (5, 4)


class _Traced(NamedTuple):
    """What a function did when it was called once, parameters being numbers of expressions for one sample."""

    operations: list[Operation]
    measurements: list[Measurement]
    wires: tuple
    single: bool

    @property
    def numbers(self) -> list[int]:
        """All expressions that it needs."""
        factors = (term.coefficient for measurement in self.measurements for term in measurement.terms)
        return [*chain.from_iterable(operation.parameters for operation in self.operations), *factors]


class _Tracer:
    """Calls a function without values; all calls share tables, so that equal circuits compare as equal."""

    def __init__(self, function: QuantumFunction):
        self.function = function
        self._reduced = _Reduced()
        nodes = self._reduced.nodes
        self._weights = {
            name: _tensor([nodes.weight(name, i) for i in range(prod(shape))], shape)
            for name, shape in function.shapes.items()
        }

    def trace(self, features: int, batch: int | None) -> _Traced:
        """One call, with a batch of this size or with one sample."""
        reduced, nodes, rows = self._reduced, self._reduced.nodes, 1 if batch is None else batch
        nodes.refused = None
        ids = [nodes.input(b * STRIDE + k) for b in range(rows) for k in range(features)]
        inputs = symbolic(_tensor(ids, (rows, features)), nodes)
        weights = {name: symbolic(ids.clone(), nodes) for name, ids in self._weights.items()}
        with known_to_pennylane():
            found = self.function.record(inputs if batch is not None else inputs[0], weights)
        if nodes.refused:
            raise ValueNeeded(nodes.refused)
        operations = [
            Operation(o.gate, o.wires, tuple(reduced.all(o.parameters, batch)), o.entries)
            for o in found.operations
        ]
        measurements = [
            m._replace(
                terms=tuple(t._replace(coefficient=reduced.one(t.coefficient, batch)) for t in m.terms)
            )
            for m in found.measurements
        ]
        return _Traced(operations, measurements, found.wires, found.single)

    def features_used(self, traced: _Traced) -> int:
        """One more than the highest feature that it needs."""
        rows = self._reduced.plain.rows
        needed = (rows[number] for number in reachable(rows, traced.numbers))
        return 1 + max((row[1] for row in needed if row[0] == "input"), default=-1)

    def circuit(self, traced: _Traced, features: int) -> Circuit:
        """What was traced as a circuit for so many features."""
        return assembled(
            self._reduced.plain.rows,
            traced.operations,
            traced.measurements,
            wires=traced.wires,
            features=features,
            weights=tuple(self.function.shapes.items()),
            single=traced.single,
        )


def _tensor(ids: list[int], shape: tuple[int, ...]) -> Tensor:
    return torch.tensor(ids, dtype=torch.int64, device="cpu").reshape(shape)


class _Reduced:
    """Traced parameters as one expression each, the same for every sample up to the sample itself.

    Attributes:
        nodes: the expressions as traced, with an input for each feature of each sample.
        plain: what they are reduced to, in terms of the features of one sample and of the weights.
    """

    def __init__(self):
        self.nodes, self.plain = Nodes(), Nodes()
        self._found: list[tuple[int, int | None]] = []  # row -> (row without its sample, the sample or None)

    def all(self, parameters: Iterable, batch: int | None) -> Iterator[int]:
        """One expression for a number; for the numbers of a block, a vector (per sample or not), one each."""
        for parameter in parameters:
            if isinstance(parameter, Vector):
                for number in parameter.numbers.unbind(-1):
                    yield self.one(number, batch)
            else:
                yield self.one(parameter, batch)

    def one(self, parameter, batch: int | None) -> int:
        """The expression of a number, or of one number for each of `batch` samples."""
        if type(parameter) is float:
            return self._reduce(self.nodes.constant(parameter))[0]
        found = numbers(self.nodes, parameter)
        if found.ndim == 0:
            row, of = self._reduce(found.item())
            if of is not None and batch is not None:
                raise ValueNeeded("an angle of one sample depends on other samples")
            return row
        if batch is None or tuple(found.shape) != (batch,):
            raise _NotOfBatch(f"a gate's parameter has shape {tuple(found.shape)}, expected one number")
        pairs = [self._reduce(number) for number in found.tolist()]
        if any(of not in (None, b) for b, (_, of) in enumerate(pairs)):
            raise ValueNeeded("an angle of one sample depends on other samples")
        if len({row for row, _ in pairs}) != 1:
            raise ValueNeeded("an angle differs from sample to sample by more than the sample's features")
        return pairs[0][0]

    def _reduce(self, number: int) -> tuple[int, int | None]:
        for row in self.nodes.rows[len(self._found) : number + 1]:
            self._found.append(self._without_sample(row))
        return self._found[number]

    def _without_sample(self, row: tuple) -> tuple[int, int | None]:
        if row[0] == "input":
            sample, feature = divmod(row[1], STRIDE)
            return self.plain.input(feature), sample
        children = children_of(row)
        if not children:
            return self.plain._add(row), None
        pairs = [self._found[child] for child in children]
        samples = {sample for _, sample in pairs if sample is not None}
        if len(samples) > 1:
            samples = {-1}  # of several samples: no sample at all may use it
        without = with_children(row, [child for child, _ in pairs])
        return self.plain._add(without), next(iter(samples), None)
