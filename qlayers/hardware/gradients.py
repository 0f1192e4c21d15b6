"""Derivatives of a circuit on a device, from values of the same circuit with other parameters."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from pennylane.operation import Operator

from qlayers.blocks import BLOCKS
from qlayers.hardware.readings import NOT_LINEAR
from qlayers.hardware.tapes import Parameter, Tapes
from qlayers.noise.channels import is_channel
from qlayers.sampling.methods import Spsa
from shared.errors import UserError

Execute = Callable[[Sequence[Sequence[Operator]]], np.ndarray]  # circuits -> (circuits, values)


class Method(ABC):
    """How derivatives are found. All circuits of all samples are executed in one call."""

    name: str

    @abstractmethod
    def gradient(
        self,
        tapes: Tapes,
        parameters: Sequence[Parameter],
        numbers: np.ndarray,
        slope: np.ndarray,
        execute: Execute,
    ) -> np.ndarray:
        """The gradient of a loss with respect to the numbers.

        Args:
            tapes: of the circuit.
            parameters: those of the circuit that have a gradient.
            numbers: (b, columns).
            slope: (b, values), of the loss with respect to the values. Samples whose slope is 0 cost nothing.
            execute: runs circuits, given by their operations.

        Returns:
            (b, columns)

        Raises:
            UserError: a gate or measurement has no derivative of this kind.
        """


class _Part(NamedTuple):
    """What a circuit's values, projected on the slope, add to the gradient of a sample."""

    sample: int
    columns: list[int]
    factors: np.ndarray  # one for each column


class ParameterShift(Method):
    """The rule of each gate, see `qlayers.hardware.shifts`; exact up to the noise of the device."""

    name = "parameter-shift"

    def gradient(
        self,
        tapes: Tapes,
        parameters: Sequence[Parameter],
        numbers: np.ndarray,
        slope: np.ndarray,
        execute: Execute,
    ) -> np.ndarray:
        """As `Method.gradient`: two circuits or more for each parameter and sample."""
        _check_linear(tapes)
        _check_each(tapes, [parameter for parameter in parameters if parameter.rule is None])
        circuits, parts = [], []
        for sample in np.flatnonzero(slope.any(axis=1)):
            row = numbers[sample]
            operators = tapes.operators(row)
            for parameter in parameters:
                for factor, multiplier, shift in parameter.rule or ():
                    value = multiplier * row[parameter.column] + shift
                    circuits.append(tapes.changed(operators, row, parameter, value))
                    parts.append(_Part(sample, [parameter.column], np.array([factor])))
        return _summed(parts, circuits, numbers.shape, slope, execute)


@dataclass(frozen=True)
class Perturbation(Method):
    """Simultaneous perturbation, see `Spsa`, of the numbers that the gates take.

    Two circuits for each sample and direction, however many parameters there are.

    Attributes:
        options: directions and step.
        generator: of the signs; None for torch's default one.
    """

    options: Spsa
    generator: torch.Generator | None = None
    name: str = "spsa"

    def gradient(
        self,
        tapes: Tapes,
        parameters: Sequence[Parameter],
        numbers: np.ndarray,
        slope: np.ndarray,
        execute: Execute,
    ) -> np.ndarray:
        """As `Method.gradient`."""
        _check_each(tapes, [parameter for parameter in parameters if not _is_angle(tapes, parameter)])
        step, directions = self.options.step, self.options.directions
        columns = sorted({parameter.column for parameter in parameters})
        signs = self._signs(len(numbers), len(columns))  # (b, directions, columns)
        circuits, parts = [], []
        for sample in np.flatnonzero(slope.any(axis=1)):
            for direction in signs[sample]:
                for side in (1.0, -1.0):
                    moved = numbers[sample].copy()
                    moved[columns] += side * step * direction
                    circuits.append(tapes.operators(moved))
                    factors = side * direction / (2 * step * directions)
                    parts.append(_Part(sample, columns, factors))
        return _summed(parts, circuits, numbers.shape, slope, execute)

    def _signs(self, samples: int, columns: int) -> np.ndarray:
        device = "cpu" if self.generator is None else self.generator.device
        shape = (samples, self.options.directions, columns)
        drawn = torch.randint(2, shape, generator=self.generator, device=device)
        return 2.0 * drawn.cpu().numpy() - 1.0


def _summed(
    parts: Sequence[_Part],
    circuits: Sequence[Sequence[Operator]],
    shape: tuple[int, ...],
    slope: np.ndarray,
    execute: Execute,
) -> np.ndarray:
    gradient = np.zeros(shape)
    if circuits:
        for (sample, columns, factors), values in zip(parts, execute(circuits), strict=True):
            gradient[sample, columns] += factors * np.vdot(slope[sample], values).real
    return gradient


def _is_angle(tapes: Tapes, parameter: Parameter) -> bool:
    """Whether any number will do; amplitudes and probabilities are bound."""
    name = tapes.operations[parameter.operation].gate
    return name not in BLOCKS and not is_channel(name)


def _check_linear(tapes: Tapes) -> None:
    if kinds := tapes.readings.kinds & NOT_LINEAR:
        raise UserError(
            f"Parameter shift: expected measurements that are linear in the state, received "
            f'{", ".join(sorted(kinds))}; use diff_method="spsa", or the layer without a device.'
        )


def _check_each(tapes: Tapes, without: Sequence[Parameter]) -> None:
    """Refuse parameters without a derivative."""
    for parameter in without[:1]:
        gate, wires, *_ = tapes.operations[parameter.operation]
        sources = ", ".join(sorted("the inputs" if name is None else name for name in parameter.sources))
        raise UserError(
            f"{gate} on wires {list(wires)}: expected angles where a device is to find a gradient, received "
            f"amplitudes or probabilities that depend on {sources}; let these not require a gradient, or use "
            "the layer without a device."
        )
