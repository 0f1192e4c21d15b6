r"""A circuit with known weights as a Fourier series of its encoded angles.

An angle t that enters r Pauli rotations gives frequencies -r, ..., r (Schuld, Sweke and Meyer,
arXiv:2008.08605), so that f(t) = a_0 + sum_w A_w cos(w . t) + B_w sin(w . t) over the products of these. The
coefficients are found exactly, by the discrete Fourier transform of f at 2r + 1 places of each angle. As
sin(x) = cos(x - pi/2), a circuit is cos(t W + phase) C + a_0: two matrix products and a cosine.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

_CHUNK = 4096  # places at which the circuit is evaluated at once
_NOTHING = 1e-13  # of the largest coefficient: a rounding error of zero


class FourierSeries(nn.Module):
    """cos(angles W + phase) C + mean, for angles (b, Kb), as (b, *shape).

    Args:
        frequencies: W (Kb, F).
        phases: (F,).
        coefficients: C (F, outputs).
        mean: (outputs,).
        shape: of what belongs to a sample; its sizes multiply to `outputs`.
    """

    full_precision = True  # eight bits would not hold the angles

    def __init__(
        self, frequencies: Tensor, phases: Tensor, coefficients: Tensor, mean: Tensor, shape: Sequence[int]
    ) -> None:
        super().__init__()
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("phases", phases)
        self.register_buffer("coefficients", coefficients)
        self.register_buffer("mean", mean)
        self._shape = tuple(shape)

    def forward(self, angles: Tensor) -> Tensor:
        """(b, *shape) of angles (b, Kb)."""
        if not self.coefficients.numel():
            found = self.mean.expand(angles.shape[0], -1)
        else:
            found = torch.cos(angles @ self.frequencies + self.phases) @ self.coefficients + self.mean
        return found if len(self._shape) == 1 else found.unflatten(-1, self._shape)


def fourier_series(
    evaluate: Callable[[Tensor], Tensor],
    degrees: Sequence[int],
    *,
    dtype: torch.dtype,
    shape: Sequence[int],
    unit: float = 1.0,
) -> FourierSeries:
    """The series of a function of angles.

    Args:
        evaluate: from angles (F, Kb) in float64 to values (F, *shape).
        degrees: the highest frequency of each of the Kb angles, in units; 0 for one that is not used.
        dtype: of the result.
        shape: of a sample's values.
        unit: of frequency: 0.5 for the amplitudes of a state, which see half angles.

    Example:
        >>> series = fourier_series(lambda t: t.cos() ** 2, [2], dtype=torch.float64, shape=(1,))
        >>> series.frequencies, series.mean  # (1 + cos 2t) / 2
        (tensor([[2.]], dtype=torch.float64), tensor([0.5000], dtype=torch.float64))
    """
    used = [i for i, degree in enumerate(degrees) if degree]
    sizes = [2 * degrees[i] + 1 for i in used]
    places = _grid([torch.arange(n, dtype=torch.float64) * (math.tau / n) for n in sizes])
    angles = torch.zeros(len(places), len(degrees), dtype=torch.float64)
    angles[:, used] = places / unit
    values = torch.cat([evaluate(part).flatten(1) for part in angles.split(_CHUNK)])  # (F, outputs)
    waves = values.reshape(*sizes, -1).to(torch.complex128)
    for n in sizes:  # each transforms the first axis, and puts it last
        waves = torch.tensordot(waves, _transform(n), dims=([0], [0]))
    own = _grid([_frequencies(n) for n in sizes])  # (F, used)
    frequencies = torch.zeros(len(own), len(degrees), dtype=torch.float64)
    frequencies[:, used] = own
    return _real(frequencies * unit, waves.reshape(-1, len(own)).mT, dtype, shape)


def _frequencies(n: int) -> Tensor:
    """0, 1, ..., r, -r, ..., -1 for n = 2r + 1."""
    return (torch.arange(n, dtype=torch.float64) + n // 2) % n - n // 2


def _transform(n: int) -> Tensor:
    """(n, n): from values at n places to coefficients."""
    turns = torch.outer(torch.arange(n, dtype=torch.float64), _frequencies(n)) * (math.tau / n)
    return torch.complex(torch.cos(turns), -torch.sin(turns)) / n


def _grid(axes: list[Tensor]) -> Tensor:
    """All combinations, (product of the lengths, axes)."""
    if not axes:
        return torch.zeros(1, 0, dtype=torch.float64)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))


def _real(frequencies: Tensor, waves: Tensor, dtype: torch.dtype, shape: Sequence[int]) -> FourierSeries:
    """Cosines and sines of waves (F, outputs), which come in conjugate pairs; what is zero is left out."""
    half = _leads(frequencies)
    frequencies, cosines = frequencies[half], 2 * waves[half].real
    sines = -2 * waves[half].imag  # 2 Re(c e^(iwt)) = 2 Re c cos(wt) - 2 Im c sin(wt)
    mean = waves[0].real
    both = torch.cat([cosines, sines])
    largest = max(float(both.abs().max()) if both.numel() else 0.0, float(mean.abs().max()), 1e-300)
    kept = (both.abs() > _NOTHING * largest).any(1)
    phases = torch.zeros(len(both), dtype=torch.float64)
    phases[len(cosines) :] = -math.pi / 2
    rows = torch.cat([frequencies, frequencies])[kept]
    return FourierSeries(
        rows.mT.contiguous().to(dtype), phases[kept].to(dtype), both[kept].to(dtype), mean.to(dtype), shape
    )


def _leads(frequencies: Tensor) -> Tensor:
    """Which of w and -w stands for both: that whose first number that is not zero is positive."""
    nonzero = frequencies != 0
    first = nonzero.to(torch.int64).argmax(1, keepdim=True) if frequencies.shape[1] else nonzero.long()
    return (
        frequencies.gather(1, first)[:, 0] > 0 if frequencies.shape[1] else torch.zeros(1, dtype=torch.bool)
    )
