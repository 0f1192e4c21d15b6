"""From a PennyLane quantum function to a `Circuit`.

The function runs once with tensors that have no values (`qlayers.trace`), and what it does is recorded
(`qlayers.record`): gates with symbolic angles. A function written for a batch (`inputs[..., k]`, the
templates) is captured on a batch; one written for a single sample (`inputs[k]`) is captured on a sample. It
runs twice, with different batch sizes: should its angles depend on the batch size, on other samples or on
chance, it is not captured but called at every forward (`ValueNeeded`).

Python numbers and tensors that the function takes from its surroundings are read at capture, as by
torch.jit.trace.
"""

from math import prod

import torch

from qlayers.circuit import Circuit, Operation, assembled
from qlayers.expressions import Nodes, children_of, with_children
from qlayers.record import QuantumFunction, Recording, Vector
from qlayers.trace import ValueNeeded, known_as_abstract, numbers, symbolic
from shared.errors import UserError


def capture(function: QuantumFunction, features: int) -> Circuit:
    """The circuit of a function for inputs with so many features.

    Raises:
        ValueNeeded: the circuit depends on values, so that it has to be built anew at each call.
        UserError: it contains something that a layer cannot run.
    """
    guessed, function.guessed = function.guessed, None
    if guessed is not None and guessed.features == features:
        return guessed  # captured a moment ago, to find out how many features it wants
    batches = (3, 2) if features not in (2, 3) else (5, 4)  # not to be taken for the features
    try:
        return _captured(function, features, batches=batches)
    except (ValueNeeded, UserError):
        raise
    except Exception as of_batch:
        try:
            return _captured(function, features, batches=(None, None))
        except (ValueNeeded, UserError):
            raise
        except Exception as of_sample:
            raise of_sample if isinstance(of_batch, _NotOfBatch) else of_batch from None


class _NotOfBatch(Exception):  # noqa: N818  (not an error of the user: the function is tried on one sample)
    """An angle is neither one number nor one number per sample: the function is not written for a batch."""


def _captured(function: QuantumFunction, features: int, batches: tuple) -> Circuit:
    with torch.random.fork_rng(devices=[]):
        first, second = (_trace(function, features, batch) for batch in batches)
    if first != second:
        raise ValueNeeded("its angles change with the size of the batch or from call to call")
    return first


def _trace(function: QuantumFunction, features: int, batch: int | None) -> Circuit:
    nodes = Nodes()
    rows = 1 if batch is None else batch
    # feature k of sample b is input b * features + k while tracing, so that samples can be told apart
    inputs = symbolic([nodes.input(i) for i in range(rows * features)], nodes, (rows, features))
    weights = {
        name: symbolic([nodes.weight(name, i) for i in range(prod(shape))], nodes, shape)
        for name, shape in function.shapes.items()
    }
    with known_as_abstract():
        found = function.record(inputs if batch is not None else inputs[0], weights)
    if nodes.refused:
        raise ValueNeeded(nodes.refused)
    return _circuit(function, found, _PerSample(nodes, features, batch), features)


class _PerSample:
    """Reduces a traced parameter to one expression, the same for every sample up to the sample itself."""

    def __init__(self, nodes: Nodes, features: int, batch: int | None):
        self.nodes, self.features, self.batch = nodes, features, batch
        self.erased: list[tuple[int, int | None]] = []  # row -> (row without its sample, the sample or None)

    def all(self, parameter) -> list[int]:
        """One expression for a number; for the numbers of a block, a vector (per sample or not), one each."""
        if isinstance(parameter, Vector):
            return [self(parameter.numbers[..., i]) for i in range(parameter.numbers.shape[-1])]
        return [self(parameter)]

    def __call__(self, parameter) -> int:
        ids = numbers(self.nodes, parameter)
        if ids.ndim == 0:
            ids = ids.expand(1)
            samples = [None]
        elif self.batch is not None and tuple(ids.shape) == (self.batch,):
            samples = list(range(self.batch))
        else:
            raise _NotOfBatch(f"a gate's parameter has shape {tuple(ids.shape)}, expected one number")
        pairs = [self._erase(number) for number in ids.tolist()]
        if self.batch is not None and any(
            of not in (None, b) for (_, of), b in zip(pairs, samples, strict=True)
        ):
            raise ValueNeeded("an angle of one sample depends on other samples")
        if len({row for row, _ in pairs}) != 1:
            raise ValueNeeded("an angle differs from sample to sample by more than the sample's features")
        return pairs[0][0]

    def _erase(self, number: int) -> tuple[int, int | None]:
        for row in self.nodes.rows[len(self.erased) : number + 1]:
            pairs = [self.erased[child] for child in children_of(row)]
            samples = {sample for _, sample in pairs if sample is not None}
            if len(samples) > 1:
                samples = {-1}  # of several samples: no sample at all may use it
            if row[0] == "input":
                samples = {row[1] // self.features}
                row = ("input", row[1] % self.features)
            else:
                row = with_children(row, [child for child, _ in pairs])
            self.erased.append((self.plain._add(row), next(iter(samples), None)))
        return self.erased[number]

    @property
    def plain(self) -> Nodes:
        """The expressions without samples."""
        if not hasattr(self, "_plain"):
            self._plain = Nodes()
        return self._plain


def _circuit(function: QuantumFunction, found: Recording, per_sample: _PerSample, features: int) -> Circuit:
    operations = [
        Operation(o.gate, o.wires, tuple(n for p in o.parameters for n in per_sample.all(p)), o.entries)
        for o in found.operations
    ]
    measurements = [
        m._replace(terms=tuple(t._replace(coefficient=per_sample(t.coefficient)) for t in m.terms))
        for m in found.measurements
    ]
    return assembled(
        per_sample.plain.rows,
        operations,
        measurements,
        wires=found.wires,
        features=features,
        weights=tuple(function.shapes.items()),
        single=found.single,
    )


def guess_features(function: QuantumFunction) -> int | None:
    """How many features the function wants, judged by what it accepts and uses; None if that does not show.

    A function that indexes its inputs uses the same few however many there are; an embedding takes at most
    one per wire; a loop over all features takes any number, and then the device's wires decide.
    """
    used = _features_used(function, 64)
    if used is not None and used < 64:
        return max(used, 1)
    for features in (*{len(function.device_wires): None}, *range(32, 0, -1)):
        if features and _features_used(function, features) == features:
            return features
    return next(
        (n for n in (len(function.device_wires), 1) if n and _features_used(function, n) is not None), None
    )


def _features_used(function: QuantumFunction, features: int) -> int | None:
    try:
        circuit = capture(function, features)
    except Exception:  # any failure means only that it does not take so many features
        return None
    function.guessed = circuit
    return 1 + max((row[1] for row in circuit.nodes if row[0] == "input"), default=-1)
