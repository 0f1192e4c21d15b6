"""Gradients from evaluations alone: parameter shifts, and simultaneous perturbation.

Both take `measure(rows, first) -> (l, C)`, which evaluates circuits at rows (l, P) of a point; `first` is the
number of the first row among all that a call evaluates.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from shared.errors import UserError

Measure = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Spsa:
    r"""Simultaneous perturbation stochastic approximation (Spall, 1992, doi:10.1109/9.119632).

    All inputs and weights of a sample are moved at once by +-step, with random signs d of their own for every
    sample and direction, and the gradient is the mean over directions of d (f(x + step d) - f(x - step d)) /
    (2 step). Its expectation is the gradient up to O(step^2); it takes two evaluations per direction, however
    many parameters there are.

    Args:
        directions: how many directions are averaged.
        step: how far numbers are moved. With finite shots small steps drown in noise, which has a variance of
            some 1 / (2 shots step^2).

    Raises:
        UserError: an option is not positive.

    Example:
        >>> import torch
        >>> from qlayers import Circuit, QuantumLayer
        >>> layer = QuantumLayer(
        ...     Circuit.parse("RX(x0) 0\nexpval Z(0)"), diff_method=Spsa(directions=4, step=1e-3)
        ... )
        >>> x = torch.tensor([[0.5]], dtype=torch.float64, requires_grad=True)
        >>> layer(x).sum().backward()  # -sin(0.5): with one number all directions agree
        >>> round(x.grad.item(), 4)
        -0.4794
    """

    directions: int = 1
    step: float = 0.1

    def __post_init__(self):
        if type(self.directions) is not int or self.directions < 1 or not self.step > 0:
            raise UserError(
                "Spsa: expected a whole number of directions from 1 on and a step above 0, received "
                f"directions={self.directions!r}, step={self.step!r}."
            )

    def slopes(
        self, point: Tensor, grad: Tensor, columns: Sequence[int], measure: Measure, rows: int, seed: int
    ) -> Tensor:
        """(b, P): the gradient of the sum of grad (b, C) * values, 0 for columns that are not named."""
        generator = torch.Generator().manual_seed(seed)
        batch, found = point.shape[0], torch.zeros_like(point)
        column = torch.tensor(columns, dtype=torch.int64, device=point.device)
        for direction in range(self.directions):
            bits = torch.randint(2, (batch, len(columns)), generator=generator)
            signs = (2 * bits - 1).to(point)

            def made(index: Tensor, signs: Tensor = signs) -> Tensor:
                sample, side = index % batch, (1 - 2 * (index // batch)).to(point)
                lanes = point.index_select(0, sample)
                return lanes.index_add(1, column, self.step * side.unsqueeze(-1) * signs[sample])

            values = _weighed(2 * batch, made, grad, measure, rows, 2 * batch * direction)
            plus, minus = values.view(2, batch, 1)
            found.index_add_(1, column, signs * (plus - minus))
        return found / (2 * self.step * self.directions)


class ParameterShift:
    """The two-term rule for every angle of the opened circuit, see `qlayers.sampling.opened`."""

    def slopes(
        self, point: Tensor, grad: Tensor, columns: Sequence[int], measure: Measure, rows: int, seed: int
    ) -> Tensor:
        """(b, P): the gradient of the sum of grad (b, C) * values, 0 for columns that are not named."""
        batch, found = point.shape[0], torch.zeros_like(point)
        column = torch.tensor(columns, dtype=torch.int64, device=point.device)

        def made(index: Tensor) -> Tensor:  # all samples shifted in the first column up, then down, ...
            sample, shift = index % batch, index // batch
            lanes = point.index_select(0, sample)
            side = (1 - 2 * (shift % 2)).to(point)
            lanes[torch.arange(len(index), device=point.device), column[shift // 2]] += pi / 2 * side
            return lanes

        values = _weighed(2 * batch * len(columns), made, grad, measure, rows, 0)
        up, down = values.view(len(columns), 2, batch).unbind(1)
        return found.index_copy(1, column, ((up - down) / 2).mT)


def _weighed(
    count: int, made: Callable[[Tensor], Tensor], grad: Tensor, measure: Measure, rows: int, first: int
) -> Tensor:
    """(count,): for each row that is made, the sum of its values times the gradient of its sample."""
    found = grad.new_empty(count)
    for start, stop in _pieces(count, rows):
        index = torch.arange(start, stop, device=grad.device)
        values = measure(made(index), first + start)
        found[start:stop] = (values * grad.index_select(0, index % grad.shape[0])).sum(-1)
    return found


def _pieces(count: int, rows: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + rows, count)) for start in range(0, count, rows))
