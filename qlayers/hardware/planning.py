"""A dry run of a training step: the circuits that a model with layers on a device would run."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from pennylane.operation import Operator
from pennylane.tape import QuantumScript
from torch import Tensor, nn

from qlayers.hardware.backend import OnDevice
from qlayers.hardware.estimate import StepEstimate
from qlayers.hardware.gradients import Perturbation
from qlayers.hardware.mitigation import Mitigation, Runs
from qlayers.hardware.tapes import Parameter, Tapes
from qlayers.layer import QuantumLayer
from shared.errors import UserError


def step_estimate(runner: Runs, model: nn.Module, batch: Tensor | int) -> StepEstimate:
    """What a training step of a model would cost on a runner; see `Runner.estimate`.

    A copy of the model makes the step, with zeros in place of a device's results, and random numbers are
    given back: nothing of it can be noticed afterwards.

    Raises:
        UserError: no layer of the model runs on the runner, or a number of samples where the model is not a
            layer.
    """
    with torch.random.fork_rng(), torch.enable_grad():
        model = _copied(model)
        layers = [_Dry.of(layer) for layer in _layers(model) if runner in _chain(layer._backend)]
        if not layers:
            raise UserError(
                f"{runner!r}: expected a layer that runs on it, received {type(model).__name__} without one; "
                "build it with QuantumLayer(..., runner=runner)."
            )
        samples = _samples(model, batch) if isinstance(batch, int) else batch
        outputs = model(samples)
        forward = [len(layer.calls) for layer in layers]
        _differentiate(outputs, [samples, *model.parameters()])
    nothing, found = runner.estimate([]), [layer.runner.estimates(layer.calls) for layer in layers]
    ahead = [some[:count] for some, count in zip(found, forward, strict=True)]
    return StepEstimate(sum(chain(*ahead), nothing), sum(chain(*found), nothing))


class _Dry(OnDevice):
    """Executes nothing and remembers the circuits of each call."""

    calls: list[list[QuantumScript]]

    @classmethod
    def of(cls, layer: QuantumLayer) -> "_Dry":
        """Put into the place of a layer's backend."""
        new = cls.__new__(cls)
        new.__dict__.update(layer._backend.__dict__, calls=[])
        if isinstance(new.method, Perturbation):
            new.method = replace(new.method, generator=None)
        layer._backend = new
        return new

    def values(self, tapes: Tapes, circuits: Sequence[Sequence[Operator]]) -> np.ndarray:
        self.calls.append([tapes.tape(operators, self.shots) for operators in circuits])
        return np.zeros((len(circuits), sum(tapes.readings.sizes)))

    def gradient(
        self, tapes: Tapes, parameters: Sequence[Parameter], numbers: np.ndarray, slope: np.ndarray
    ) -> np.ndarray:
        return super().gradient(tapes, parameters, numbers, np.ones_like(slope))  # no sample is left out


def _copied(model: nn.Module) -> nn.Module:
    """A copy, which shares devices and generators: these need not be possible to copy."""
    return copy.deepcopy(model, {id(layer._settings): layer._settings for layer in _layers(model)})


def _layers(model: nn.Module) -> Iterator[QuantumLayer]:
    """The layers on devices."""
    for module in model.modules():
        if isinstance(module, QuantumLayer) and isinstance(module._backend, OnDevice):
            yield module


def _chain(backend: OnDevice) -> Iterator[Runs]:
    """The runner of a layer and what is below its mitigations."""
    runner = backend.runner
    yield runner
    while isinstance(runner, Mitigation):
        runner = runner.runner
        yield runner


def _samples(model: nn.Module, count: int) -> Tensor:
    """As many different samples."""
    if not isinstance(model, QuantumLayer):
        raise UserError(
            f"estimate: expected a batch of inputs for {type(model).__name__}, received the number {count}; "
            "only a QuantumLayer says how many features it takes."
        )
    dtype = next((p.dtype for p in model.parameters()), torch.get_default_dtype())
    return torch.rand(count, model.circuit.features, dtype=dtype)


def _differentiate(outputs: Any, inputs: Sequence[Any]) -> None:
    """The backward of a sum of all outputs, without touching any `.grad`."""
    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
    total = [leaf.abs().sum() if leaf.is_complex() else leaf.sum() for leaf in leaves if leaf.requires_grad]
    wanted = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    if total and wanted:
        torch.autograd.grad(sum(total), wanted, allow_unused=True)
